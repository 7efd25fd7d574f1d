"""The tutorial, as somebody follows it: its blocks, in order, in an empty folder; then a look at its page.

A block ```sh is run to its end, ```sh background goes on running, ```sh restart ends the same command and starts it
again, and ```python backend.py is a file. Ports are replaced by free ones, because the usual ones may be taken.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from browser import browser
from server import REPOSITORY, binary, die_with_parent

PORTS = ["8080", "9090", "8000"]
PATIENCE_SECONDS = 20
MINUTE_OF_INSTALLING = 60


class Reader:
    """Who follows the tutorial."""

    def __init__(self, folder, text):
        self.folder = folder
        self.running = {}
        self.printed = {}
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS)))))
        for port, other in ports.items():
            text = re.sub(rf"\b{port}\b", other, text)
        self.page = f"http://127.0.0.1:{ports['8000']}"
        self.blocks = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        self.environment = {
            **os.environ,
            "CHECKOUT": str(REPOSITORY),
            # In the place of target/release, which may not be what is tested.
            "PATH": f"{binary().resolve().parent}:{os.environ['PATH']}",
            "COREWIRE_LISTEN": f"127.0.0.1:{ports['8080']}",
            "COREWIRE_ADMIN": f"127.0.0.1:{ports['9090']}",
            "COREWIRE_DRAIN_TIME": "500ms",
            "no_proxy": "127.0.0.1",
        }

    def follow(self):
        """Yields each command that is to be restarted, when it has ended, and when it runs again."""
        written = []
        for kind, word, text in self.blocks:
            if kind == "sh" and word == "background":
                self.start(text)
            elif kind == "sh" and word == "restart":
                yield "runs", text
                self.stop(text)
                yield "has ended", text
                self.start(text)
                yield "runs again", text
            elif kind == "sh":
                written.append(self.run(text))
            elif word:
                (self.folder / word).write_text(text)
        #: What the commands wrote that came to an end.
        self.written = "".join(written)

    def run(self, text):
        # What the exports say is in the environment, and the folder is there.
        lines = [line for line in text.splitlines() if not line.startswith(("mkdir", "export"))]
        done = subprocess.run(
            ["bash", "-euc", "\n".join(lines)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MINUTE_OF_INSTALLING,
        )
        assert done.returncode == 0, f"{text}{done.stdout}"
        return done.stdout

    def start(self, text):
        process = subprocess.Popen(
            ["bash", "-euc", f"exec {text}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=as_in_a_terminal,
        )
        lines = self.printed[text] = []

        def read():
            for line in process.stdout:
                lines.append(line)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        self.running[text] = (process, reader)
        if text.startswith("corewire"):
            self.sees(text, "listening on")

    def stop(self, text):
        process, reader = self.running.pop(text)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            seen = "".join(self.printed[text][-30:])
            raise AssertionError(f"{PATIENCE_SECONDS} s after Ctrl-C it still runs: {text}{seen}") from None
        reader.join()
        process.stdout.close()

    def sees(self, command, what):
        """Waits until a running command has printed it; returns everything that it printed."""
        text = next(text for text in self.running if command in text)
        until(lambda: any(what in line for line in self.printed[text]), what, self.printed[text])
        return list(self.printed[text])


def follow_tutorial():
    text = (REPOSITORY / "docs/TUTORIAL.md").read_text()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="corewire-tutorial-")))
        reader = Reader(folder, text)
        stack.callback(lambda: [reader.stop(running) for running in list(reader.running)])
        session = stack.enter_context(browser())
        for state, command in reader.follow():
            if "watch.py" in command:
                WATCHED[state](reader, session)
        assert '"offset":1' in reader.written, reader.written
        # The server has been restarted: it has forgotten everything, and all come back by themselves.
        reader.sees("watch.py", "some prices are lost")
        assert session.becomes("return document.querySelector('#notes').textContent.includes('some prices are lost')")
        assert session.becomes("return document.querySelector('#state').textContent === 'connected'")


def as_in_a_terminal():
    """For `preexec_fn`: Ctrl-C ends the command, also where whoever runs the tests was started in the background."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def look_at(reader, session):
    """The page and the watcher, before the first plug is pulled."""
    reader.sees("backend.py", "EURUSD")
    reader.sees("watch.py", "is number")
    session.open(reader.page)
    numbers = "[...document.querySelectorAll('td')].filter((cell) => /^number \\d+$/.test(cell.textContent))"
    assert session.becomes(f"return {numbers}.length === 3"), session.console()


def miss_some(reader, _):
    """Waits for prices that the watcher cannot see."""
    lines = next(reader.printed[text] for text in reader.running if "backend.py" in text)
    before = len(lines)
    until(lambda: sum("EURUSD" in line for line in lines[before:]) >= 2, "two more prices", lines)


def catch_up(reader, _):
    """What the watcher missed, it gets, and it goes on without a hole."""
    printed = reader.sees("watch.py", "back, with")
    count = int(printed[0].split()[2])
    assert count >= 2, printed
    is_number = lambda line: "is number" in line
    lines = next(reader.printed[text] for text in reader.running if "watch.py" in text)
    until(lambda: sum(map(is_number, lines)) > count, f"{count} prices and one more", lines)
    numbers = [int(line.split()[-1]) for line in list(lines) if is_number(line)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), lines


WATCHED = {"runs": look_at, "has ended": miss_some, "runs again": catch_up}


def until(is_so, what, seen):
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < give_up_at, f"never: {what}\n" + "".join(seen[-30:])
        time.sleep(0.01)


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
