#!/bin/sh
# Installs what the tests need: a real Prometheus with its promtool (Debian package `prometheus`), the programs of a
# PostgreSQL server (`postgresql`) for Gnocchi's index, `fusermount3` (`fuse3`) to mount the disk whose power is cut when
# one is not root, `systemd-analyze` (`systemd`) that looks at the unit, and Python environments (`python3`, `python3-venv`): the
# clients that tests/requirements.txt names, the Keystone and Gnocchi of tests/openstack-requirements.txt, and the DuckDB
# of daemon/benches/requirements.txt. With the argument `bench`, what `make bench` needs instead: Prometheus, `wrk`, `curl`
# and DuckDB's environment.
# Does nothing when they are there, and then needs no network. Leaves no service running that was not there before.
#
# The environments are $RATED_TEST_PYTHON, $RATED_TEST_OPENSTACK and $RATED_BENCH_PYTHON (full paths), or test-python/,
# test-openstack/ and bench-python/ in cargo's target folder.
set -eu
cd "$(dirname "$0")/.."

wanted=${1:-test}

build_dir=${CARGO_TARGET_DIR:-target}

have() { command -v "$1" >/dev/null 2>&1; }

# Debian keeps the programs of a PostgreSQL server out of PATH.
have_postgresql() { ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; }

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
if [ "$wanted" = bench ]; then
    have wrk || missing="$missing wrk"
    have curl || missing="$missing curl"
else
    have_postgresql || missing="$missing postgresql"
    have fusermount3 || missing="$missing fuse3"
    have systemd-analyze || missing="$missing systemd"
fi
if ! can_make_environments; then
    missing="$missing python3 python3-venv"
fi
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # one word for each package
    install_packages $missing
fi
# The policy covers the installation, this the next start of the machine.
if [ -d /run/systemd/system ]; then
    case "$missing" in
    *prometheus*) services="prometheus.service prometheus-node-exporter.service" ;;
    *) services="" ;;
    esac
    case "$missing" in
    *postgresql*) services="$services postgresql.service" ;;
    esac
    for service in $services; do
        $as_root systemctl disable --now "$service" 2>/dev/null || true
    done
fi
if ! have prometheus || ! have promtool; then
    fail "the package \`prometheus\` brought no \`prometheus\` or no \`promtool\`"
fi
[ "$wanted" = bench ] || have_postgresql || fail "the package \`postgresql\` brought no \`initdb\`"
can_make_environments || fail "\`python3\` cannot make virtual environments: is another one first in PATH?"

# Makes an environment with what a file names, unless it is there.
make_environment() {
    environment=$1 requirements=$2
    # A copy of what was installed, written last: what is half done has none.
    installed=$environment/requirements.txt
    # The interpreter is asked too: an upgrade of the system may have taken it away.
    if cmp -s "$requirements" "$installed" && "$environment/bin/python" -c '' 2>/dev/null; then
        return
    fi
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$installed"
}

make_environment "${RATED_BENCH_PYTHON:-$build_dir/bench-python}" daemon/benches/requirements.txt
[ "$wanted" != bench ] || exit 0
make_environment "${RATED_TEST_PYTHON:-$build_dir/test-python}" tests/requirements.txt
make_environment "${RATED_TEST_OPENSTACK:-$build_dir/test-openstack}" tests/openstack-requirements.txt
