#!/bin/sh
# Installs what the tests need: a real Prometheus with its promtool (Debian package `prometheus`), and a Python
# environment with what tests/requirements.txt names (Debian packages `python3`, `python3-venv`).
# Does nothing when they are there, and then needs no network. Leaves no service running that was not there before.
#
# The environment is $RATED_TEST_PYTHON (a full path), or test-python/ in cargo's target folder.
set -eu
cd "$(dirname "$0")/.."

requirements=tests/requirements.txt
environment=${RATED_TEST_PYTHON:-${CARGO_TARGET_DIR:-target}/test-python}
# A copy of what was installed, written last: what is half done has none.
installed=$environment/requirements.txt

have() { command -v "$1" >/dev/null 2>&1; }

can_make_environments() { python3 -c 'import ensurepip, venv' >/dev/null 2>&1; }

fail() {
    echo "tests/setup.sh: $1" >&2
    exit 1
}

# Installs Debian packages; none of them starts a service.
install_packages() {
    have apt-get || fail "install by hand what these Debian packages hold, there is no apt-get here: $*"
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || fail "run it as root once: it installs Debian packages"
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
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

missing=""
if ! have prometheus || ! have promtool; then
    missing="prometheus"
fi
if ! can_make_environments; then
    missing="$missing python3 python3-venv"
fi
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # one word for each package
    install_packages $missing
fi
# The policy covers the installation, this the next start of the machine.
case "$missing" in
*prometheus*)
    if [ -d /run/systemd/system ]; then
        $as_root systemctl disable --now prometheus.service prometheus-node-exporter.service 2>/dev/null || true
    fi
    ;;
esac
if ! have prometheus || ! have promtool; then
    fail "the package \`prometheus\` brought no \`prometheus\` or no \`promtool\`"
fi
can_make_environments || fail "\`python3\` cannot make virtual environments: is another one first in PATH?"

# The interpreter is asked too: an upgrade of the system may have taken it away.
if ! cmp -s "$requirements" "$installed" || ! "$environment/bin/python" -c '' 2>/dev/null; then
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$installed"
fi
