"""Runs commands of the real clients, one after the other, and says what came of each.

`run.py GROUP` writes the entry points of a group as an object of JSON. `run.py` reads from standard
input `{"program", "options", "commands": [{"command", "learn"}]}` and writes a line of JSON for
each command: `{"command", "status", "output", "errors"}`.

`program` is a console script of this environment (`cloudkitty`, `openstack`). It is loaded once, by
a first run of the first command; each command then is a process of its own, forked off, so that
none is left anything by the one before.
`learn` names a column of the command's answer by a placeholder: {"svc": "Service ID"}; later
commands say `{svc}`.
"""

import contextlib
import io
import json
import os
import shlex
import sys
import tempfile
import traceback
from importlib import metadata


def entry_point(program):
    [script] = metadata.entry_points(group="console_scripts", name=program)
    return script.load()


def load(main, arguments):
    """Runs a command here, so that everything it needs has been imported."""
    sys.argv[:] = arguments
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main()


def run(main, arguments):
    """Exit status and what was written to standard output and error."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            try:
                # In place: who has imported it has this very list.
                sys.argv[:] = arguments
                sys.exit(main())
            except SystemExit as end:
                # What the interpreter itself does then.
                code = 0 if end.code is None else end.code
                if not isinstance(code, int):
                    print(code, file=sys.stderr)
                    code = 1
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, wait_status = os.waitpid(child, 0)
        output.seek(0)
        errors.seek(0)
        return os.waitstatus_to_exitcode(wait_status), output.read(), errors.read()


def main():
    plan = json.load(sys.stdin)
    program = plan["program"]
    script = entry_point(program)
    first = shlex.split(plan["commands"][0]["command"])
    load(script, [program, *plan["options"], *first])
    known = {}
    for step in plan["commands"]:
        words = shlex.split(step["command"])
        words = [known.get(word.strip("{}"), word) if word.startswith("{") else word for word in words]
        learn = step.get("learn", {})
        form = ["-f", "json"] if learn else []
        status, output, errors = run(script, [program, *plan["options"], *words, *form])
        if learn and status == 0:
            [row] = json.loads(output)
            known.update({name: row[column] for name, column in learn.items()})
        result = {"command": shlex.join(words), "status": status, "output": output, "errors": errors}
        print(json.dumps(result), flush=True)


if len(sys.argv) > 1:
    points = metadata.entry_points(group=sys.argv[1])
    print(json.dumps({point.name: point.value for point in points}))
else:
    main()
