"""Starts the real server for a test, and always stops it.

    with Server("echo", "--driver", "epoll") as server:
        talk_to(server.url)

Leaving the block sends SIGTERM and demands exit status 0: every test that uses it also tests the drain.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 20
STOP_SECONDS = 20
PR_SET_PDEATHSIG = 1


class ServerError(Exception):
    """The server did not do what its command line promises."""


def binary():
    """The server under test: $COREWIRE, or the release or debug build."""
    if "COREWIRE" in os.environ:
        return Path(os.environ["COREWIRE"])
    for profile in ("release", "debug"):
        path = REPOSITORY / "target" / profile / "corewire"
        if path.exists():
            return path
    raise ServerError("no corewire binary: run `cargo build --release` or set COREWIRE")


def exit_on_sigterm():
    """Turns SIGTERM into an exception, so that `with` blocks clean up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def die_with_parent():
    """For `preexec_fn`: the kernel kills this child if the test runner itself is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """One running `corewire` on a port of its own choice."""

    def __init__(self, command, *options, listen="127.0.0.1:0", launcher=()):
        self.command = [*launcher, str(binary()), command, *options]
        self.listen = listen
        self.process = None
        self.url = None

    @property
    def address(self):
        """`HOST:PORT`."""
        return self.url.split("://", 1)[1].rstrip("/")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, exception_type, *_):
        if exception_type is None:
            self.stop()
        else:
            self.kill()

    def start(self):
        """Returns when the server has printed where it listens."""
        self.log_file = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*self.command, "--listen", self.listen],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log_file,
            preexec_fn=die_with_parent,
        )
        line = self._first_line()
        if not line.startswith("listening on "):
            self.kill()
            raise ServerError(f"{self._shown()} said {line!r} instead of where it listens\n{self.log()}")
        self.url = line[len("listening on ") :].strip()

    def _first_line(self):
        """The first line of standard output, or what there is of it when the server ends or takes too long."""
        give_up_at = time.monotonic() + START_SECONDS
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0, give_up_at - time.monotonic()))[0]:
                break
            chunk = os.read(self.process.stdout.fileno(), 1)
            if not chunk:
                break
            line += chunk
        return line.decode(errors="replace")

    def restart(self):
        """Starts it again after `kill`, where it listened before."""
        self.listen = self.address
        self.start()

    def stop(self):
        """Asks it to drain; anything but exit status 0 in good time is an error."""
        if self.process.poll() is not None:
            status = self.process.returncode
            self.kill()
            raise ServerError(f"{self._shown()} ended by itself with status {status}\n{self.log()}")
        self.process.terminate()
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError(f"{self._shown()} still ran {STOP_SECONDS} s after SIGTERM\n{self.log()}") from None
        self.kill()
        if status != 0:
            raise ServerError(f"{self._shown()} ended with status {status} after SIGTERM\n{self.log()}")

    def kill(self):
        """Ends it at once, without a word to its clients."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def log(self):
        """What it has written to standard error."""
        self.log_file.seek(0)
        return self.log_file.read().decode(errors="replace")

    def _shown(self):
        return " ".join(self.command)
