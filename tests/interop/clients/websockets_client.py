"""The Python package `websockets`. Arguments are NAME=VALUE, see run.py."""

import ssl

from checks import GIVEN, CLOSES, SIZES, TEXTS, octets, run_checks
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def connected(url, **options):
    return connect(url, **{"compression": None, "max_size": None, "proxy": None, **options})


async def echoes(socket, message):
    await socket.send(message)
    got = await socket.recv()
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
            await socket.send(message)
        assert [await socket.recv() for _ in messages] == messages


async def deflate():
    async with connected(GIVEN["plain"], compression="deflate") as socket:
        assert "permessage-deflate" in socket.response.headers["Sec-WebSocket-Extensions"]
        for message in [*TEXTS, *map(octets, SIZES), "compressible " * 10_000]:
            await echoes(socket, message)


async def deflate_refused():
    async with connected(GIVEN["nodeflate"], compression="deflate") as socket:
        assert "Sec-WebSocket-Extensions" not in socket.response.headers
        await echoes(socket, "compressible " * 10_000)


async def deflate_not_offered():
    async with connected(GIVEN["plain"]) as socket:
        assert "Sec-WebSocket-Extensions" not in socket.response.headers
        await echoes(socket, "compressible " * 10_000)


async def fragments():
    for compression in (None, "deflate"):
        async with connected(GIVEN["plain"], compression=compression) as socket:
            message = "κόσμε 🌍"
            await socket.send([bytes([octet]) for octet in message.encode()], text=True)
            assert await socket.recv() == message
            parts = [octets(65_535), b"", octets(126)]
            await socket.send(parts)
            assert await socket.recv() == b"".join(parts)


async def ping():
    async with connected(GIVEN["plain"]) as socket:
        for payload in (b"", b"hello", b"x" * 125):
            await (await socket.ping(payload))  # ends when a pong with this payload has come


async def closed(code, reason):
    """What the server's close frame says."""
    async with connected(GIVEN["plain"]) as socket:
        await socket.close(code, reason)
        return socket.protocol.close_rcvd


async def close():
    for code, reason in CLOSES:
        got = await closed(code, reason)
        assert got.code == code, f"{got} came back for {code}"


async def close_reason():
    for code, reason in CLOSES:
        got = await closed(code, reason)
        assert got.reason == reason, f"{got} came back for {reason}"


async def too_big():
    async with connected(GIVEN["limited"]) as socket:
        try:
            await socket.send(octets(int(GIVEN["limit"]) + 1))
            await socket.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd and closed.rcvd.code == 1009, f"closed with {closed.rcvd}"
        else:
            raise AssertionError("an echo instead of a close")


async def origin_allowed():
    async with connected(GIVEN["guarded"], origin=GIVEN["allowed"]) as socket:
        await echoes(socket, "hello")


async def origin_refused():
    try:
        async with connected(GIVEN["guarded"], origin=GIVEN["foreign"]):
            raise AssertionError("opened")
    except InvalidStatus as refusal:
        assert refusal.response.status_code == 403, f"status {refusal.response.status_code}"


async def tls():
    context = ssl.create_default_context(cafile=GIVEN["ca"])
    async with connected(GIVEN["tls"], ssl=context, compression="deflate") as socket:
        for message in [*TEXTS, *map(octets, SIZES)]:
            await echoes(socket, message)
        await socket.close(1000)
        assert socket.protocol.close_rcvd.code == 1000


run_checks(
    text,
    binary,
    pipelined,
    deflate,
    deflate_refused,
    deflate_not_offered,
    fragments,
    ping,
    close,
    close_reason,
    too_big,
    origin_allowed,
    origin_refused,
    tls,
)
