#!/bin/sh
# daemon/fuzz/fuzz.sh SECONDS [TARGET…]: fuzzes each target (or all of them) for so long, one after the other, and prints what
# it did. What is found on the way stays in target/corpus, inputs that crash in artifacts; see README.md.
set -eu
cd "$(dirname "$0")"
seconds=${1:?"usage: fuzz.sh SECONDS [TARGET…]"}
shift
# The stable compiler has the sanitizers, but not the right to say so.
export RUSTC_BOOTSTRAP=1
[ $# -gt 0 ] || set -- $(cargo fuzz list --fuzz-dir .)

for target; do
    mkdir -p "target/corpus/$target"
    # No single allocation above what the largest column of a record may unpack to and twice that, no input that takes
    # seconds.
    cargo fuzz run --fuzz-dir . "$target" "target/corpus/$target" "corpus/$target" -- \
        -max_total_time="$seconds" -seed="${SEED:-1}" -max_len="${MAX_LEN:-4096}" -timeout=20 -rss_limit_mb=2048 \
        -malloc_limit_mb=160 -print_final_stats=1 2>&1 | tee "target/corpus/$target.log" |
        grep -v -e '^#.*\(NEW\|REDUCE\|pulse\|RELOAD\)' || true
done
