"""Serves Keystone's or Gnocchi's API for a test.

    serve.py MODULE HOST:PORT THREADS LOG

MODULE is the program's own WSGI module; port 0 is any free one; requests beyond THREADS wait. For
each request "METHOD PATH STATUS" stands in the file LOG before the answer is sent, so that a test
can count what was asked.
"""

import importlib
import importlib.metadata
import logging
import os
import sys

import waitress


def with_log(application, log):
    def logged(environ, start_response):
        def start(status, headers, error=None):
            path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
            line = f"{environ['REQUEST_METHOD']} {path} {status.split()[0]}\n"
            # Appended in one write: lines of different threads do not mix.
            os.write(log, line.encode())
            return start_response(status, headers, error)

        return application(environ, start)

    return logged


def main():
    module, address, threads, log = sys.argv[1:]
    program = module.split(".")[0]
    # Gnocchi reads its arguments when it is imported, and there are none.
    sys.argv = [program]
    # Warnings stay: they tell why a test fails.
    logging.disable(logging.INFO)
    # That a request waits for a thread is what THREADS says.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    application = importlib.import_module(module).application
    log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    application = with_log(application, log)
    server = waitress.create_server(application, listen=address, threads=int(threads))
    version = importlib.metadata.version(program)
    address = f"{server.effective_host}:{server.effective_port}"
    print(f"serving {program} {version} on {address}", flush=True)
    server.run()


main()
