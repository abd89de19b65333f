"""Sends every recorded request of a folder to a real server and writes down what it answers.

    record.py FOLDER URL [HEADER…]

NAME.request is a method and a path, an empty line, a body. NAME.answer is a status, headers that
matter, an empty line, a body. Headers are given as "Name: value".
"""

import pathlib
import sys
import urllib.error
import urllib.request

KEPT = ["link", "x-subject-token", "www-authenticate"]

folder, url, *headers = sys.argv[1:]
headers = dict(header.split(": ", 1) for header in headers)
headers |= {"Accept": "application/json", "Content-Type": "application/json"}

for path in sorted(pathlib.Path(folder).glob("*.request")):
    head, _, body = path.read_text().rstrip("\n").partition("\n\n")
    method, target = head.split(" ")
    request = urllib.request.Request(url + target, body.encode() or None, headers, method=method)
    try:
        answer = urllib.request.urlopen(request)
    except urllib.error.HTTPError as error:
        answer = error
    lines = [str(answer.status)]
    lines += [f"{name}: {answer.headers[name]}" for name in KEPT if answer.headers[name]]
    text = "\n".join(lines) + "\n\n" + answer.read().decode() + "\n"
    path.with_suffix(".answer").write_text(text)
    print(path.stem, answer.status)
