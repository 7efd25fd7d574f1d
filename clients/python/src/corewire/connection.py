"""One WebSocket, from opening to its end: requests and their answers. Knows nothing of what comes before or after."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from .errors import CorewireError
from .policy import ABNORMAL

SUBPROTOCOL = Subprotocol("corewire.v1")

#: Called once, in order with the messages: with an error, or with the answer.
Answered = Callable[[CorewireError | None, dict[str, Any]], None]


class Socket(Protocol):
    """The part of a WebSocket that is used here."""

    @property
    def subprotocol(self) -> str | None: ...
    async def send(self, message: str) -> None: ...
    async def recv(self) -> str | bytes: ...
    async def close(self) -> None: ...


class Ended(Exception):
    """The connection, or the attempt to make one, is over."""

    def __init__(self, code: int, reason: str, retry_after: float = 0) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.retry_after = retry_after


async def open_socket(url: str, ping_interval: float, ping_timeout: float, options: dict[str, Any]) -> Socket:
    """A WebSocket whose peer is known to speak `corewire.v1`.

    Raises `Ended` if there is none.
    """
    given: dict[str, Any] = {
        "subprotocols": [SUBPROTOCOL],
        "ping_interval": ping_interval,
        "ping_timeout": ping_timeout,
        "open_timeout": None,  # the caller's
        "close_timeout": CLOSE_SECONDS,
        "max_size": MESSAGE_BYTES_MAX,
        **options,
    }
    try:
        # Not `async for`, whose pauses know nothing of close codes.
        socket: Socket = await connect(url, **given)
    except InvalidStatus as refusal:
        body = (refusal.response.body or b"").decode(errors="replace").strip()
        raise Ended(ABNORMAL, f"the server answered {refusal.response.status_code}: {body[:200]}") from refusal
    except InvalidURI:
        raise
    except (OSError, EOFError, InvalidHandshake) as error:
        raise Ended(ABNORMAL, f"no connection: {error}") from error
    if socket.subprotocol != SUBPROTOCOL:
        await socket.close()
        raise Ended(ABNORMAL, f"the server does not speak {SUBPROTOCOL} at this address")
    return socket


class Connection:
    """Sends in order what it is given, and answers what was asked."""

    def __init__(self, socket: Socket, heard: Callable[[dict[str, Any]], None]) -> None:
        self._socket = socket
        self._heard = heard
        self._requests: dict[int, Answered] = {}
        self._last_id = 0
        self._outbox: deque[str] = deque()
        self._has_work = asyncio.Event()

    @property
    def is_clogged(self) -> bool:
        """Whether so much waits to be sent that what is not urgent should not be added."""
        return len(self._outbox) >= OUTBOX_MAX

    def request(self, message: dict[str, Any], answered: Answered) -> int:
        """Sends a message with an `id`, which is returned. `answered` is called once, or not if it is forgotten."""
        request = self._last_id % ID_MAX + 1
        self.send({**message, "id": request})
        self._requests[request] = answered
        self._last_id = request
        return request

    def forget(self, request: int) -> None:
        """Nobody waits for this answer any more."""
        self._requests.pop(request, None)

    def send(self, message: dict[str, Any]) -> None:
        """Has it sent after everything else. Raises `TypeError` or `ValueError` for what JSON or UTF-8 cannot say."""
        present = {name: value for name, value in message.items() if value is not None or name == "data"}
        text = json.dumps(present, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
        self._outbox.append(text)
        self._has_work.set()

    async def run(self) -> None:
        """Reads and writes until the connection is over, which raises `Ended`."""
        writer = asyncio.create_task(self._write())
        try:
            while True:
                self._read(await self._socket.recv())
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                is_silent = closed.sent is not None and closed.sent.code == KEEPALIVE_FAILED
                raise Ended(ABNORMAL, "the server has fallen silent" if is_silent else str(closed)) from closed
            raise Ended(closed.rcvd.code, closed.rcvd.reason) from closed
        finally:
            writer.cancel()

    def lose(self) -> None:
        """Whoever waits for an answer is told that there will be none."""
        lost = CorewireError("connection_lost", "the connection ended before the answer came")
        while self._requests:
            _, answered = self._requests.popitem()
            answered(lost, {})

    async def _write(self) -> None:
        try:
            while True:
                await self._has_work.wait()
                self._has_work.clear()
                while self._outbox:
                    await self._socket.send(self._outbox.popleft())
        except ConnectionClosed:
            pass  # the reader knows why

    def _read(self, text: str | bytes) -> None:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise Ended(ABNORMAL, NO_MESSAGE)
        request = message.get("id")
        answered = self._requests.pop(request, None) if isinstance(request, int) else None
        if answered is None:
            try:
                self._heard(message)
            except (KeyError, TypeError) as error:
                raise Ended(ABNORMAL, NO_MESSAGE) from error
            return
        try:
            if message.get("type") == "error":
                answered(error_of(message), {})
            else:
                answered(None, message)
        except KeyError as error:
            raise Ended(ABNORMAL, NO_MESSAGE) from error


def error_of(message: dict[str, Any]) -> CorewireError:
    """What an `error` says."""
    retry_ms = message.get("retry_ms")
    return CorewireError(message["code"], message["message"], None if retry_ms is None else retry_ms / 1000)


NO_MESSAGE = "the server said something that is no message"
ID_MAX = 2**32 - 1
#: What `websockets` gives up with when no pong comes.
KEEPALIVE_FAILED = 1011
CLOSE_SECONDS = 1.0
#: The greatest message that a server sends unless it is told otherwise.
MESSAGE_BYTES_MAX = 16 << 20
OUTBOX_MAX = 1000
