"""Serves Keystone's or Gnocchi's API for a test.

    serve.py MODULE HOST:PORT THREADS

MODULE is the program's own WSGI module; port 0 is any free one; requests beyond THREADS wait. What
is printed for each request, "METHOD PATH STATUS", lets a test count what was asked.
"""

import importlib
import importlib.metadata
import logging
import sys

import waitress


def say(line):
    # One write, so that lines of different threads do not mix.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def with_log(application):
    def logged(environ, start_response):
        def start(status, headers, error=None):
            path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
            say(f"{environ['REQUEST_METHOD']} {path} {status.split()[0]}")
            return start_response(status, headers, error)

        return application(environ, start)

    return logged


def main():
    module, address, threads = sys.argv[1:]
    program = module.split(".")[0]
    # Gnocchi reads its arguments when it is imported, and there are none.
    sys.argv = [program]
    # Warnings stay: they tell why a test fails.
    logging.disable(logging.INFO)
    # That a request waits for a thread is what THREADS says.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    application = importlib.import_module(module).application
    server = waitress.create_server(with_log(application), listen=address, threads=int(threads))
    version = importlib.metadata.version(program)
    say(f"serving {program} {version} on {server.effective_host}:{server.effective_port}")
    server.run()


main()
