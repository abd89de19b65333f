"""The program under measurement: its configuration, its process, its answers."""

import http.client
import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

TICKS_PER_SEC = os.sysconf("SC_CLK_TCK")
START_SECS_MAX = 60

CONFIG = """\
[daemon]
state_dir = "state"
log = "error"

[collect]
collector = "prometheus"
fetchers = []
start = "2026-01-01T00:00:00Z"

[collectors.prometheus]
url = "http://127.0.0.1:1"

[rating.hashmap]
"""

METRIC = """\
[[metric]]
name = "metric_{index}"
alt_name = "type_{index}"
unit = "unit"
groupby = ["id", "region"]
metadata = ["flavor_id", "flavor_name", "host", "state"]

"""


def disk_bytes(folder):
    said = subprocess.run(
        ["du", "-s", "--block-size=1", folder], stdout=subprocess.PIPE, text=True, check=True
    )
    return int(said.stdout.split()[0])


class Daemon:
    """Runs while the block does; answers of one connection that is kept."""

    @staticmethod
    def write_config(folder, metrics):
        config = folder / "rated.toml"
        config.write_text(CONFIG)
        text = "".join(METRIC.format(index=index) for index in range(metrics))
        (folder / "metrics.toml").write_text(text)
        return config

    # A cycle has nothing to do: the scopes' last periods are in the future.
    def __init__(self, rated, config, schedule="0 0 0 1 1 *", compaction_percent=0):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        options = {
            "RATED__API__LISTEN": f"127.0.0.1:{self.port}",
            "RATED__COLLECT__SCHEDULE": schedule,
            "RATED__LEDGER__COMPACTION_PERCENT": str(compaction_percent),
        }
        self.begin = time.perf_counter()
        self.process = subprocess.Popen(
            [rated, "serve", "--config", config], env={**os.environ, **options}
        )
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def __enter__(self):
        try:
            self.wait()
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_):
        self.connection.close()
        self.process.terminate()
        self.process.wait(60)

    def wait(self):
        while True:
            try:
                self.connection.connect()
                return
            except ConnectionRefusedError:
                if self.process.poll() is not None or self.age() > START_SECS_MAX:
                    raise RuntimeError("the daemon does not start") from None
                time.sleep(0.002)

    def age(self):
        """Seconds since it was started."""
        return time.perf_counter() - self.begin

    def ask(self, path, accept):
        try:
            answer = self.send(path, accept)
        except http.client.RemoteDisconnected:
            # It was silent for long; the next request opens it again.
            answer = self.send(path, accept)
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status}: {answer.read()[:500]}")
        return answer

    def send(self, path, accept):
        self.connection.request("GET", path, headers={"Accept": accept})
        return self.connection.getresponse()

    def get(self, path, accept="application/json"):
        return self.ask(path, accept).read()

    def get_json(self, path):
        return json.loads(self.get(path))

    def save(self, path, file: Path, accept):
        answer = self.ask(path, accept)
        with file.open("wb") as out:
            while chunk := answer.read(1 << 20):
                out.write(chunk)

    def metric(self, name):
        """Of /metrics; 0 = it is not there."""
        found = re.search(rf"^{name} (\S+)$", self.get("/metrics", "*/*").decode(), re.MULTILINE)
        return float(found[1]) if found else 0

    def status_mib(self, name):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024

    def cpu_secs(self):
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / TICKS_PER_SEC
