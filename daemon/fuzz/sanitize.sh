#!/bin/sh
# daemon/fuzz/sanitize.sh [address|leak|thread [FILTER]]: the tests of the unsafe code (plugin-api and the host of plugins) with
# a sanitizer of the compiler, each in a process of its own; see README.md. FILTER is one of nextest's, to run fewer.
set -eu
cd "$(dirname "$0")/../.."
kind=${1:-address}
filter=${2:-all()}
target=x86_64-unknown-linux-gnu
# The stable compiler has the sanitizers, but not the right to say so.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=$kind -Cforce-frame-pointers=yes"
# The standard library as it comes is not instrumented, which the compiler must be told is meant: building it anew takes its
# sources and a nightly toolchain.
[ "$kind" != thread ] || RUSTFLAGS="$RUSTFLAGS -Cunsafe-allow-abi-mismatch=sanitizer"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/sanitizer-$kind"
here=$PWD/daemon/fuzz
# A library is never unloaded and an instance that a call hangs in is given up: these are meant to be lost.
export LSAN_OPTIONS="suppressions=$here/lost.txt:print_suppressions=0"
# A process that dies of a signal dies of a signal: that is what some tests are about.
export ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1:detect_invalid_pointer_pairs=2:handle_segv=0"
export TSAN_OPTIONS="suppressions=$here/races.txt:history_size=7"

# Everything that a test loads, too; libraries take the sanitizer's functions from the program. Dependencies are not what is
# looked at: they are built quickly.
set -- --locked --workspace --exclude rated-tests --target "$target" --config 'profile.dev.package."*".opt-level=0' \
    -Z profile-rustflags --config 'profile.dev.package.rated.rustflags=["--cfg", "sanitized", "-Clink-arg=-rdynamic"]'
cargo build "$@"
exec cargo nextest run --no-fail-fast "$@" --lib --tests \
    -E "(package(rated-plugin) | (package(rated) & (binary(plugin) | test(/^plugin::|any_plugin_batches|any_runner_messages/)))) & not test(/a_leak_ends_at_the_limit|at_the_limit_malloc_gives_null/) & ($filter)"
