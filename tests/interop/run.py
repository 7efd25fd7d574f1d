#!/usr/bin/env python3
"""Real clients against the real server, on io_uring and on epoll.

Installs what a client needs (npm and PyPI packages at pinned versions under target/interop, Chromium and a JDK by
apt-get); a client whose tools cannot be had fails. For each driver and client it starts the servers of SERVERS on
ports of their own choice and runs the client's program, which prints `ok CHECK` or `FAIL CHECK: reason`. A check
that a client does not report fails too. The last line is `N passed, N failed`. Standard library only.
"""

import argparse
import contextlib
import functools
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from install import Missing, install_node_modules, install_programs, install_venv  # noqa: E402
from server import REPOSITORY, Server, ServerError, binary, die_with_parent, exit_on_sigterm  # noqa: E402

CACHE = REPOSITORY / "target/interop"
VENV_PYTHON = CACHE / "venv/bin/python"
CLIENT_SECONDS = 180

MESSAGE_LIMIT = 65_536
TEXTS = ["", "hello", "Grüße, κόσμε, 世界, 🌍", "é" * 63, "語" * 30_000]
SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20]
CLOSES = [[1000, ""], [3000, "going"], [4999, "tschüß 🌍"]]

# Name by which a client knows the server: its command and options, besides the driver.
SERVERS = {
    "plain": ["echo", "--origin", "*", "--deflate", "shared"],
    "nodeflate": ["echo", "--origin", "*", "--deflate", "off"],
    "limited": ["echo", "--origin", "*", "--max-message-bytes", str(MESSAGE_LIMIT)],
    "guarded": ["echo", "--origin", "{allowed}"],
    "samehost": ["echo"],
    "pinging": ["echo", "--origin", "*", "--ping-interval", "200ms", "--idle-timeout", "2500ms"],
    "tls": ["echo", "--origin", "*", "--tls-cert", "{tls}/cert.pem", "--tls-key", "{tls}/key.pem"],
    "broadcast": ["broadcast", "--origin", "*"],
    "topics": ["serve", "--demo", "--origin", "{allowed}", "--max-lifetime", "1500ms", "--admin", "off"],
}

EVERY = {"text", "binary", "pipelined", "close", "too-big", "origin-allowed", "origin-refused", "tls"}
DEFLATE = {"deflate", "deflate-refused"}
PROBES = {"deflate-not-offered", "fragments", "ping"}


class Client:
    def __init__(self, command, install, checks):
        self.command = command
        self.install = install
        self.checks = checks


def main():
    options = parse_arguments()
    exit_on_sigterm()
    chosen = {name: CLIENTS[name] for name in options.client or CLIENTS}
    unavailable = install(chosen)
    if options.install_only:
        return 1 if unavailable else 0
    binary()  # without one nothing below makes sense
    passed = failed = 0
    # A port of its own makes an origin of its own.
    with pages() as allowed, pages() as foreign:
        origins = {"allowed": allowed, "foreign": foreign}
        for driver in ["io-uring", "epoll"] if options.driver == "both" else [options.driver]:
            for name, client in chosen.items():
                started = time.monotonic()
                if name in unavailable:
                    failures = {check: unavailable[name] for check in client.checks}
                else:
                    failures = run_client(client, driver, origins)
                for check, reason in sorted(failures.items()):
                    print(f"FAIL {driver} {name} {check}: {reason}")
                client_passed = len(client.checks - failures.keys())
                seconds = time.monotonic() - started
                print(f"{driver} {name}: {client_passed} passed, {len(failures)} failed; {seconds:.1f} s", flush=True)
                passed += client_passed
                failed += len(failures)
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", action="append", choices=CLIENTS, help="only this one; may be repeated")
    parser.add_argument("--driver", choices=["io-uring", "epoll", "both"], default="both")
    parser.add_argument("--install-only", action="store_true", help="install what the clients need and stop")
    return parser.parse_args()


# What clients need.


def install(clients):
    """Installs for every client; returns the names of those that cannot run, with the reason."""
    unavailable = {}
    CACHE.mkdir(parents=True, exist_ok=True)
    for name, client in clients.items():
        try:
            for step in client.install:
                step()
        except (Missing, OSError, subprocess.CalledProcessError) as error:
            unavailable[name] = f"cannot be installed: {error}"
            print(f"{name} {unavailable[name]}", file=sys.stderr)
    return unavailable


@functools.cache
def install_python():
    """The environment of the Python clients, and of the certificate that every client meets."""
    install_venv(CACHE / "venv", HERE / "requirements.txt")
    subprocess.run([VENV_PYTHON, HERE.parent / "support/make_cert.py", CACHE / "tls"], check=True)


@functools.cache
def install_node():
    install_node_modules(CACHE / "node", HERE / "node")


def install_program(programs, packages):
    """A step that has Debian's packages installed unless all the programs are there."""

    return functools.partial(install_programs, programs, packages, CACHE / "apt.log")


CLIENTS = {
    "ws": Client(
        ["node", HERE / "clients/ws_client.cjs"],
        [install_python, install_node],
        EVERY
        | DEFLATE
        | PROBES
        | {"server-ping", "close-reason", "close-without-code", "origin-same-host", "broadcast"},
    ),
    "websockets": Client(
        [VENV_PYTHON, HERE / "clients/websockets_client.py"],
        [install_python],
        EVERY | DEFLATE | PROBES | {"close-reason"},
    ),
    "aiohttp": Client(
        [VENV_PYTHON, HERE / "clients/aiohttp_client.py"],
        [install_python],
        EVERY | DEFLATE | {"deflate-not-offered", "ping", "server-ping"},
    ),
    "java": Client(
        ["java", "-Dfile.encoding=UTF-8", HERE / "clients/JavaClient.java"],
        [install_python, install_program(["java", "javac"], ["default-jdk-headless"])],
        EVERY | PROBES | {"server-ping", "close-reason"},
    ),
    "chromium": Client(
        [sys.executable, HERE / "clients/chromium_client.py"],
        [install_python, install_program(["chromium", "chromedriver"], ["chromium", "chromium-driver"])],
        EVERY
        | DEFLATE
        | {"server-ping", "close-reason", "close-without-code", "reconnect", "event-source", "event-source-refused"},
    ),
    # The page on the admin listener.
    "dashboard": Client(
        [sys.executable, HERE / "clients/dashboard_client.py"],
        [install_python, install_program(["chromium", "chromedriver"], ["chromium", "chromium-driver"])],
        {
            "page",
            "connections",
            "console",
            "phone",
            "quiet-console",
            "policy",
            "server-gone",
            "api-key",
            "without-topics",
        },
    ),
}


# Running them.


@contextlib.contextmanager
def pages():
    """Serves the browser's page; yields its origin."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=HERE / "clients")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages_server:
        threading.Thread(target=pages_server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{pages_server.server_port}"
        pages_server.shutdown()


def run_client(client, driver, origins):
    """Runs one client against fresh servers; returns the checks that failed, with reasons."""
    given = {
        **origins,
        "driver": driver,
        "ca": CACHE / "tls/cert.pem",
        "limit": MESSAGE_LIMIT,
        "texts": json.dumps(TEXTS, ensure_ascii=False),
        "sizes": json.dumps(SIZES),
        "closes": json.dumps(CLOSES, ensure_ascii=False),
    }
    reports = {}
    trouble = "the client did not report it"
    try:
        with contextlib.ExitStack() as stack:
            servers = {}
            for name, command in SERVERS.items():
                filled = [word.format(allowed=origins["allowed"], tls=CACHE / "tls") for word in command]
                servers[name] = stack.enter_context(Server(*filled, "--driver", driver))
                given[name] = servers[name].url
            talk(client, given, servers, reports)
    except (ServerError, OSError) as error:
        trouble = str(error)
        reports["servers"] = trouble
    failures = {check: reason for check, reason in reports.items() if reason is not None}
    failures.update({check: trouble for check in client.checks - reports.keys()})
    return failures


def talk(client, given, servers, reports):
    """Reads the client's reports until it ends, and does to the servers what it asks for."""
    arguments = [f"{name}={value}" for name, value in given.items()]
    process = subprocess.Popen(
        [*client.command, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NODE_PATH": str(CACHE / "node/node_modules"), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=die_with_parent,
    )
    watchdog = threading.Timer(CLIENT_SECONDS, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            verb, _, rest = line.rstrip("\n").partition(" ")
            if verb == "ok":
                reports.setdefault(rest, None)
            elif verb == "FAIL":
                check, _, reason = rest.partition(": ")
                reports[check] = reason
            elif verb == "please":
                action, server = rest.split()
                servers[server].kill() if action == "kill" else servers[server].restart()
                process.stdin.write("done\n")
                process.stdin.flush()
        if process.wait() != 0:
            reports["exit status"] = str(process.returncode)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        sys.exit(f"{error}")
