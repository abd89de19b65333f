#!/bin/sh
# daemon/fuzz/minimise.sh [COUNT [TARGET…]]: leaves of each target (or of all) the COUNT inputs (default 16) that reach most, of
# those that are kept and those that fuzz.sh has found, beside those with a name of their own: they were put there by hand.
set -eu
cd "$(dirname "$0")"
count=${1:-16}
[ $# -eq 0 ] || shift
export RUSTC_BOOTSTRAP=1
[ $# -gt 0 ] || set -- $(cargo fuzz list --fuzz-dir .)

for target; do
    merged=target/merged/$target
    rm -rf "$merged"
    mkdir -p "$merged/all" "target/corpus/$target"
    # What each input reaches stands in the control file.
    cargo fuzz run --fuzz-dir . "$target" "$merged/all" "corpus/$target" "target/corpus/$target" -- \
        -set_cover_merge=1 -merge_control_file="$PWD/$merged/control" -max_len="${MAX_LEN:-4096}" -rss_limit_mb=2048 \
        >"$merged/log" 2>&1 || { tail -n 20 "$merged/log"; exit 1; }
    python3 - "$target" "$count" "$merged/control" <<'END'
import pathlib, re, shutil, sys

target, count, control = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])
kept = pathlib.Path("corpus") / target
lines = control.read_text().splitlines()
names = [pathlib.Path(name) for name in lines[2 : 2 + int(lines[0])]]
reached = [set() for _ in names]
for line in lines[2 + len(names) :]:
    kind, *numbers = line.split()
    if kind == "FT":
        reached[int(numbers[0])].update(map(int, numbers[1:]))
by_hand = [index for index, name in enumerate(names)
           if name.parent.name == target and name.parent.parent.name == "corpus"
           and name.parent.parent.parent.name != "target" and not re.fullmatch("[0-9a-f]{40}", name.name)]
known = set().union(*(reached[index] for index in by_hand))
everything = set().union(*reached)
chosen, left = [], set(range(len(names))) - set(by_hand)
while left and len(chosen) < count:
    # Of those that reach most the shortest one.
    best = max(left, key=lambda index: (len(reached[index] - known), -names[index].stat().st_size))
    if not reached[best] - known:
        break
    left.remove(best)
    chosen.append((names[best].name, names[best].read_bytes()))
    known |= reached[best]
for file in kept.iterdir():
    if re.fullmatch("[0-9a-f]{40}", file.name):
        file.unlink()
for name, content in chosen:
    (kept / name).write_bytes(content)
share = 100 * len(known) // max(len(everything), 1)
print(f"{target}: {len(by_hand)} by hand and {len(chosen)} of {len(names)} reach {share}% of what all of them reach")
END
done
