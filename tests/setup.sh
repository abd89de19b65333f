#!/bin/sh
# Installs what the tests need: a real Prometheus with its promtool (Debian package `prometheus`).
# Does nothing when they are there, and then needs no network. Leaves no service running that was not there before.
set -eu

have() { command -v "$1" >/dev/null 2>&1; }

if have prometheus && have promtool; then
    exit 0
fi
if ! have apt-get; then
    echo "tests/setup.sh: install \`prometheus\` and \`promtool\` by hand: there is no apt-get here" >&2
    exit 1
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    have sudo || { echo "tests/setup.sh: run it as root once: it installs Debian packages" >&2; exit 1; }
    as_root="sudo"
fi

# Debian starts a service as it installs it; a policy of 101 says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap '$as_root rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
fi
$as_root apt-get update -q
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends prometheus
# The policy covers the installation, this the next start of the machine.
if [ -d /run/systemd/system ]; then
    $as_root systemctl disable --now prometheus.service prometheus-node-exporter.service 2>/dev/null || true
fi
if ! have prometheus || ! have promtool; then
    echo "tests/setup.sh: the package \`prometheus\` brought no \`prometheus\` or no \`promtool\`" >&2
    exit 1
fi
