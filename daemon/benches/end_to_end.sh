#!/bin/sh
# Points per second, CPU and memory of a catch-up from a real Prometheus; arguments as in the script
# beside this one. Needs Debian's package `prometheus`.
set -eu
cd "$(dirname "$0")/../.."
cargo build --release -p rated -p rated-prometheus -p rated-hashmap
exec python3 daemon/benches/end_to_end.py "$@"
