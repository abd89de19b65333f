"""Fills a new Keystone with what the recorded questions are about, and prints an administrator's token.

    world.py URL ADMIN_PASSWORD
"""

import json
import sys
import urllib.request

URL, PASSWORD = sys.argv[1:]
HEADERS = {"Content-Type": "application/json"}


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + "/v3" + path, data, HEADERS, method=method)
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
        return answer.headers, json.loads(text) if text else None


def make(kind, **attributes):
    return ask("POST", f"/{kind}s", {kind: attributes})[1][kind]["id"]


def login(user, password, project):
    default = {"id": "default"}
    return ask("POST", "/auth/tokens", {"auth": {
        "identity": {"methods": ["password"], "password": {
            "user": {"name": user, "domain": default, "password": password}}},
        "scope": {"project": {"name": project, "domain": default}}}})[0]["X-Subject-Token"]


HEADERS["X-Auth-Token"] = login("admin", PASSWORD, "admin")
roles = {role["name"]: role["id"] for role in ask("GET", "/roles")[1]["roles"]}
rating, admin = make("role", name="rating"), roles["admin"]
service = make("project", name="service", domain_id="default")
rated = make("user", name="rated", domain_id="default", password="change me")
reader = make("user", name="reader", domain_id="default", password="read me")
ask("PUT", f"/projects/{service}/users/{rated}/roles/{admin}")
ask("PUT", f"/projects/{service}/users/{reader}/roles/{roles['reader']}")

other = make("domain", name="other")
projects = {
    "blue": make("project", name="blue", domain_id="default"),
    "green": make("project", name="green", domain_id=other),
    "disabled": make("project", name="disabled", domain_id="default", enabled=False),
    "by-group": make("project", name="by-group", domain_id="default"),
    "member": make("project", name="member", domain_id="default"),
}
for name in ["blue", "green", "disabled"]:
    ask("PUT", f"/projects/{projects[name]}/users/{rated}/roles/{rating}")
ask("PUT", f"/projects/{projects['member']}/users/{rated}/roles/{roles['member']}")
group = make("group", name="raters", domain_id="default")
ask("PUT", f"/groups/{group}/users/{rated}")
ask("PUT", f"/projects/{projects['by-group']}/groups/{group}/roles/{rating}")
# Inherited by every project of the domain.
heirs = make("domain", name="heirs")
make("project", name="heir", domain_id=heirs)
ask("PUT", f"/OS-INHERIT/domains/{heirs}/users/{rated}/roles/{rating}/inherited_to_projects")
parent = make("project", name="parent", domain_id="default")
make("project", name="child", domain_id="default", parent_id=parent)
ask("PUT", f"/OS-INHERIT/projects/{parent}/users/{rated}/roles/{rating}/inherited_to_projects")

metric = make("service", type="metric", name="gnocchi")
for region in ["RegionOne", "Second"]:
    ask("POST", "/regions", {"region": {"id": region}})
    for interface in ["public", "internal", "admin"]:
        make("endpoint", service_id=metric, region_id=region, interface=interface,
             url=f"http://{interface}.{region.lower()}.test:8041")

HEADERS["X-Auth-Token"] = login("rated", "change me", "service")
credential = ask("POST", f"/users/{rated}/application_credentials", {
    "application_credential": {"name": "meter", "secret": "sesame"}})[1]
print("application credential", credential["application_credential"]["id"])
print(HEADERS["X-Auth-Token"])
