"""Catches up with some hours from a real Prometheus, and says what that cost.

Loads the data of `rated bench data` into a Prometheus, enters their price list (29 rules for each
metric) over the REST API while the collector is disabled, enables it, and waits for the end of the
cycle. Then the totals of /v2/summary are compared with the exact ones of `rated bench data`.
"""

import argparse
import atexit
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

METRICS = 5
TICKS_PER_SEC = os.sysconf("SC_CLK_TCK")
WAIT_SECS_MAX = 600
# Until the daemon and Prometheus have nothing else to do.
IDLE_SECS = 1.5
PRICES = "/v1/rating/module_config/hashmap/prices?force=true"
HASHMAP_ON = {"module_id": "hashmap", "enabled": True}
STATES = "/v1/collector/prometheus/states"

CONFIG = """\
[daemon]
state_dir = "state"
[api]
listen = "127.0.0.1:0"
[collect]
schedule = "* * * * * *"
collector = "prometheus"
fetchers = {fetchers}
metrics = "metrics.toml"
wait_periods = 0
start = "{start}"
{collect}
[collectors.prometheus]
url = "{url}"
[fetchers.prometheus]
url = "{url}"
metric = "metric_0"
scope_attribute = "project_id"
"""

METRIC = """\
[[metric]]
name = "metric_{index}"
alt_name = "type_{index}"
unit = "unit"
groupby = ["id", "region"]
metadata = ["flavor_id", "flavor_name", "host", "state"]

"""


class Data:
    """The last `hours` before this one, of `rated bench data`."""

    def __init__(self, arguments):
        end = int(time.time()) // 3600 * 3600
        form = lambda at: f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
        self.start, self.end = form(end - arguments.hours * 3600), form(end)
        points = arguments.resources * METRICS
        self.points = arguments.scopes * points * arguments.hours
        self.command = [
            arguments.rated, "bench", "data", f"--scopes={arguments.scopes}",
            f"--resources={points}", f"--metrics={METRICS}", f"--hours={arguments.hours}",
            f"--start={self.start}",
        ]

    def write(self, what, file):
        subprocess.run([*self.command, what], stdout=file, check=True)

    def read(self, what):
        output = subprocess.run([*self.command, what], stdout=subprocess.PIPE, check=True)
        return output.stdout.decode()


class Server:
    """A process whose output says when it serves."""

    def __init__(self, command, ready, folder, name, **environment):
        self.log = folder / f"{name}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **environment}
            )
        atexit.register(self.process.kill)
        self.url = self.wait_for(ready).group(1)

    def wait_for(self, pattern):
        deadline = time.monotonic() + WAIT_SECS_MAX
        while time.monotonic() < deadline:
            found = re.search(pattern, self.log.read_text())
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        sys.exit(f"waited in vain for `{pattern}`:\n{self.log.read_text()}")

    def cpu_secs(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SEC

    def memory_mib_max(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def call(url, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.build_opener(NoRedirect).open(request) as answer:
            return json.loads(answer.read() or "null", parse_float=Decimal)
    except urllib.error.HTTPError as error:
        if error.code == 302:
            return None
        sys.exit(f"{method} {url}: {error.code} {error.read().decode()}")


def start_prometheus(data, folder):
    storage = folder / "data"
    history = folder / "history.om"
    with history.open("w") as file:
        data.write("--open-metrics", file)
    load = ["promtool", "tsdb", "create-blocks-from", "openmetrics", history, storage]
    subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
    history.unlink()
    (folder / "prometheus.yml").write_text("")
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={storage}",
        "--storage.tsdb.retention.time=10y",
        "--web.listen-address=127.0.0.1:0",
    ]
    ready = r"(?s)msg=\"Listening on\" address=(\S+).*Server is ready"
    server = Server(command, ready, folder, "prometheus")
    server.url = f"http://{server.url}"
    return server


def start_daemon(data, folder, url, arguments, fetchers):
    metrics = "".join(METRIC.format(index=index) for index in range(METRICS))
    (folder / "metrics.toml").write_text(metrics)
    config = folder / "rated.toml"
    names = json.dumps(fetchers)
    text = CONFIG.format(fetchers=names, start=data.start, collect=arguments.collect, url=url)
    config.write_text(text)
    command = [arguments.rated, "serve", "--config", config]
    return Server(command, r"api=(http\S+)", folder, "rated", RATED_LOG="info")


def check_totals(url, data, groups):
    """How many groups there are, all of them equal."""
    expected = {}
    for line in data.read(f"--totals={groups}").splitlines():
        *keys, quantity, price, _ = line.split(",")
        expected[tuple(keys)] = (Decimal(quantity), Decimal(price))
    found, page = {}, None
    while page is None or (page["results"] and len(found) < page["total"]):
        path = f"/v2/summary?begin={data.start}&end={data.end}&groupby={groups}"
        page = call(f"{url}{path}&limit=1000&offset={len(found)}")
        for _, _, quantity, price, *keys in page["results"]:
            found[tuple(keys)] = (quantity, price)
    if found != expected:
        wrong = [key for key in expected | found if expected.get(key) != found.get(key)]
        key = wrong[0]
        sys.exit(f"{len(wrong)} totals by {groups} are wrong: {key} is {found.get(key)}, "
                 f"not {expected.get(key)}")
    return len(found)


def queries(prometheus):
    """How many queries Prometheus has answered, and how long they took in all."""
    with urllib.request.urlopen(f"{prometheus.url}/metrics") as answer:
        text = answer.read().decode()
    name = r'prometheus_http_request_duration_seconds_{}\{{handler="/api/v1/query"\}} (\S+)'
    return [sum(map(float, re.findall(name.format(kind), text))) for kind in ("count", "sum")]


def record(file, process):
    command = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "4999", "-g", "-o", file]
    return subprocess.Popen([*command, "-p", str(process.pid)])


def measure(folder, arguments):
    data = Data(arguments)
    prometheus = start_prometheus(data, folder)
    daemon = start_daemon(data, folder, prometheus.url, arguments, fetchers=[])
    call(f"{daemon.url}{PRICES}", "PUT", json.loads(data.read("--rules")))
    call(f"{daemon.url}/v1/rating/modules/hashmap", "PUT", HASHMAP_ON)
    call(f"{daemon.url}{STATES}", "PUT", {"enabled": False})
    daemon.stop()

    daemon = start_daemon(data, folder, prometheus.url, arguments, fetchers=["prometheus"])
    daemon.wait_for("New scopes")
    profile = record(arguments.perf, daemon.process) if arguments.perf else None
    time.sleep(IDLE_SECS)
    before = [daemon.cpu_secs(), prometheus.cpu_secs(), *queries(prometheus)]
    began = time.monotonic()
    call(f"{daemon.url}{STATES}", "PUT", {"enabled": True})
    daemon.wait_for("Cycle ended")
    wall = time.monotonic() - began
    after = [daemon.cpu_secs(), prometheus.cpu_secs(), *queries(prometheus)]
    if profile:
        profile.send_signal(signal.SIGINT)
        profile.wait()
    cpu, source_cpu, count, query_secs = (late - early for early, late in zip(before, after))

    totals = sum(check_totals(daemon.url, data, by) for by in ("project_id,type", "flavor_id"))
    points = data.points
    print(f"{arguments.scopes} scopes x {METRICS} metrics x {arguments.resources} resources x "
          f"{arguments.hours} hours = {points} points, {METRICS * 29} rules")
    print(f"wall            {wall:8.3f} s {points / wall:12.0f} points/s")
    print(f"daemon's CPU    {cpu:8.2f} s {cpu / points * 1e6:12.2f} us/point")
    print(f"daemon idle     {100 * max(0, 1 - cpu / wall):8.0f} % of the wall time at least")
    print(f"daemon's memory {daemon.memory_mib_max():8.1f} MiB at most")
    print(f"Prometheus' CPU {source_cpu:8.2f} s {count:12.0f} queries, "
          f"{query_secs / wall:.1f} under way on average")
    print(f"{totals} totals are exact", flush=True)
    daemon.stop()
    prometheus.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rated", type=Path, default=Path("target/release/rated"))
    parser.add_argument("--scopes", type=int, default=100)
    parser.add_argument("--resources", type=int, default=20, help="of a scope and metric")
    parser.add_argument("--hours", type=int, default=12)
    parser.add_argument("--collect", default="", help="more lines for [collect]")
    parser.add_argument("--perf", help="write a profile of the catching up to this file")
    parser.add_argument("--runs", type=int, default=1)
    arguments = parser.parse_args()
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory(prefix="rated-bench-") as folder:
            measure(Path(folder), arguments)


main()
