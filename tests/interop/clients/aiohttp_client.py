"""The Python package `aiohttp`. Arguments are NAME=VALUE, see run.py.

It cannot send fragments, and shows the code but not the reason of the close that it receives.
"""

import contextlib
import ssl

import aiohttp
from checks import GIVEN, CLOSES, SIZES, TEXTS, octets, run_checks


@contextlib.asynccontextmanager
async def connected(url, **options):
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url, **{"autoping": False, "max_msg_size": 0, **options}) as socket:
            yield socket


async def echoes(socket, message):
    if isinstance(message, str):
        await socket.send_str(message)
        got = await socket.receive_str()
    else:
        await socket.send_bytes(message)
        got = await socket.receive_bytes()
    assert got == message, f"{len(got)} came back for {len(message)}, or others"


async def text():
    async with connected(GIVEN["plain"]) as socket:
        for message in TEXTS:
            await echoes(socket, message)


async def binary():
    async with connected(GIVEN["plain"]) as socket:
        for size in SIZES:
            await echoes(socket, octets(size))


async def pipelined():
    async with connected(GIVEN["plain"]) as socket:
        messages = [f"message {index}" for index in range(500)]
        for message in messages:
            await socket.send_str(message)
        assert [await socket.receive_str() for _ in messages] == messages


async def deflate():
    async with connected(GIVEN["plain"], compress=15) as socket:
        assert socket.compress, "not negotiated"
        for message in [*TEXTS, *map(octets, SIZES), "compressible " * 10_000]:
            await echoes(socket, message)


async def deflate_refused():
    async with connected(GIVEN["nodeflate"], compress=15) as socket:
        assert not socket.compress, "negotiated"
        await echoes(socket, "compressible " * 10_000)


async def deflate_not_offered():
    async with connected(GIVEN["plain"]) as socket:
        assert not socket.compress, "negotiated"
        await echoes(socket, "compressible " * 10_000)


async def ping():
    async with connected(GIVEN["plain"]) as socket:
        for payload in (b"", b"hello", b"x" * 125):
            await socket.ping(payload)
            pong = await socket.receive()
            assert (pong.type, bytes(pong.data)) == (aiohttp.WSMsgType.PONG, payload), f"{pong} for {payload}"


async def server_ping():
    async with connected(GIVEN["pinging"]) as socket:
        for _ in range(14):  # for longer than it may be silent
            ping = await socket.receive()
            assert ping.type == aiohttp.WSMsgType.PING, f"{ping} instead of a ping"
            await socket.pong(ping.data)
        await socket.send_str("still here")
        while (message := await socket.receive()).type == aiohttp.WSMsgType.PING:
            await socket.pong(message.data)
        assert message.data == "still here"


async def close():
    for code, reason in CLOSES:
        async with connected(GIVEN["plain"]) as socket:
            await socket.close(code=code, message=reason.encode())
            assert socket.close_code == code, f"{socket.close_code} came back for {code}"


async def too_big():
    async with connected(GIVEN["limited"]) as socket:
        await socket.send_bytes(octets(int(GIVEN["limit"]) + 1))
        closed = await socket.receive()
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1009), f"{closed}"


async def origin_allowed():
    async with connected(GIVEN["guarded"], origin=GIVEN["allowed"]) as socket:
        await echoes(socket, "hello")


async def origin_refused():
    try:
        async with connected(GIVEN["guarded"], origin=GIVEN["foreign"]):
            raise AssertionError("opened")
    except aiohttp.WSServerHandshakeError as refusal:
        assert refusal.status == 403, f"status {refusal.status}"


async def tls():
    context = ssl.create_default_context(cafile=GIVEN["ca"])
    async with connected(GIVEN["tls"], ssl=context, compress=15) as socket:
        for message in [*TEXTS, *map(octets, SIZES)]:
            await echoes(socket, message)
        await socket.close(code=1000)
        assert socket.close_code == 1000


run_checks(
    text,
    binary,
    pipelined,
    deflate,
    deflate_refused,
    deflate_not_offered,
    ping,
    server_ping,
    close,
    too_big,
    origin_allowed,
    origin_refused,
    tls,
)
