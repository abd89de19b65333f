#!/bin/sh
# Builds everything, runs every test and every example of the documentation, and ends with the counts.
# Arguments go to the test runner: `tests/run.sh -E 'package(rated)'`.
set -eu
cd "$(dirname "$0")/.."

build_dir=${CARGO_TARGET_DIR:-target}
mkdir -p "$build_dir"
log=$build_dir/test.log
: >"$log"

# A pipe would hide the exit code of what is before it.
logged() {
    status_file=$build_dir/test.status
    { "$@" 2>&1 && echo 0 >"$status_file" || echo $? >"$status_file"; } | tee -a "$log"
    return "$(cat "$status_file")"
}

# The daemon and the plugins as files: the tests start and load them.
cargo build --locked --workspace

failed=0
if cargo nextest --version >/dev/null 2>&1; then
    logged cargo nextest run --locked --workspace "$@" || failed=1
else
    logged cargo test --locked --workspace --lib --bins --tests "$@" || failed=1
fi
logged cargo test --locked --workspace --doc || failed=1

# nextest: "Summary [1.2s] 24 tests run: 23 passed (1 slow), 1 failed, 2 skipped"; cargo: "test result: ok. 5 passed; 0 failed; …"
awk '
    { gsub(/\033\[[0-9;]*m/, "") }
    function add(word,    text) {
        text = $0
        if (match(text, "[0-9]+ " word)) {
            text = substr(text, RSTART, RLENGTH)
            return text + 0
        }
        return 0
    }
    /Summary \[.*tests? run:/ { passed += add("passed"); failed += add("failed") + add("timed out"); skipped += add("skipped") }
    /^ *test result:/ && !nested { passed += add("passed"); failed += add("failed"); skipped += add("ignored") }
    /^ *stdout ───/ { nested = 1 }
    /Summary \[/ { nested = 0 }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }
' "$log" | tee "$build_dir/test-counts"
exit "$failed"
