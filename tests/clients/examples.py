"""The examples of both clients, together: pages in Chromium, programs in a terminal, one server."""

import contextlib
import functools
import http.server
import os
import subprocess
import threading
import time

from browser import browser
from server import REPOSITORY, Server, die_with_parent

PATIENCE_SECONDS = 20


class Stage:
    def __init__(self, server, pages, session, python, stack):
        self.server = server
        self.pages = pages
        self.session = session
        self.python = python
        self.stack = stack

    @property
    def url(self):
        return f"ws://{self.server.address}/ws"

    def open(self, page):
        self.session.open(f"{self.pages}/clients/js/examples/{page}?server={self.url}")

    def sees(self, script, *arguments):
        """Waits until it is true in the page."""
        assert self.session.becomes(f"return {script}", *arguments), f"never: {script}\n{self.session.console()}"

    def program(self, name, *arguments):
        return self.stack.enter_context(Program([self.python, f"clients/python/examples/{name}", *arguments, self.url]))


class Program:
    """An example in a terminal."""

    def __init__(self, words):
        self.words = words
        self.lines = []

    def __enter__(self):
        self.process = subprocess.Popen(
            self.words,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / "clients/python/src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        return self

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()

    def types(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def prints(self, what):
        """Waits until a line has it."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not any(what in line for line in self.lines):
            assert time.monotonic() < give_up_at, f"never: {what}\n" + "\n".join(self.lines[-30:])
            time.sleep(0.01)


@contextlib.contextmanager
def played(python):
    """A server, a place that serves the pages, a browser."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=REPOSITORY)
    with contextlib.ExitStack() as stack:
        pages = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        stack.callback(pages.shutdown)
        origin = f"http://127.0.0.1:{pages.server_port}"
        words = ["serve", "--demo", "--admin", "off", "--drain-time", "100ms", "--origin", origin]
        server = stack.enter_context(Server(*words))
        yield Stage(server, origin, stack.enter_context(browser()), python, stack)


def chat(stage):
    stage.open("chat.html")
    stage.sees("document.title === 'Chat, connected'")
    terminal = stage.program("chat.py", "ada")
    terminal.types("hello from the terminal")
    stage.sees("document.querySelector('#log').textContent.includes('ada: hello from the terminal')")
    stage.session.run(
        "const { from, text } = document.forms[0].elements;"
        "from.value = 'bob'; text.value = 'hello from the page'; document.forms[0].requestSubmit();"
    )
    terminal.prints("bob: hello from the page")
    stage.sees("document.forms[0].elements.text.value === ''")
    # The server goes and comes back while both are there.
    stage.server.kill()
    stage.sees("document.title !== 'Chat, connected'")
    stage.server.restart()
    stage.sees("document.title === 'Chat, connected'")
    stage.sees("document.querySelector('#log').textContent.includes('something may be missing')")
    terminal.prints("(something may be missing here)")
    terminal.types("still here")
    stage.sees("document.querySelector('#log').textContent.includes('ada: still here')")


def prices(stage):
    stage.open("prices.html")
    stage.sees("document.querySelector('#state').textContent === 'connected'")
    terminal = stage.program("prices.py")
    stage.sees("document.querySelectorAll('#prices tr').length === 3")
    before = stage.session.run("return document.querySelector('#prices').innerText")
    stage.sees("document.querySelector('#prices').innerText !== arguments[0]", before)
    terminal.prints("prices:EURUSD 1.")


def cursors(stage):
    stage.open("cursors.html")
    terminal = stage.program("cursors.py")
    stage.sees("document.querySelector('b')?.textContent === '◎ robot'")
    before = stage.session.run("return document.querySelector('b').style.translate")
    stage.sees("document.querySelector('b').style.translate !== arguments[0]", before)
    stage.session.run("document.onpointermove({ clientX: innerWidth / 2, clientY: innerHeight / 4 })")
    terminal.prints("is at [0.5, 0.25]")


CHECKS = {"chat": chat, "prices": prices, "cursors": cursors}
