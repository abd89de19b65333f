"""Fills a new Gnocchi with what the recorded questions are about: one hour, 2026-01-01 00:00 to 01:00.

    history.py URL DATABASE_FOLDER

Basic authentication; PostgreSQL as the indexer, with its socket in DATABASE_FOLDER.
"""

import json
import subprocess
import sys
import urllib.request

URL, DATABASE = sys.argv[1:]


def ask(method, path, body=None):
    headers = {"Authorization": "basic YWRtaW46", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + "/v1" + path, data, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def sql(text):
    command = ["psql", "-h", DATABASE, "-U", "gnocchi", "-q", "-c", text, "gnocchi"]
    subprocess.run(command, check=True)


def policy(name, methods, granularities):
    definition = [{"granularity": secs, "points": 1000} for secs in granularities]
    ask("POST", "/archive_policy", {"name": name, "back_window": 0, "definition": definition,
                                    "aggregation_methods": methods})


def uuid(number):
    return f"00000000-0000-4000-8000-{number:012}"


def instance(number, project, values, policy="hourly", metric="cpu", **attributes):
    """Values are pairs of a minute and a text."""
    started = attributes.pop("started_at", "2025-12-01T00:00:00+00:00")
    ended = attributes.pop("ended_at", None)
    ask("POST", "/resource/instance", {
        "id": uuid(number), "project_id": project, "user_id": f"user-{number % 2}",
        "started_at": started, "metrics": {metric: {"archive_policy_name": policy}}, **attributes})
    # Gnocchi says "now", and that is long after the hour.
    sql(f"UPDATE resource SET revision_start = '{started}' WHERE id = '{uuid(number)}'")
    push(number, metric, values)
    if ended:
        # Not before: a measure that comes later takes the end back.
        ask("PATCH", f"/resource/instance/{uuid(number)}", {"ended_at": ended})
        change_at(number, ended)


def push(number, metric, values):
    measures = ",".join(
        '{"timestamp": "%s", "value": %s}' % (timestamp(minute), text) for minute, text in values)
    path = f"/v1/resource/instance/{uuid(number)}/metric/{metric}/measures"
    headers = {"Authorization": "basic YWRtaW46", "Content-Type": "application/json"}
    request = urllib.request.Request(URL + path, f"[{measures}]".encode(), headers, method="POST")
    urllib.request.urlopen(request).close()
    # `refresh` works in what has arrived before it answers.
    ask("GET", f"/resource/instance/{uuid(number)}/metric/{metric}/measures?refresh=true&limit=1")


def timestamp(minute):
    if minute >= 0:
        return f"2026-01-01T{minute // 60:02}:{minute % 60:02}:00+00:00"
    return f"2025-12-31T{(1440 + minute) // 60:02}:{minute % 60:02}:00+00:00"


def change(number, minute, **attributes):
    ask("PATCH", f"/resource/instance/{uuid(number)}", attributes)
    change_at(number, timestamp(minute))


def change_at(number, time):
    sql(f"UPDATE resource_history SET revision_end = '{time}' WHERE id = '{uuid(number)}' AND "
        f"revision = (SELECT max(revision) FROM resource_history WHERE id = '{uuid(number)}'); "
        f"UPDATE resource SET revision_start = '{time}' WHERE id = '{uuid(number)}'")


policy("hourly", ["mean", "max", "min", "rate:mean"], [3600])
policy("fine", ["mean", "max"], [300])
policy("averages", ["mean"], [3600])
ask("POST", "/resource_type", {"name": "instance", "attributes": {
    "flavor_id": {"type": "string", "required": False},
    "display_name": {"type": "string", "required": False},
    "ram": {"type": "number", "required": False},
    "is_windows": {"type": "bool", "required": False}}})

# Two of one project, one of which changes its flavor in the middle of the hour, and again later.
instance(1, "alpha", [(-30, "3"), (10, "1.5"), (40, "2.25")], flavor_id="small", ram=2048, is_windows=True)
instance(2, "alpha", [(-30, "1"), (5, "4"), (35, "8")], flavor_id="small", ram=4096.5, is_windows=False)
change(2, 30, flavor_id="large")
change(2, 240, flavor_id="huge")
# Nothing is known of it but its project.
instance(3, "beta", [(20, "0")])
# It ended four hours before, and is measured all the same; and one that ended within the hour.
instance(4, "beta", [(50, "7")], flavor_id="small", ended_at="2025-12-31T20:00:00+00:00")
instance(5, "beta", [(0, "6")], flavor_id="small", ended_at="2026-01-01T00:15:00+00:00")
# It was renamed after the hour.
instance(6, "renamed", [(15, "1")], flavor_id="small", display_name="old")
change(6, 90, display_name="new")
# Nobody's.
instance(7, None, [(15, "1")], flavor_id="small")
# Archive policies without the granularity or without the method.
instance(8, "fine", [(15, "1"), (21, "2")], policy="fine", flavor_id="small")
instance(9, "averages", [(15, "1")], policy="averages", flavor_id="small")
# Numbers.
for number, text in enumerate(["0.1", "1e-7", "17179869184", "-5.5", "0.30000000000000004"]):
    instance(20 + number, "numbers", [(15, text)], flavor_id=text)
instance(30, "vast", [(15, "1e40")], metric="vast", flavor_id="small")
instance(31, "wide", [(15, "1e21")], metric="vast", flavor_id="small")
# More than a page of Gnocchi's functional tests.
for number in range(100, 112):
    instance(number, "many", [(15, str(number))], flavor_id=f"flavor-{number}")
