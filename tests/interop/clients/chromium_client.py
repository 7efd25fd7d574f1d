"""Chromium without a window, driven through ChromeDriver (W3C WebDriver). Arguments are NAME=VALUE, see run.py.

The checks run in page.js. `origin-refused` and `event-source-refused` open the same page from another
origin. Standard library only.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

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
BROWSER_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--no-proxy-server",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_SECONDS = 30


class Browser:
    """One WebDriver session."""

    def __init__(self, driver_url, profile):
        self.url = driver_url
        chrome = {"binary": shutil.which("chromium"), "args": [*BROWSER_ARGUMENTS, f"--user-data-dir={profile}"]}
        capabilities = {"acceptInsecureCerts": True, "goog:chromeOptions": chrome}
        session = self.command("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.url += f"/session/{session['sessionId']}"
        self.command("POST", "/timeouts", {"script": PATIENCE_SECONDS * 1000})

    def command(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from error

    def open(self, url):
        self.command("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """The value of a script; of a promise, what it resolves to."""
        return self.command("POST", "/execute/sync", {"script": script, "args": list(arguments)})


@contextlib.contextmanager
def browser():
    profile = tempfile.mkdtemp(prefix="corewire-chromium-")
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        for line in driver.stdout:
            if "started successfully on port" in line:
                port = line.rstrip(".\n").rsplit(" ", 1)[1]
                break
        else:
            raise RuntimeError("chromedriver did not start")
        session = Browser(f"http://127.0.0.1:{port}", profile)
        try:
            yield session
        finally:
            session.command("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()
        shutil.rmtree(profile, ignore_errors=True)


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
    if not becomes(session, "return reconnecting.opened >= 1"):
        return "no first connection"
    ask("kill plain")
    if not becomes(session, "return reconnecting.codes.length >= 1"):
        return "the page did not see the connection end"
    if session.run("return reconnecting.codes[0]") != 1006:
        return "the kill looked like a closing handshake"
    ask("start plain")
    if not becomes(session, "return reconnecting.opened >= 2"):
        return "no second connection"
    return None


def becomes(session, script):
    """Whether the script is true before patience ends. Each question is a round trip to the browser."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        if session.run(script):
            return True
    return False


def ask(request):
    """Has run.py kill or start a server."""
    print(f"please {request}", flush=True)
    if sys.stdin.readline() != "done\n":
        raise RuntimeError(f"run.py did not {request}")


def report(name, failure):
    print(f"ok {name}" if failure is None else f"FAIL {name}: {failure}", flush=True)


if __name__ == "__main__":
    main()
