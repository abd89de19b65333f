"""Writes the history that the answers were recorded from, as OpenMetrics text."""

BEGIN = 1767225600  # 2026-01-01T00:00:00Z
TIMES = range(BEGIN, BEGIN + 4 * 3600 + 1, 60)
SCOPES = ["alpha", "beta", "a.b|c*", 'quo"te', "back\\slash", "line\nbreak", "ünï",
          "p+q(r)[s]{t}^$"]
VALUES = [("numbers", "big", 17179869184), ("numbers", "small", 1e-7), ("numbers", "zero", 0),
          ("numbers", "third", 0.1 + 0.2), ("numbers", "minus", -5.5),
          ("vast", "huge", 1.7976931348623157e28), ("vast", "tiny", 1.23456789012e-20)]


def escaped(text):
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def series(name, labels, times, value):
    text = ",".join(f'{label}="{escaped(of)}"' for label, of in labels.items())
    for time in times:
        print(f"{name}{{{text}}} {value(time)!r} {time}")


print("# TYPE instance_cpu gauge")
for number, scope in enumerate(SCOPES):
    for resource in range(2):
        labels = {"project_id": scope, "id": f"i{number}-{resource}"}
        if scope != "beta":
            labels["flavor"] = f"m{resource}"
        base = 1 + (number + 1) * (resource + 1) * 0.1
        series("instance_cpu", labels, TIMES, lambda time: base + (time - BEGIN) % 3600 / 7200)
series("instance_cpu", {"id": "nobody"}, TIMES, lambda time: 3)
print("# TYPE volume_bytes gauge")
for scope, name, value in VALUES:
    series("volume_bytes", {"project_id": scope, "id": name}, TIMES, lambda time: value)
print("# TYPE broken gauge")
series("broken", {"project_id": "numbers", "id": "n"}, TIMES, lambda time: float("nan"))
series("broken", {"project_id": "numbers", "id": "ok"}, TIMES, lambda time: 1)
print("# TYPE ended gauge")
series("ended", {"project_id": "gone", "job": "x"}, TIMES[:10], lambda time: 1)
series("ended", {"project_id": "other", "job": "y"}, TIMES[:10], lambda time: 1)
print("# EOF")
