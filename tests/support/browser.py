"""Chromium without a window, driven through ChromeDriver (W3C WebDriver). Standard library only."""

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

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

    def __init__(self, driver_url, profile, arguments=()):
        self.url = driver_url
        given = [*BROWSER_ARGUMENTS, f"--user-data-dir={profile}", *arguments]
        chrome = {"binary": shutil.which("chromium"), "args": given}
        # ALL: what the page or the browser writes to the console is kept.
        logging = {"browser": "ALL"}
        wanted = {"acceptInsecureCerts": True, "goog:chromeOptions": chrome, "goog:loggingPrefs": logging}
        session = self.command("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
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

    def becomes(self, script, *arguments):
        """Whether the script is true before patience ends. Each question is a round trip to the browser."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up_at:
            if self.run(script, *arguments):
                return True
        return False

    def console(self):
        """What was written to the console since this was asked last: level and text."""
        return [(entry["level"], entry["message"]) for entry in self.command("POST", "/se/log", {"type": "browser"})]

    def devtools(self, name, **parameters):
        """A command of the Chrome DevTools Protocol."""
        return self.command("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def screenshot(self, path):
        """The whole page, as far as it can be scrolled."""
        shot = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def browser(*arguments):
    """Starts ChromeDriver and a session; `arguments` are for Chromium."""
    profile = tempfile.mkdtemp(prefix="corewire-chromium-")
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        for line in driver.stdout:
            if "started successfully on port" in line:
                port = line.rstrip(".\n").rsplit(" ", 1)[1]
                break
        else:
            raise RuntimeError("chromedriver did not start")
        session = Browser(f"http://127.0.0.1:{port}", profile, arguments)
        try:
            yield session
        finally:
            session.command("DELETE", "")
    finally:
        driver.terminate()
        driver.wait()
        shutil.rmtree(profile, ignore_errors=True)
