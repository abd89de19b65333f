"""How costs grow: each of the sizes ten times as large, and the exponent of what it costs."""

import math
import re
import subprocess
import time

from daemon import Daemon

TIMES = 10
# Of an exponent, for what takes little time.
NOISE = 0.1
# Of a query, so that its CPU is many ticks of the clock.
MEASURE_SECS = 1.5

QUERIES = {
    "summary by project": "groupby=project_id",
    "summary by time + project": "groupby=time,project_id",
    "summary by flavor_id": "groupby=flavor_id",
}


def growth(args, table, cloud_of, folder):
    """Points and periods make ten times the points; scopes share as many among more of them."""
    base = cost(args, cloud_of(200, 48, 50), folder / "base")
    for name, cloud, exponent_max in [
        ("points x10", cloud_of(200, 48, 500), 1),
        ("periods x10", cloud_of(200, 480, 50), 1),
        ("scopes x10, equal points", cloud_of(2000, 48, 5), math.log(1.5, TIMES)),
    ]:
        costs = cost(args, cloud, folder / "larger")
        for what, figures in costs.items():
            parts, exponents = [], []
            for kind, figure in figures.items():
                before = base[what][kind]
                exponents.append(math.log(figure / before, TIMES))
                parts.append(f"{kind} {before:.4g} to {figure:.4g} ms: {exponents[-1]:.2f}")
            is_met = min(exponents) <= exponent_max + NOISE
            table.add(f"{name}: {what}", f"exponent <= {exponent_max:.2f}", "; ".join(parts), is_met,
                      f"{cloud}")


def cost(args, cloud, folder):
    """Milliseconds of wall and of CPU."""
    folder.mkdir()
    config = Daemon.write_config(folder, cloud.metrics)
    (folder / "state").mkdir()
    command = [args.rated, *cloud.arguments(), f"--ledger={folder / 'state' / 'ledger'}"]
    command = ["sh", "-c", '"$@" && times', "sh", *map(str, command)]
    begin = time.perf_counter()
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=True).stdout
    wall = (time.perf_counter() - begin) * 1000
    # The second line is that of the children: user and system, such as 0m1.230s.
    parts = re.findall(r"(\d+)m([\d.]+)s", said.splitlines()[1])
    cpu = sum(int(minutes) * 60 + float(seconds) for minutes, seconds in parts) * 1000
    costs = {"commit (with making)": {"wall": wall, "CPU": cpu}}
    range_ = f"begin={cloud.begin:%Y-%m-%dT%H:%M:%S}&end={cloud.end:%Y-%m-%dT%H:%M:%S}"
    with Daemon(args.rated, config) as daemon:
        for name, parameters in QUERIES.items():
            costs[name] = cost_of_query(daemon, f"/v2/summary?{range_}&{parameters}")
    subprocess.run(["rm", "-rf", folder], check=True)
    return costs


def cost_of_query(daemon, path):
    daemon.get(path)
    best, runs = math.inf, 0
    begin, cpu = time.perf_counter(), daemon.cpu_secs()
    while time.perf_counter() - begin < MEASURE_SECS or runs < 3:
        before = time.perf_counter()
        daemon.get(path)
        best = min(best, time.perf_counter() - before)
        runs += 1
    spent = max(daemon.cpu_secs() - cpu, 0.01)
    return {"wall": best * 1000, "CPU": spent / runs * 1000}
