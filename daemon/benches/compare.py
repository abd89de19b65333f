"""Measures the daemon against the goals and against DuckDB, over the same rows, and prints a table.

Every figure is of the built program and over HTTP, taken in this very run, and every query's sums
are compared to the last digit: the daemon's, DuckDB's, and integers added by `rated bench data`.
"""

import argparse
import copy
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlencode

import duckdb

# Nothing is left beside the sources.
sys.dont_write_bytecode = True
from daemon import Daemon, disk_bytes  # noqa: E402
from growth import growth  # noqa: E402

# What DuckDB may use; the daemon takes what there is.
THREADS = 2


class Cloud:
    """Arguments of `rated bench data`. It begins next month, so that nothing is due for a cycle."""

    def __init__(self, scopes, hours, resources=20, metrics=5):
        self.scopes, self.hours = scopes, hours
        self.resources, self.metrics = resources, metrics
        month = datetime.now(timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        self.begin = (month + timedelta(days=32)).replace(day=1)
        self.end = self.begin + timedelta(hours=hours)
        self.points = scopes * resources * hours

    def cut(self, hours):
        """The same data, asked for up to so many hours."""
        part = copy.copy(self)
        part.end = min(self.end, self.begin + timedelta(hours=hours))
        return part

    def arguments(self):
        sizes = {"scopes": self.scopes, "resources": self.resources, "metrics": self.metrics}
        sizes |= {"hours": self.hours, "start": f"{self.begin:%Y-%m-%dT%H:%M:%SZ}"}
        return ["bench", "data", *(f"--{name}={value}" for name, value in sizes.items())]

    def label(self):
        return f"{self.points / 1e6:.1f} M"

    def __str__(self):
        return f"{self.scopes:,} scopes x {self.resources} x {self.hours} h"


class Query:
    """The same question to the daemon, to DuckDB and to the exact sums."""

    def __init__(self, name, keys=(), filters=(), is_day=False, goal=None, goal_full=None):
        self.name, self.keys, self.filters, self.is_day = name, list(keys), dict(filters), is_day
        # Milliseconds, or None = so many times faster than DuckDB.
        self.goal_ms, self.goal_full_ms = goal, goal_full

    def comparable(self, cloud):
        """The cloud, or the first part of it that has not too many groups."""
        if "time" not in self.keys:
            return cloud
        return cloud.cut(GROUPS_COMPARED // cloud.scopes)

    def range(self, cloud):
        if not self.is_day:
            return cloud.begin, cloud.end
        begin = cloud.begin + timedelta(days=cloud.hours // 48)
        return begin, begin + timedelta(days=1)

    def filters_of(self, scope):
        return self.filters | ({"project_id": scope} if self.is_day else {})

    def path(self, cloud, scope, limit=None):
        begin, end = self.range(cloud)
        parameters = {"begin": f"{begin:%Y-%m-%dT%H:%M:%S}", "end": f"{end:%Y-%m-%dT%H:%M:%S}"}
        if self.keys:
            parameters["groupby"] = ",".join(self.keys)
        if filters := self.filters_of(scope):
            parameters["filters"] = ",".join(f"{name}:{value}" for name, value in filters.items())
        if limit:
            parameters["limit"] = limit
        return "/v2/summary?" + urlencode(parameters, safe=",:")

    def sql(self, cloud, scope):
        begin, end = self.range(cloud)
        wanted = [f"begin >= '{begin:%Y-%m-%d %H:%M:%S}'", f"begin < '{end:%Y-%m-%d %H:%M:%S}'"]
        wanted += [f"{name} = '{value}'" for name, value in self.filters_of(scope).items()]
        keys = ["begin" if key == "time" else key for key in self.keys]
        select = ", ".join([*keys, "sum(qty) AS qty", "sum(price) AS price"])
        group = f" GROUP BY {', '.join(keys)}" if keys else ""
        return f"SELECT {select} FROM points WHERE {' AND '.join(wanted)}{group}"

    def totals(self, cloud, scope):
        begin, end = self.range(cloud)
        filters = [f"--filter={name}={value}" for name, value in self.filters_of(scope).items()]
        moments = [f"--begin={begin:%Y-%m-%dT%H:%M:%SZ}", f"--end={end:%Y-%m-%dT%H:%M:%SZ}"]
        return [*cloud.arguments(), f"--totals={','.join(self.keys)}", *filters, *moments]


QUERIES = [
    Query("no grouping", goal=5, goal_full=50),
    Query("project", ["project_id"], goal=10, goal_full=50),
    Query("project + type", ["project_id", "type"], goal=10, goal_full=50),
    Query("time + project", ["time", "project_id"], goal=30, goal_full=50),
    Query("one day of one project", is_day=True, goal=3, goal_full=50),
    Query("flavor_id", ["flavor_id"]),
    Query("flavor_id, one region", ["flavor_id"], {"region": "region-1"}),
    Query("project + flavor_id", ["project_id", "flavor_id"]),
]
# Of an attribute query over DuckDB's.
GOAL_RATIO = 4
# So long a query is asked again and again.
QUERY_MS_MAX = 10_000
# Of an answer that is long enough to say what JSON costs.
ROWS_OF_JSON = 100_000
# Groups that a page of /v2/summary has; DuckDB hands over as many.
PAGE = 100
# The daemon refuses an answer with more groups than 4 M: what has more is compared of its first part.
GROUPS_COMPARED = 3_000_000


def times_ms(call, runs):
    """Best and median of some runs, fewer when they are long; the first of several is left out."""
    durations = []
    for _ in range(1 + runs):
        begin = time.perf_counter()
        call()
        durations.append((time.perf_counter() - begin) * 1000)
        if sum(durations) > QUERY_MS_MAX:
            break
    durations = sorted(durations[1:] or durations)
    return durations[0], durations[len(durations) // 2]


class Table:
    def __init__(self):
        self.rows = []

    def add(self, what, goal, figure, is_met, command):
        met = {True: "yes", False: "NO", None: ""}[is_met]
        self.rows.append([what, goal, figure, met, command])
        print(f"{what:48} {goal:>22} {figure:>44}  {met}", flush=True)

    def write(self, path, head):
        lines = [head, "", "| what | goal | figure | met | command |", "|---|---|---|---|---|"]
        lines += [f"| {a} | {b} | {c} | {d} | `{e}` |" for a, b, c, d, e in self.rows]
        path.write_text("\n".join(lines) + "\n")
        print("\n" + "\n".join(lines))


def load_duckdb(rated, cloud, folder):
    """The rows as zstd Parquet, made of the CSV that `rated bench data --rows` prints."""
    parquet = folder / "points.parquet"
    connection = duckdb.connect(config={"threads": THREADS, "temp_directory": str(folder)})
    pipe = folder / "rows"
    os.mkfifo(pipe)
    with subprocess.Popen(
        ["sh", "-c", 'exec "$@" >"$0"', pipe, rated, *cloud.arguments(), "--rows"]
    ) as rows:
        connection.execute(
            f"""COPY (SELECT * FROM read_csv('{pipe}', header = true, columns = {{
                'begin': 'TIMESTAMP', 'type': 'VARCHAR', 'project_id': 'VARCHAR',
                'id': 'VARCHAR', 'region': 'VARCHAR', 'flavor_id': 'VARCHAR',
                'flavor_name': 'VARCHAR', 'host': 'VARCHAR', 'state': 'VARCHAR',
                'qty': 'DECIMAL(38,3)', 'price': 'DECIMAL(38,9)'}}))
            TO '{parquet}' (FORMAT parquet, COMPRESSION zstd)"""
        )
    if rows.returncode != 0:
        sys.exit("rated bench data --rows failed")
    connection.execute(f"CREATE VIEW points AS SELECT * FROM '{parquet}'")
    found = connection.execute("SELECT count(*) FROM points").fetchone()[0]
    if found != cloud.points:
        sys.exit(f"DuckDB has {found} rows of {cloud.points}")
    return connection, parquet.stat().st_size


def check_equal(connection, rated, daemon, cloud, query, scope, folder):
    """All groups of the daemon, of DuckDB and of the integers are the same, every digit."""
    cloud = query.comparable(cloud)
    keys = ", ".join(f"k{index}" for index in range(len(query.keys)))
    head = f"{keys}, " if keys else ""
    exact, answered = folder / "exact.csv", folder / "answered.csv"
    with exact.open("wb") as out:
        subprocess.run([rated, *query.totals(cloud, scope)], stdout=out, check=True)
    daemon.save(query.path(cloud, scope, limit=1 << 30), answered, accept="text/csv")

    def key(index, column):
        return f"replace({column}[:19], 'T', ' ')" if query.keys[index] == "time" else column

    count = len(query.keys)
    # Of the daemon: begin, end, qty, rate, then the keys; the begin is the time.
    others = [index for index in range(count) if query.keys[index] != "time"]
    places = {index: f"column{place + 4}" for place, index in enumerate(others)}
    said = ", ".join(
        [key(index, places.get(index, "column0")) + f" AS k{index}" for index in range(count)]
        + ["column2::DECIMAL(38,3) AS qty", "column3::DECIMAL(38,9) AS price"]
    )
    summed = ", ".join(
        [key(index, f"column{index}") + f" AS k{index}" for index in range(count)]
        + [f"column{count}::DECIMAL(38,3) AS qty", f"column{count + 1}::DECIMAL(38,9) AS price"]
    )
    names = [f"c{index}" for index in range(count)]
    columns = ", ".join([*names, "qty", "price"])
    theirs = ", ".join([f"{name}::VARCHAR AS k{name[1:]}" for name in names] + ["qty, price"])

    def csv(file, columns, skip):
        types = ", ".join(f"'column{index}': 'VARCHAR'" for index in range(columns))
        return f"""read_csv('{file}', header = false, auto_detect = false, skip = {skip},
            columns = {{{types}}})"""

    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE answered AS
            SELECT {said} FROM {csv(answered, len(others) + 4, 1)};
        CREATE OR REPLACE TEMP TABLE exact AS
            SELECT {summed} FROM {csv(exact, count + 3, 0)};
        CREATE OR REPLACE TEMP TABLE theirs AS
            SELECT {theirs} FROM ({query.sql(cloud, scope)}) AS t({columns})
    """)
    groups = connection.execute("SELECT count(*) FROM exact").fetchone()[0]
    for one, other in [("answered", "exact"), ("exact", "answered"), ("theirs", "exact")]:
        sql = f"SELECT {head}qty, price FROM {one} EXCEPT ALL SELECT {head}qty, price FROM {other}"
        if different := connection.execute(sql).fetchone():
            sys.exit(f"{query.name}: {different} is in `{one}` and not in `{other}`")
    return groups


def summaries(args, table, cloud, daemon, folder, is_full):
    """Returns how many groups were compared."""
    connection, size = load_duckdb(args.rated, cloud, folder)
    print(f"DuckDB {duckdb.__version__}: {size / cloud.points:.1f} bytes a row in Parquet")
    scope = daemon.get_json("/v2/scope?limit=1")["results"][0]["scope_id"]
    for query in QUERIES:
        path = query.path(cloud, scope)
        best, median = times_ms(lambda: daemon.get(path), args.runs)
        sql = query.sql(cloud, scope)
        theirs, _ = times_ms(lambda: connection.execute(sql).fetchmany(PAGE), 3)
        goal_ms = query.goal_full_ms if is_full else query.goal_ms
        ratio = theirs / best
        goal = f"<= {goal_ms} ms" if goal_ms else f">= {GOAL_RATIO}x DuckDB"
        is_met = best <= goal_ms if goal_ms else ratio >= GOAL_RATIO
        figure = f"{best:.1f} ms, median {median:.1f}; DuckDB {theirs:.0f} ms, {ratio:.1f}x"
        table.add(f"summary: {query.name}, {cloud.label()}", goal, figure, is_met,
                  f"GET {path.replace(scope, 'SCOPE')}")
    memory(table, daemon, cloud)
    groups = sum(
        check_equal(connection, args.rated, daemon, cloud, query, scope, folder)
        for query in QUERIES
    )
    table.add(f"exact: {cloud.label()}", "every digit", f"{groups:,} groups equal", True,
              "the daemon's CSV, DuckDB's sums, rated bench data --totals")
    connection.close()


def memory(table, daemon, cloud):
    peak = daemon.status_mib("VmHWM")
    table.add(f"memory through all summaries, {cloud.label()}", "<= 512 MiB",
              f"{peak:.0f} MiB", peak <= 512, "VmHWM of /proc/PID/status")


def pages(table, cloud, daemon, runs):
    for offset, goal_ms in [(0, 5), (1_000_000, 20)]:
        if offset >= cloud.points:
            continue
        range_ = f"begin={cloud.begin:%Y-%m-%dT%H:%M:%S}&end={cloud.end:%Y-%m-%dT%H:%M:%S}"
        path = f"/v2/dataframes?{range_}&offset={offset}&limit={PAGE}"
        best, median = times_ms(lambda: daemon.get(path), runs)
        table.add(f"page of {PAGE} rows at {offset:,}", f"<= {goal_ms} ms",
                  f"{best:.1f} ms, median {median:.1f}", best <= goal_ms, f"GET {path}")
    path = f"/v2/dataframes?{range_}&limit={ROWS_OF_JSON}"
    best, _ = times_ms(lambda: daemon.get(path), 3)
    rows = min(ROWS_OF_JSON, cloud.points)
    table.add(f"JSON of {rows:,} rows", "", f"{best:.0f} ms, {rows / best / 1000:.2f} M rows/s", None,
              f"GET {path}")


def commit(args, table, cloud, state, threads=None):
    """Fills a ledger; what the program says of its commits is the figure."""
    command = [args.rated, *cloud.arguments(), f"--ledger={state / 'ledger'}"]
    if threads:
        command.append(f"--threads={threads}")
    said = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True).stderr
    seconds, in_commits, p99 = (
        seconds_of(re.search(pattern, said)[1])
        for pattern in [r"threads in (\S+):", r"commits of (\S+) in all", r"99 of 100 in (\S+)"]
    )
    slice_rows = cloud.points // cloud.hours // cloud.metrics
    command = "rated " + " ".join(command[1:-2 if threads else -1]) + " --ledger=DIR"
    if threads == 1:
        each = cloud.points / in_commits
        table.add(f"commit, durable, slices of {slice_rows:,} rows", ">= 3 M points/s",
                  f"{each / 1e6:.2f} M points/s", each >= 3e6, f"{command} --threads=1")
        table.add("commit: 99 of 100 in", "<= 50 ms", f"{p99 * 1000:.0f} ms", p99 <= 0.05,
                  f"{command} --threads=1")
    else:
        each = cloud.points / seconds / 1e6
        table.add(f"made and committed, {cloud.label()}", "",
                  f"{seconds:.1f} s, {each:.2f} M points/s", None, command)


def seconds_of(text):
    """Of a duration such as 1.50s or 20.1ms."""
    for unit, factor in [("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9), ("s", 1)]:
        if text.rstrip(",").endswith(unit):
            return float(text.rstrip(",").removesuffix(unit)) * factor
    raise ValueError(text)


def compact(args, table, cloud, config):
    """Waits until the upkeep was through; what `du` says before and after."""
    state = config.parent / "state" / "ledger"
    before = disk_bytes(state)
    with Daemon(args.rated, config, schedule="* * * * * *", compaction_percent=100) as daemon:
        begin = time.perf_counter()
        while daemon.metric("rated_compaction_last_end_seconds") == 0:
            if time.perf_counter() - begin > args.compaction_secs:
                print("compaction: not through in time, measured as it is")
                break
            time.sleep(0.5)
        seconds = time.perf_counter() - begin
    after = disk_bytes(state)
    table.add(f"bytes on disk a point, {cloud.label()}", "<= 10",
              f"{after / cloud.points:.2f}; before {before / cloud.points:.2f}, {seconds:.0f} s",
              after <= 10 * cloud.points, "du -s --block-size=1 of the ledger's folder")


def one_size(args, table, cloud, folder, is_full):
    folder.mkdir()
    config = Daemon.write_config(folder, cloud.metrics)
    state = folder / "state"
    state.mkdir()
    commit(args, table, cloud, state)
    compact(args, table, cloud, config)
    with Daemon(args.rated, config) as daemon:
        path = QUERIES[0].path(cloud, "")
        daemon.get(path)
        seconds = daemon.age()
        table.add(f"start to first summary, {cloud.label()}", "<= 1 s", f"{seconds:.2f} s",
                  seconds <= 1, f"rated serve; GET {path}")
        time.sleep(1)
        idle = daemon.status_mib("VmRSS")
        table.add(f"memory: idle, {cloud.label()}", "<= 40 MiB", f"{idle:.1f} MiB",
                  idle <= 40, "VmRSS of /proc/PID/status")
        pages(table, cloud, daemon, args.runs)
        summaries(args, table, cloud, daemon, folder, is_full)
    shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rated", type=Path, default=Path("target/release/rated"))
    parser.add_argument("--scopes", type=int, default=700)
    parser.add_argument("--hours", type=int, default=720)
    parser.add_argument("--full", action="store_true", help="10,000 scopes as well: 144 M points")
    parser.add_argument("--summaries-only", action="store_true", help="neither commits nor growth")
    parser.add_argument("--runs", type=int, default=9, help="of each query")
    parser.add_argument("--compaction-secs", type=int, default=120, help="longest wait for upkeep")
    parser.add_argument("--criterion", type=Path, default=Path("target/criterion"))
    parser.add_argument("--output", type=Path, default=Path("target/bench/table.md"))
    args = parser.parse_args()
    args.rated = args.rated.resolve()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    table = Table()
    with tempfile.TemporaryDirectory(dir=args.output.parent) as folder:
        folder = Path(folder).resolve()
        one_size(args, table, Cloud(args.scopes, args.hours), folder / "medium", is_full=False)
        if args.full:
            one_size(args, table, Cloud(10_000, 720), folder / "full", is_full=True)
        if not args.summaries_only:
            # Slices of 10,000 rows, by one thread.
            (folder / "commit").mkdir()
            commit(args, table, Cloud(2_500, 96), folder / "commit", threads=1)
            growth(args, table, Cloud, folder)
    report(table, args.output.parent)
    criterion(table, args.criterion)
    head = f"Measured {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores."
    table.write(args.output, head)


def report(table, folder):
    """What the scripts beside this one have printed before."""
    patterns = [
        # CloudKitty 25 took 290 points/s (small scopes) and 1,760 (wide) of a machine like this:
        # 300 and 50 times as many.
        ("end_to_end_small.txt", r"wall .* (\d+) points/s", "end to end, small scopes", 87_000,
         "points/s"),
        ("end_to_end_small.txt", r"daemon's CPU .* ([\d.]+) us/point", "end to end, small scopes: CPU",
         -2.5, "us a point"),
        ("end_to_end_wide.txt", r"wall .* (\d+) points/s", "end to end, wide scopes", 88_000,
         "points/s"),
        ("end_to_end_wide.txt", r"daemon's CPU .* ([\d.]+) us/point", "end to end, wide scopes: CPU",
         -2.5, "us a point"),
        ("end_to_end_small.txt", r"daemon's memory +([\d.]+) MiB", "memory: catching up", -200, "MiB"),
        ("load.txt", r"POST /v2/dataframes +(\d+) points/s", "POST /v2/dataframes", 500_000,
         "points/s"),
        *(
            ("load.txt", rf"GET {path} +(\d+) requests/s", f"GET {path}", 20_000, "requests/s")
            for path in ["/v1/rating/modules", "/v2/scope", "/v1/report/total"]
        ),
        *(
            ("load.txt", rf"GET {path} .*p99 +([\d.]+) ms", f"GET {path}: 99 of 100 in", -5, "ms")
            for path in ["/v1/rating/modules", "/v2/scope", "/v1/report/total"]
        ),
    ]
    for file, pattern, what, goal, unit in patterns:
        file = folder / file
        found = re.search(pattern, file.read_text()) if file.exists() else None
        if found:
            figure = float(found[1])
            goal_text = f">= {goal:,} {unit}" if goal > 0 else f"<= {-goal} {unit}"
            is_met = figure >= goal if goal > 0 else figure <= -goal
            script = "load.sh" if file.stem == "load" else "end_to_end.sh"
            table.add(what, goal_text, f"{figure:,g} {unit}", is_met, f"daemon/benches/{script}")


def criterion(table, folder):
    """Figures of the benches that ran before: medians."""
    by_rules = {}
    for benchmark in sorted(folder.glob("**/new/benchmark.json")):
        about = json.loads(benchmark.read_text())
        estimates = json.loads((benchmark.parent / "estimates.json").read_text())
        ns = estimates["median"]["point_estimate"]
        count = (about.get("throughput") or {}).get("Elements")
        each = f", {count / ns * 1000:.1f} M/s" if count else ""
        name = about["full_id"]
        goal = 90 if name == "rate 10,000 rows/145 rules, 1 quantities" else None
        table.add(name, f">= {goal} M/s" if goal else "", f"{ns / 1e6:.3f} ms{each}",
                  count / ns * 1000 >= goal if goal else None, "cargo bench")
        if rules := re.fullmatch(r"rate 10,000 rows/(\d+) rules, 1 quantities", name):
            by_rules[int(rules[1])] = ns
    counts = sorted(by_rules)
    for few, many in zip(counts, counts[1:]):
        exponent = math.log(by_rules[many] / by_rules[few]) / math.log(many / few)
        table.add(f"rules {few:,} to {many:,}: rating", "exponent <= 0.00",
                  f"exponent {exponent:.2f}", exponent <= 0.1, "cargo bench -p rated-hashmap")


if __name__ == "__main__":
    main()
