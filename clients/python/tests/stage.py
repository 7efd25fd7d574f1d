"""The real server, named by COREWIRE, and a proxy that cuts connections."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import socket
import sys
import time
import unittest
import urllib.request
from pathlib import Path

from corewire import Client

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests/support"))

PATIENCE = 20


def server(*options):
    from server import Server

    admin = [] if "--admin" in options else ["--admin", "off"]
    return Server("serve", "--demo", "--cores", "0", "--drain-time", "100ms", *admin, *options)


def free_port():
    """One that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ask_api(port, path, body):
    """What a back end does."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/v1/{path}", json.dumps(body).encode(), headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=PATIENCE) as response:
        return json.load(response)


def url_of(running):
    return f"ws://{running.address}/ws"


def connect(url, **options):
    """A client in a hurry, and what it tells."""
    told = []
    client = Client(url, on_event=told.append, **{"first_pause": 0.02, "longest_pause": 0.2, **options})
    client.told = told
    return client


async def until(what, is_so):
    give_up_at = time.monotonic() + PATIENCE
    while not is_so():
        if time.monotonic() > give_up_at:
            raise AssertionError(f"in vain: {what}")
        await asyncio.sleep(0.005)


class Proxy:
    """Passes bytes on until it cuts."""

    def __init__(self, running):
        self.host, port = running.address.rsplit(":", 1)
        self.port = int(port)
        self.writers = set()

    async def __aenter__(self):
        self.listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self.listener.sockets[0].getsockname()[1]}/ws"
        return self

    async def __aexit__(self, *_):
        self.listener.close()
        self.cut()

    async def serve(self, near_reader, near):
        far_reader, far = await asyncio.open_connection(self.host, self.port)
        self.writers |= {near, far}
        await asyncio.gather(self.pass_on(near_reader, far), self.pass_on(far_reader, near))
        self.writers -= {near, far}

    async def pass_on(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    def cut(self):
        for writer in self.writers:
            writer.transport.abort()


def scenario(test):
    def method(self):
        async def patiently():
            async with asyncio.timeout(2 * PATIENCE):
                await test(self)

        asyncio.run(patiently())

    return method


needs_server = unittest.skipUnless("COREWIRE" in os.environ, "COREWIRE names no server")

SECRET = "a secret of more than 32 bytes, which only tests may have"


def sign(claims, seconds=600, secret=SECRET):
    """A JSON Web Token, good for so long."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"exp": int(time.time()) + seconds, **claims}
    text = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    signature = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    return (text + b"." + part(signature)).decode()
