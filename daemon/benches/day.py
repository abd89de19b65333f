"""A day of a large cloud in four minutes: 10,000 scopes with 10 metrics each, 24 periods of 10 seconds, while the
API is asked all the time. Prints a line for each period and a table at the end; ends with 1 if memory grows, a cycle
takes longer than its period, a row is missing, or the API does not answer, answers wrongly or too late.

    cargo build --release -p rated -p rated-hashmap && cargo build --release -p rated-tests --example steady_plugin
    python3 daemon/benches/day.py [--rated target/release/rated]

The source is the example `steady_plugin`, which answers at once: what is measured is the daemon alone."""

import argparse
import http.client
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from daemon import Daemon

CONFIG = """\
[daemon]
state_dir = "state"
plugin_dirs = ["plugins"]
log = "warn"

[collect]
collector = "steady"
fetchers = ["steady"]
start = "now"
period_secs = {period_secs}
wait_periods = 0

[collectors.steady]
resources = 1

[fetchers.steady]
scopes = {scopes}

[rating.hashmap]
initial_rules = [
{rules}]
"""

METRIC = """\
[[metric]]
name = "metric_{index}"
unit = "unit"
groupby = ["id"]
metadata = ["flavor"]

"""

# How often each of them is asked, while the cycles run.
ASK_EACH_SECS = 0.2
# Periods until caches are full and threads are there: memory is compared from then on.
WARM_PERIODS = 6
GROWTH_MAX = 1.10
# Of the answers to one route, while cycles use all processors.
P99_SECS_MAX = 1.0


def routes(begin):
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin))
    return {
        "modules": "/v1/rating/modules",
        "scopes": "/v2/scope?limit=100",
        "one scope": "/v2/scope?scope_id=scope-00042",
        "summary, all": f"/v2/summary?begin={since}",
        "summary by project": f"/v2/summary?begin={since}&groupby=project_id&limit=100",
        "summary of a project": f"/v2/summary?begin={since}&groupby=type&filters=project_id:scope-00042",
        "frames": f"/v2/dataframes?begin={since}&limit=100",
    }


class Reader(threading.Thread):
    """Asks one route over and over, on a connection of its own."""

    def __init__(self, port, name, path):
        super().__init__(daemon=True)
        self.port, self.name_of, self.path = port, name, path
        self.times, self.failed, self.is_over = [], [], False

    def run(self):
        connection = None
        while not self.is_over:
            begin = time.perf_counter()
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                status = self.ask(connection)
            # Whatever it is that is wrong with an answer, it is one that did not come.
            except Exception as error:
                self.failed.append(repr(error))
                connection.close()
                connection = None
            else:
                took = time.perf_counter() - begin
                # Before the first period is in the ledger there are no rows; afterwards there are.
                if status == 200:
                    self.times.append(took)
                elif status != 404 or self.times:
                    self.failed.append(status)
            time.sleep(max(0, ASK_EACH_SECS - (time.perf_counter() - begin)))

    def ask(self, connection):
        connection.request("GET", self.path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200:
            json.loads(body)
        return answer.status


def write_site(folder, args, libraries):
    plugins = folder / "plugins"
    plugins.mkdir()
    shutil.copy(libraries / "examples/libsteady_plugin.so", plugins)
    rules = [f'{{ service = "metric_{index}", cost = "0.0125" }},\n' for index in range(args.metrics)]
    config = folder / "rated.toml"
    config.write_text(
        CONFIG.format(scopes=args.scopes, period_secs=args.period_secs, rules="".join(rules))
    )
    metrics = [METRIC.format(index=index) for index in range(args.metrics)]
    (folder / "metrics.toml").write_text("".join(metrics))
    return config


def run(args, folder):
    rated = Path(args.rated).resolve()
    config = write_site(folder, args, rated.parent)
    expected = args.scopes * args.metrics
    # One second after a period has ended: it is due then.
    schedule = f"1/{args.period_secs} * * * * *"
    with Daemon(rated, config, schedule=schedule, compaction_percent=10) as daemon:
        begin = time.time()
        readers = [Reader(daemon.port, *route) for route in routes(begin - args.period_secs).items()]
        for reader in readers:
            reader.start()
        print(f"{'period':>6} {'rows':>10} {'cycle s':>8} {'lag s':>6} {'RSS MiB':>8} {'CPU s':>6}")
        memory, cycles, rows_before = [], [], 0
        sums, counts, cpu = 0.0, 0, daemon.cpu_secs()
        for period in range(args.periods):
            deadline = time.time() + 5 * args.period_secs
            while (rows := daemon.metric("rated_rows_total")) < rows_before + expected:
                if time.time() > deadline:
                    raise RuntimeError(f"period {period}: {rows} rows, {expected} more were due")
                time.sleep(0.1)
            while (count := daemon.metric("rated_cycle_duration_seconds_count")) == counts:
                time.sleep(0.05)
            total = daemon.metric("rated_cycle_duration_seconds_sum")
            cycle, (sums, counts) = (total - sums) / (count - counts), (total, count)
            now = daemon.cpu_secs()
            lag = daemon.metric("rated_oldest_cursor_lag_seconds")
            memory.append(daemon.status_mib("VmRSS"))
            cycles.append(cycle)
            print(f"{period:6} {rows:10.0f} {cycle:8.2f} {lag:6.0f} {memory[-1]:8.1f} {now - cpu:6.1f}")
            rows_before, cpu = rows, now
        for reader in readers:
            reader.is_over = True
        for reader in readers:
            reader.join()
        highest = daemon.status_mib("VmHWM")
    return report(args, (memory, highest), cycles[1:], readers, rows_before)


def report(args, memories, cycles, readers, rows):
    memory, highest = memories
    early = statistics.median(memory[WARM_PERIODS:WARM_PERIODS + 3])
    late = statistics.median(memory[-3:])
    longest = max(cycles)
    points = args.scopes * args.metrics * args.periods
    lines = [
        ("rows", f"{points}", f"{rows:.0f}", rows == points),
        ("longest cycle", f"< {args.period_secs} s", f"{longest:.2f} s (median {statistics.median(cycles):.2f} s)",
         longest < args.period_secs),
        ("memory, late / early", f"<= {GROWTH_MAX}", f"{late:.0f} / {early:.0f} MiB, {highest:.0f} at most",
         late <= early * GROWTH_MAX),
    ]
    lines += [answers(reader) for reader in readers]
    print()
    for name, goal, figure, is_met in lines:
        print(f"{name:24} {goal:14} {figure} {'' if is_met else '  MISSED'}")
    return all(is_met for *_, is_met in lines)


def answers(reader):
    name, goal = f"GET {reader.name_of}", f"p99 < {P99_SECS_MAX * 1000:.0f} ms"
    times = sorted(reader.times)
    if not times or reader.failed:
        return name, goal, f"{len(times)} answers, {len(reader.failed)} failed: {reader.failed[:3]}", False
    p50, p99 = (times[int(len(times) * part)] for part in (0.5, 0.99))
    figure = f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, {times[-1] * 1000:.0f} ms at most, {len(times)} answers"
    return name, goal, figure, p99 < P99_SECS_MAX


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rated", default="target/release/rated")
    parser.add_argument("--scopes", type=int, default=10_000)
    parser.add_argument("--metrics", type=int, default=10)
    parser.add_argument("--periods", type=int, default=24)
    parser.add_argument("--period-secs", type=int, default=10)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        is_met = run(args, folder)
    finally:
        shutil.rmtree(folder)
    sys.exit(0 if is_met else 1)


if __name__ == "__main__":
    main()
