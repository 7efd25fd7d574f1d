"""What the tests put in the place of the world: a WebSocket that does as it is told, and time that passes by itself."""

import asyncio
import json
import selectors
from unittest import mock

from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from corewire import Client, Message
from corewire.connection import Ended


class _Selector(selectors.DefaultSelector):
    """Waits for nothing: the loop's clock jumps to where it would wake up."""

    loop = None

    def select(self, timeout=None):
        if timeout is None:
            raise AssertionError("nothing will ever happen any more")
        self.loop.now += timeout
        return super().select(0)


class TimelessLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        selector = _Selector()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self):
        return self.now


def run(coroutine):
    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        return runner.run(coroutine)


class FakeSocket:
    subprotocol = "corewire.v1"

    def __init__(self):
        self.sent = []
        self.inbox = asyncio.Queue()
        self.is_closed = False

    async def send(self, text):
        self.sent.append(json.loads(text))

    async def recv(self):
        item = await self.inbox.get()
        if isinstance(item, Exception):
            self.is_closed = True
            raise item
        return item

    async def close(self):
        self.is_closed = True

    # What the other side does.

    def says(self, message):
        self.inbox.put_nowait(message if isinstance(message, str) else json.dumps(message))

    def ends(self, code=None, reason=""):
        self.inbox.put_nowait(ConnectionClosedError(code and Close(code, reason), None))

    def acks(self, message, **fields):
        self.says({"type": "ack", "id": message["id"], **fields})

    def refuses(self, message, code, **fields):
        self.says({"type": "error", "id": message["id"], "code": code, "message": f"no: {code}", **fields})

    async def take(self, kind):
        """The first message of this type that has not been taken; waits for it."""
        for _ in range(100_000):
            for index, message in enumerate(self.sent):
                if message["type"] == kind:
                    return self.sent.pop(index)
            await asyncio.sleep(0.001)
        raise AssertionError(f"the client sent no {kind}, but {self.sent}")

    async def accepts(self, **ack):
        self.acks(await self.take("connect"), connection="0-1-1", **ack)
        await settle()


class World:
    """A client, the sockets that it opens, and what it tells."""

    def __init__(self, url="ws://server/ws", **options):
        self.sockets = []
        self.told = []
        self.is_down = False
        self.client = Client(url, on_event=self.told.append, **options)

    async def _open(self, *_):
        if self.is_down:
            raise Ended(1006, "no connection: down")
        self.sockets.append(FakeSocket())
        return self.sockets[-1]

    async def __aenter__(self):
        self.patch = mock.patch("corewire.client.open_socket", self._open)
        self.patch.start()
        self.client.reconnect()
        await settle()
        return self

    async def __aexit__(self, *_):
        try:
            await self.client.close()
        finally:
            self.patch.stop()
        assert all(socket.is_closed for socket in self.sockets), "a socket was left open"

    @property
    def socket(self):
        return self.sockets[-1]

    async def next_socket(self):
        """The one after the newest."""
        count = len(self.sockets)
        for _ in range(100_000):
            if len(self.sockets) > count:
                return self.socket
            await asyncio.sleep(0.001)
        raise AssertionError("the client did not come back")

    def of(self, kind):
        return [event for event in self.told if isinstance(event, kind)]


class Ear:
    """Reads a subscription to its end."""

    def __init__(self, subscription):
        self.subscription = subscription
        self.events = []
        self.error = None
        self.task = asyncio.create_task(self._listen())

    async def _listen(self):
        try:
            async for event in self.subscription:
                self.events.append(event)
        except Exception as error:
            self.error = error

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def datas(self):
        return [event.data for event in self.of(Message)]

    @property
    def names(self):
        return [type(event).__name__ for event in self.events]


async def settle():
    """Lets everything happen that waits for nothing but its turn."""
    for _ in range(50):
        await asyncio.sleep(0)
