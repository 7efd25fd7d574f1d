#!/usr/bin/env python3
"""What the server does where io_uring is refused: `auto` says so and serves on epoll, `io-uring` gives up and says why.

Standard library only. The last line is `N passed, N failed`.
"""

import base64
import os
import re
import socket
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

from server import START_SECONDS, Server, ServerError, binary, exit_on_sigterm

LAUNCHER = Path(__file__).with_name("deny-io-uring")
REASONS = {"EPERM": r"EPERM|not permitted", "ENOSYS": r"ENOSYS|not implemented"}
# What would mend it: for EPERM the sysctl or the profile that refuses, for ENOSYS a newer kernel or the profile.
MENDS = {"EPERM": r"seccomp|io_uring_disabled", "ENOSYS": r"seccomp|kernel"}
PROBE = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
for number in (425, 426, 427):
    if libc.syscall(number, 1, 0) != -1 or ctypes.get_errno() != int(sys.argv[1]):
        sys.exit(f"system call {number} was not refused with errno {sys.argv[1]}")
"""


def main():
    exit_on_sigterm()
    checks = {}
    for name, number in (("EPERM", 1), ("ENOSYS", 38)):
        checks[f"{name}: the launcher refuses io_uring"] = partial(launcher_refuses, name, number)
        checks[f"{name}: auto explains and serves on epoll"] = partial(auto_serves, name)
        checks[f"{name}: epoll serves without a complaint"] = partial(epoll_serves, name)
        checks[f"{name}: io-uring gives up and explains"] = partial(uring_gives_up, name)
    failed = 0
    for title, check in checks.items():
        try:
            check()
            print(f"ok    {title}")
        except (AssertionError, OSError, ServerError, subprocess.SubprocessError) as error:
            failed += 1
            print(f"FAIL  {title}: {error}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


def denied(errno_name, *command):
    return [sys.executable, str(LAUNCHER), "--errno", errno_name, *command]


def launcher_refuses(errno_name, number):
    subprocess.run(denied(errno_name, sys.executable, "-c", PROBE, str(number)), check=True)


def auto_serves(errno_name):
    with Server("echo", "--driver", "auto", launcher=denied(errno_name)) as server:
        echo(server.address, "grüße".encode())
        explains(server.log(), errno_name)
        expect(server.log(), "epoll", "the driver that serves instead")


def epoll_serves(errno_name):
    with Server("echo", "--driver", "epoll", launcher=denied(errno_name)) as server:
        echo(server.address, b"hello")
        assert not re.search("refused|seccomp", server.log()), f"complains: {server.log()}"


def uring_gives_up(errno_name):
    command = denied(errno_name, str(binary()), "echo", "--listen", "127.0.0.1:0", "--driver", "io-uring")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS)
    assert ended.returncode > 0, f"exit status {ended.returncode}"
    assert "listening" not in ended.stdout, "says it listens"
    assert "panicked" not in ended.stderr, f"panics: {ended.stderr}"
    explains(ended.stderr, errno_name)


def explains(log, errno_name):
    expect(log, "io_uring", "what was refused")
    expect(log, REASONS[errno_name], "why it was refused")
    expect(log, MENDS[errno_name], "what would mend it")


def expect(log, pattern, what):
    assert re.search(pattern, log, re.IGNORECASE), f"the log does not say {what} ({pattern}): {log!r}"


def echo(address, payload):
    """The least that a WebSocket client does (RFC 6455): upgrade, one masked text frame, the same back unmasked."""
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=START_SECONDS)
    with connection, connection.makefile("rb") as reply:
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        status = reply.readline()
        assert b" 101 " in status, f"no upgrade: {status!r}"
        while reply.readline() not in (b"\r\n", b""):
            pass
        mask = os.urandom(4)
        masked = bytes(octet ^ mask[index % 4] for index, octet in enumerate(payload))
        connection.sendall(struct.pack("BB", 0x81, 0x80 | len(payload)) + mask + masked)
        want = struct.pack("BB", 0x81, len(payload)) + payload
        got = reply.read(len(want))
        assert got == want, f"sent {want!r}, got {got!r}"


if __name__ == "__main__":
    sys.exit(main())
