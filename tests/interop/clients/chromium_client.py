"""Chromium without a window. Arguments are NAME=VALUE, see run.py.

The checks run in page.js. `origin-refused` and `event-source-refused` open the same page from another
origin. Standard library only.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
from browser import browser  # noqa: E402

GIVEN = dict(argument.split("=", 1) for argument in sys.argv[1:])
CHECKS = [
    "text",
    "binary",
    "pipelined",
    "deflate",
    "deflate-refused",
    "server-ping",
    "close",
    "close-reason",
    "close-without-code",
    "too-big",
    "origin-allowed",
    "tls",
    "event-source",
]


def main():
    given = {name: json.loads(value) if value[:1] == "[" else value for name, value in GIVEN.items()}
    with browser() as session:
        session.open(f"{GIVEN['allowed']}/page.html")
        for name in CHECKS:
            report(name, session.run("return check(arguments[0], arguments[1])", name, given))
        report("reconnect", reconnect(session))
        session.open(f"{GIVEN['foreign']}/page.html")
        for name in ["origin-refused", "event-source-refused"]:
            report(name, session.run("return check(arguments[0], arguments[1])", name, given))


def reconnect(session):
    """The server is killed and started again; the page notices both. Returns what went wrong, or None."""
    session.run("reconnecting.start(arguments[0])", GIVEN["plain"])
    if not session.becomes("return reconnecting.opened >= 1"):
        return "no first connection"
    ask("kill plain")
    if not session.becomes("return reconnecting.codes.length >= 1"):
        return "the page did not see the connection end"
    if session.run("return reconnecting.codes[0]") != 1006:
        return "the kill looked like a closing handshake"
    ask("start plain")
    if not session.becomes("return reconnecting.opened >= 2"):
        return "no second connection"
    return None


def ask(request):
    """Has run.py kill or start a server."""
    print(f"please {request}", flush=True)
    if sys.stdin.readline() != "done\n":
        raise RuntimeError(f"run.py did not {request}")


def report(name, failure):
    print(f"ok {name}" if failure is None else f"FAIL {name}: {failure}", flush=True)


if __name__ == "__main__":
    main()
