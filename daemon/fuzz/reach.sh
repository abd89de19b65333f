#!/bin/sh
# daemon/fuzz/reach.sh TARGET [PATTERN]: which functions in files that match (default: all of ours) no input reaches, of those kept
# and those found. Needs `llvm-symbolizer`. A target is linked with much that is not its business: give it a PATTERN.
set -eu
cd "$(dirname "$0")"
target=${1:?"usage: reach.sh TARGET [PATTERN]"}
pattern=${2:-/(daemon|plugin-api|plugins)/}
export RUSTC_BOOTSTRAP=1
mkdir -p "target/corpus/$target"
log=target/corpus/$target.reach
cargo fuzz run --fuzz-dir . "$target" "target/corpus/$target" "corpus/$target" -- -runs=0 -print_coverage=1 >"$log" 2>&1 || {
    tail -n 20 "$log"
    exit 1
}
# What is only there to be shown in a message is left out, and so is what the test kit brings along.
awk -v pattern="$pattern" -v target="$target" '
    /^(UN)?COVERED_FUNC/ && $0 ~ pattern && !/::fmt |\/testing\/|\/tests\/|fake/ {
        split($5, edges, "/")
        reached += edges[1]; all += edges[2]; functions++
        if (/^UNCOVERED_FUNC/) { missed++; sub(/^.*edges: [0-9]+\/[0-9]+ /, ""); print "  " $0 }
    }
    END { printf "%s: %d of %d functions, %d of %d edges (many of them are checks that never fail)\n",
          target, functions - missed, functions, reached, all }' "$log"
