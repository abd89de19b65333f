#!/bin/sh
# daemon/fuzz/fuzz.sh SECONDS [TARGET…]: fuzzes each target (or all of them) for so long, one after the other, and prints a
# line about each. What is found on the way stays in target/corpus, inputs that crash in artifacts; see README.md. Exit code 1:
# something crashed.
set -eu
cd "$(dirname "$0")"
seconds=${1:?"usage: fuzz.sh SECONDS [TARGET…]"}
shift
# The stable compiler has the sanitizers, but not the right to say so.
export RUSTC_BOOTSTRAP=1
[ $# -gt 0 ] || set -- $(cargo fuzz list --fuzz-dir .)

# Edges of the code that were reached at the begin and at the end, and when the last new one was found.
report() {
    awk -v target="$1" '
        /^#[0-9]+\t/ {
            for (i = 1; i < NF; i++) if ($i == "cov:") edges = $(i + 1)
            if ($2 == "INITED") first = edges
            runs = substr($1, 2)
        }
        $2 == "NEW" && edges > best { best = edges; at = runs }
        /stat::number_of_executed_units/ { runs = $2 }
        /stat::average_exec_per_sec/ { speed = $2 }
        /^(==[0-9]+==)?.*(ERROR: libFuzzer|ERROR: AddressSanitizer|panicked at)/ { crash = "  CRASH" }
        END {
            printf "%-20s seed %s: %d runs, %d a second, edges %d -> %d, the last new one after %d%% of the runs%s\n",
                target, ENVIRON["SEED"], runs, speed, first, edges, runs ? 100 * at / runs : 0, crash
        }' "target/corpus/$1.log"
}

export SEED="${SEED:-1}"
failed=0
for target; do
    mkdir -p "target/corpus/$target"
    # No single allocation above what the largest column of a record may unpack to and twice that, no input that takes
    # seconds.
    cargo fuzz run --fuzz-dir . "$target" "target/corpus/$target" "corpus/$target" -- \
        -max_total_time="$seconds" -seed="$SEED" -max_len="${MAX_LEN:-4096}" -timeout=20 -rss_limit_mb=2048 \
        -malloc_limit_mb=160 -print_final_stats=1 >"target/corpus/$target.log" 2>&1 || {
        failed=1
        tail -n 40 "target/corpus/$target.log"
    }
    report "$target"
done
exit $failed
