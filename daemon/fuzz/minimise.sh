#!/bin/sh
# daemon/fuzz/minimise.sh TARGET [COUNT]: adds to the kept corpus of a target what covers most of what it does not cover yet:
# at most COUNT inputs (default 20), the smallest ones first. Inputs that crash are kept by hand.
set -eu
cd "$(dirname "$0")"
target=${1:?"usage: minimise.sh TARGET [COUNT]"}
count=${2:-20}
export RUSTC_BOOTSTRAP=1
found=target/merged/$target
rm -rf "$found"
mkdir -p "$found"
# What the kept ones cover is covered; of the rest the set cover, by size.
cp "corpus/$target"/* "$found"
cargo fuzz run --fuzz-dir . "$target" "$found" "target/corpus/$target" -- \
    -set_cover_merge=1 -max_len="${MAX_LEN:-4096}" -rss_limit_mb=2048 2>&1 | tail -n 3
find "$found" -type f -size -5 -printf '%s %p\n' | sort -n | head -n "$((count + $(ls "corpus/$target" | wc -l)))" |
    while read -r _ file; do
        cp -n "$file" "corpus/$target/"
    done
ls "corpus/$target" | wc -l
