"""The page on the admin listener, in Chromium without a window. Arguments are NAME=VALUE, see run.py.

It starts servers of its own, with an admin listener. `shots=DIRECTORY` keeps a picture of the page, wide and phone, light
and dark, for people to look at. Standard library only.
"""

import base64
import contextlib
import os
import re
import socket
import struct
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
from browser import browser  # noqa: E402
from server import Server  # noqa: E402

GIVEN = dict(argument.split("=", 1) for argument in sys.argv[1:])
KEY = "a-key-that-is-long-enough"
STATE = "return document.getElementById('state').textContent"
TILE_SAYS = """
  const tiles = [...document.querySelectorAll('.tile')].map((tile) => [...tile.children].map((part) => part.textContent));
  return tiles.some(([name, value]) => name === arguments[0] && value === arguments[1])
"""
IS_DRAWN = """
  const { canvas } = plots[0];
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return arguments[0].some(([r, g, b]) => {
    for (let i = 0; i < pixels.length; i += 4) if (pixels[i] === r && pixels[i + 1] === g && pixels[i + 2] === b) return true;
  })
"""
# --c1, in which cold connections are drawn, light and dark.
COLD = [[0x0E, 0x80, 0x72], [0x4B, 0xBF, 0xAE]]
SIZES = {"wide": (1440, 900, False), "phone": (390, 844, True)}
START_SECONDS = 20


class Peer:
    """A raw WebSocket, as far as this test needs one."""

    def __init__(self, server, path):
        host, port = server.address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {server.address}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode(),
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self.reader = self.socket.makefile("rb")
        status = self.reader.readline()
        if b" 101 " not in status:
            raise RuntimeError(f"{path} was answered {status!r}")
        while self.reader.readline() != b"\r\n":
            pass

    def send(self, text):
        self.send_frame(0x1, text.encode())

    def close(self, code):
        self.send_frame(0x8, struct.pack(">H", code))
        self.reader.read()
        self.socket.close()

    def send_frame(self, opcode, payload):
        assert len(payload) < 126
        # A key of zeros leaves the payload as it is.
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    def text(self):
        opcode, size = self.reader.read(2)
        assert opcode == 0x81 and size < 126, (opcode, size)
        return self.reader.read(size).decode()


@contextlib.contextmanager
def served(command, *options):
    """A server and the address of its admin listener."""
    with Server(command, "--driver", GIVEN["driver"], "--admin", "127.0.0.1:0", *options) as server:
        give_up_at = time.monotonic() + START_SECONDS
        while not (found := re.search(r"admin on (http://\S+)", server.log())):
            assert time.monotonic() < give_up_at, server.log()
            time.sleep(0.01)
        yield server, found[1]


def main():
    with browser() as session, served("serve", "--demo") as (server, admin):
        look(session, "wide")
        session.open(admin)
        check("page", page, session, admin)
        check("axes", axes, session)
        check("connections", connections, session, server)
        check("console", console, session, server)
        check("phone", phone, session)
        pictures(session)
        check("quiet-console", quiet_console, session)
        check("policy", policy, session)
        check("server-gone", server_gone, session, server)
    with browser() as session:
        check("api-key", api_key, session)
        check("without-topics", without_topics, session)


def page(session, admin):
    expect(session.run("return location.href"), admin + "/dashboard")
    until(session, f"{STATE} === 'live'")
    with urllib.request.urlopen(admin) as index:
        expect(index.headers["Content-Type"], "text/plain; charset=utf-8")


def axes(session):
    """Labels say what stands there: `0.3` for a quarter would be wrong, and is odd where all is zero."""
    labels = """
      const { step, top } = scale(arguments[0]);
      const labels = [];
      for (let value = 0; value <= top * 1.001; value += step) labels.push(count(value));
      return labels.join(' ')
    """
    wanted = {0: "0 1", 0.02: "0 0.5 1", 0.97: "0 0.5 1", 1: "0 1 2", 3: "0 1 2 3 4", 9: "0 2.5 5 7.5 10", 40: "0 10 20 30 40 50"}
    for most, want in wanted.items():
        expect(session.run(labels, most), want)



def connections(session, server):
    """What a test has opened and closed is what the page shows."""
    peers = [Peer(server, f"/ws?topic=room:{index % 3}") for index in range(12)]
    until(session, TILE_SAYS, "Connections", "12")
    until(session, TILE_SAYS, "Subscriptions", "12")
    for peer in peers[:2]:
        peer.close(1001)
    until(session, "return /1001 going away2/.test(document.getElementById('closes').textContent)")
    until(session, TILE_SAYS, "Connections", "10")
    until(session, IS_DRAWN, COLD)
    until(session, "return /[1-9]/.test(document.getElementById('memory-each').textContent)")
    cores = session.run("return [...document.querySelectorAll('.core')].map((core) => core.textContent)")
    assert cores and all(re.fullmatch(r"core \d+ open(\d+ %|–)", core) for core in cores), cores
    until(session, "return last.loads.every((load) => load !== null)")
    for index in range(40):
        peers[2].send(f"message {index}")
    until(session, "return document.getElementById('topics').textContent.includes('room:2')")
    for peer in peers[2:]:
        peer.close(1000)


def console(session, server):
    """The console publishes to subscribers, and hears what they and it publish."""
    fill(session, "listen-subject", "lobby:*")
    submit(session, "listen")
    until(session, "return recent.length > 0 && document.getElementById('listening').textContent === 'listening to lobby:*'")
    # The question that carries the new subject must have reached the homes.
    session.run("wakeTopics(); return ask('dashboard/topics?' + new URLSearchParams({ watcher, hear: 'lobby:*' }))")
    peer = Peer(server, "/ws?topic=lobby:a")
    fill(session, "publish-topic", "lobby:a")
    fill(session, "publish-data", '{"text": "from the page"}')
    submit(session, "publish")
    until(session, "return document.getElementById('published').textContent === 'published as #1, 1 of 1 subscribers reached'")
    expect(peer.text(), '{"text":"from the page"}')
    peer.send("from a client")
    expect(peer.text(), "from a client")
    until(session, "return heard.children.length === 2")
    newest, oldest = session.run("return [...heard.children].map((item) => item.lastChild.textContent)")
    expect((newest, oldest), ("lobby:a#2from a client", 'lobby:a#1{"text":"from the page"}'))
    peer.close(1000)
    # What is wrong is told.
    fill(session, "publish-topic", "lobby:")
    submit(session, "publish")
    until(session, "return /^not published: .*empty/.test(document.getElementById('published').textContent)")
    expect([level for level, text in session.console() if "400" not in text], [])
    submit(session, "listen")


def phone(session):
    for name in SIZES:
        look(session, name)
        until(session, "return plots.every((plot) => plot.canvas.width > 0)")
        wide, shown = session.run("return [document.documentElement.scrollWidth, innerWidth]")
        assert wide <= shown, f"{name}: the page is {wide} wide, the window {shown}"


def pictures(session):
    if "shots" not in GIVEN:
        return
    for name in SIZES:
        for scheme in ("light", "dark"):
            look(session, name, scheme)
            time.sleep(1.5)
            session.screenshot(Path(GIVEN["shots"]) / f"dashboard-{name}-{scheme}.png")
    look(session, "wide")


def quiet_console(session):
    expect(session.console(), [])


def policy(session):
    """A script that got into the page would not run, nor reach another place."""
    session.run("const s = document.createElement('script'); s.textContent = 'window.intruder = 1'; document.body.append(s)")
    expect(session.run("return window.intruder ?? null"), None)
    refused = "return fetch(arguments[0]).then(() => 'reached', () => 'refused')"
    expect(session.run(refused, "http://127.0.0.1:9/"), "refused")
    assert any("Content Security Policy" in text for _, text in session.console())


def server_gone(session, server):
    server.kill()
    until(session, f"{STATE}.startsWith('no answer')")
    server.start()


def api_key(session):
    """With a key, who does not have it sees nothing."""
    with served("serve", "--api-key", KEY) as (_, admin):
        for path in ("/dashboard/figures", "/dashboard/topics?watcher=1"):
            expect(status_of(admin + path), 401)
            expect(status_of(admin + path, KEY), 200)
        expect(status_of(admin + "/dashboard"), 200)
        session.open(admin + "/dashboard")
        until(session, "return document.getElementById('ask').open")
        expect(session.run("return [last, document.getElementById('tiles').textContent]"), [None, ""])
        fill(session, "ask-key", KEY[:-1])
        submit(session, "ask-form")
        until(session, "return /not one of/.test(document.getElementById('ask-why').textContent)")
        fill(session, "ask-key", KEY)
        submit(session, "ask-form")
        until(session, f"{STATE} === 'live'")
        expect(session.run("return [document.getElementById('ask').open, localStorage.length, document.cookie]"), [False, 0, ""])


def without_topics(session):
    """`corewire echo` has neither topics nor a console."""
    with served("echo") as (server, admin):
        peer = Peer(server, "/")
        session.open(admin + "/dashboard")
        until(session, TILE_SAYS, "Connections", "1")
        hidden = "return ['console', 'topics-card'].map((id) => document.getElementById(id).hidden)"
        expect(session.run(hidden), [True, True])
        peer.close(1000)


def status_of(url, key=None):
    request = urllib.request.Request(url, headers={"X-API-Key": key} if key else {})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def look(session, name, scheme="light"):
    width, height, mobile = SIZES[name]
    session.devtools(
        "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1.5, mobile=mobile
    )
    session.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def fill(session, name, text):
    session.run("document.getElementById(arguments[0]).value = arguments[1]", name, text)


def submit(session, name):
    session.run("document.getElementById(arguments[0]).requestSubmit()", name)


def until(session, script, *arguments):
    assert session.becomes(script, *arguments), f"never came true: {script.strip()} {arguments or ''}"


def expect(got, want):
    assert got == want, f"got {got!r}, wanted {want!r}"


def check(name, call, *arguments):
    try:
        call(*arguments)
    except (AssertionError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return print(f"FAIL {name}: {reason}", flush=True)
    print(f"ok {name}", flush=True)


if __name__ == "__main__":
    main()
