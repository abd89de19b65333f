#!/bin/sh
# Requests and points a second of a running daemon, by `wrk`: the three small reads, pages of rows,
# and pushes of 1,000 points a body. Prints a line for each: name, req/s (or points/s), p50, p99,
# and the CPU time that the daemon spent on one (or on a point); errors end it.
#
#   daemon/benches/load.sh [RATED]          RATED: the program; default: target/release/rated
#
# SECONDS_EACH (default 5) says how long each takes. The daemon has the sample configuration in a
# folder of its own, so that a cycle of the plugin `host` runs every five seconds while it is asked.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
rated=${1:-$root/target/release/rated}
seconds=${SECONDS_EACH:-5}
folder=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
daemon=

end() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    [ -z "$daemon" ] || wait "$daemon" 2>/dev/null || true
    rm -rf "$folder"
}
trap end EXIT
trap 'exit 1' INT TERM

# A body like a cloud's: five types of an hour, projects with some resources each, six attributes.
cat >"$folder/push.lua" <<'LUA'
local types = { "instance", "volume.size", "network.in", "network.out", "image.size" }
local each, hours, requests, turn = 1000 / #types, 48, {}, 0
local point = '{"vol": {"unit": "GiB", "qty": %d.%03d}, "rating": {"price": 0.%05d}, "groupby": '
    .. '{"project_id": "%08x%024x", "id": "%08x-4d1c-4c1a-9b1c-%012x", "region": "region-%d", '
    .. '"flavor_id": "m1.size-%d"}, "metadata": {"host": "compute-%03d", "state": "active"}}'
local function body(hour)
    local usage = {}
    for t, name in ipairs(types) do
        local points = {}
        for i = 1, each do
            local n, project = i * 7919 % 10007, math.floor(i / 20) * 97
            points[i] = point:format(n % 500, (n + hour) % 1000, n % 99999, project * 65537, project,
                n * t, n, n % 3, n % 20, n % 120)
        end
        usage[t] = ('"%s": [%s]'):format(name, table.concat(points, ", "))
    end
    local day = ("2026-09-%02dT%02d"):format(1 + math.floor(hour / 24), hour % 24)
    return ('{"dataframes": [{"period": {"begin": "%s:00:00", "end": "%s:59:59"}, "usage": {%s}}]}')
        :format(day, day, table.concat(usage, ", "))
end
function init()
    for hour = 0, hours - 1 do
        local headers = { ["Content-Type"] = "application/json" }
        requests[hour + 1] = wrk.format("POST", nil, headers, body(hour))
    end
end
function request()
    turn = turn % hours + 1
    return requests[turn]
end
LUA
cat >"$folder/done.lua" <<'LUA'
function done(summary, latency)
    local e = summary.errors
    local failed = e.connect + e.read + e.write + e.status + e.timeout
    io.write(string.format("RESULT %d %d %.3f %.3f %d\n", summary.requests, summary.duration,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000, failed))
end
LUA
cat "$folder/done.lua" >>"$folder/push.lua"

cpu_ms() { awk -v tick="$(getconf CLK_TCK)" '{ print ($14 + $15) * 1000 / tick }' "/proc/$daemon/stat"; }

# NAME UNIT COUNT-FOR-A-REQUEST CONNECTIONS SCRIPT PATH
load() {
    before=$(cpu_ms)
    said=$(wrk -t1 -c"$4" -d"${seconds}s" -s "$folder/$5" "$url$6")
    after=$(cpu_ms)
    echo "$said" | awk -v name="$1" -v unit="$2" -v each="$3" -v cpu="$((${after%.*} - ${before%.*}))" '
        $1 == "RESULT" {
            found = 1
            printf "%-28s %10.0f %s/s  p50 %8.3f ms  p99 %8.3f ms  %8.2f us CPU each\n", name,
                $2 * each * 1e6 / $3, unit, $4, $5, cpu * 1000 / ($2 * each)
            if ($6 > 0) { printf "%s: %d requests failed\n", name, $6; exit 1 }
        }
        END { exit !found }'
}

RATED__DAEMON__STATE_DIR=$folder/state RATED__API__LISTEN=127.0.0.1:$port RATED_LOG=warn \
    "$rated" serve --config "$root/config/rated.toml" &
daemon=$!
for _ in $(seq 100); do
    curl -sf -o "$folder/health" "$url/healthz" && break
    sleep 0.1
done
sleep 6
echo "idle: $(awk '/VmRSS/ { printf "%.1f MiB", $2 / 1024 }' "/proc/$daemon/status") resident"

load "GET /v1/rating/modules" requests 1 8 done.lua /v1/rating/modules
load "GET /v2/scope" requests 1 8 done.lua /v2/scope
load "GET /v1/report/total" requests 1 8 done.lua /v1/report/total
load "POST /v2/dataframes" points 1000 2 push.lua /v2/dataframes
range='begin=2026-09-01&end=2026-10-01'
load "GET /v2/dataframes, first" requests 1 1 done.lua "/v2/dataframes?$range"
load "GET /v2/dataframes, 1M" requests 1 1 done.lua "/v2/dataframes?$range&offset=1000000"
