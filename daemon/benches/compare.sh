#!/bin/sh
# Measures everything, and prints a table of goals, figures and commands that is kept in target/bench/table.md.
# Arguments go to compare.py beside this file: `--full` takes 144 M points as well. `tests/setup.sh bench` installs what
# this needs. The programs are built here, so that what is measured is what stands in the tree.
set -eu
cd "$(dirname "$0")/../.."

build_dir=${CARGO_TARGET_DIR:-target}
python=${RATED_BENCH_PYTHON:-$build_dir/bench-python}/bin/python
results=$build_dir/bench
rm -rf "$results" "$build_dir/criterion"
mkdir -p "$results"

# A pipe would hide the exit code of what is before it.
kept() {
    file=$results/$1
    shift
    "$@" >"$file" 2>&1 || { cat "$file" && exit 1; }
    cat "$file"
}

cargo build --locked --release --workspace --exclude rated-tests

# Each station by itself. Compaction has a program of its own that takes minutes; pyscripts' depends on the interpreter.
for bench in daemon/benches/*.rs plugins/hashmap/benches/*.rs plugins/prometheus/benches/*.rs; do
    [ -e "$bench" ] && [ "$bench" != daemon/benches/compaction.rs ] || continue
    package=rated-$(basename "$(dirname "$(dirname "$bench")")")
    [ "$package" != rated-daemon ] || package=rated
    cargo bench --locked -p "$package" --bench "$(basename "$bench" .rs)" -- \
        --noplot --warm-up-time 0.5 --measurement-time 2
done

# 100 scopes x 5 metrics x 20 resources x 12 hours, then few wide scopes.
if [ -x daemon/benches/end_to_end.sh ]; then
    kept end_to_end_small.txt daemon/benches/end_to_end.sh
    kept end_to_end_wide.txt daemon/benches/end_to_end.sh --scopes 10 --resources 200 --hours 8
fi
if [ -x daemon/benches/load.sh ]; then
    kept load.txt daemon/benches/load.sh "$build_dir/release/rated"
fi

"$python" daemon/benches/compare.py --rated "$build_dir/release/rated" --criterion "$build_dir/criterion" \
    --output "$results/table.md" "$@"
