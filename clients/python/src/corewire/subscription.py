"""A subscription, which outlives connections."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

from .connection import Answered
from .errors import CorewireError
from .events import Event, Gap, Join, Leave, Message, Position, Subscribed
from .policy import pause

TopicToken = str | Callable[[str], str | Awaitable[str]]


class Link(Protocol):
    """What a subscription needs of the client."""

    first_pause: float
    longest_pause: float

    def request(self, message: dict[str, Any], answered: Answered) -> None: ...
    def ask(self, source: Callable[[], str | None | Awaitable[str | None]], told: Told) -> None: ...
    def forget(self, subscription: Subscription) -> None: ...


Told = Callable[[CorewireError | None, str | None], None]


class State(enum.Enum):
    """`SUBSCRIBING` is also: there is no connection now."""

    SUBSCRIBING = "subscribing"
    SUBSCRIBED = "subscribed"
    #: The application reads too slowly: the server is asked again when it has read what waits here.
    PAUSED = "paused"
    ENDED = "ended"


class Subscription:
    """A topic or a pattern. After each loss it begins again with what was missed; if that is not to be had, there is a
    `Gap`.

    `async for event in subscription` gives everything in order, `subscription.messages()` only messages. One reader.
    """

    def __init__(
        self,
        topic: str,
        link: Link,
        presence: bool = False,
        token: TopicToken | None = None,
        recover: Position | None = None,
        max_queued: int = 10_000,
    ) -> None:
        self.topic = topic
        self.is_pattern = "*" in topic
        self._link = link
        self._wants_presence = presence
        self._token = token
        #: The last publication that was put into the queue, and the last that was taken out.
        self._position = self._read_position = recover
        self._max_queued = max_queued
        self._state = State.SUBSCRIBING
        self._has_begun = False
        self._is_online = False
        #: What is older was heard already by those who heard it live.
        self._live_after = 0
        self._attempt = 0
        #: Each start and each end begins a new turn; what belongs to an earlier one is too late.
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None
        #: Whether the server may know of it.
        self._is_asked = False
        #: Which tokens were refused since it last began: the last one, or none.
        self._refused: list[str | None] = []
        self._queue: deque[Event] = deque()
        self._reader: asyncio.Future[None] | None = None
        #: Why nothing more will come.
        self._end: CorewireError | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def state(self) -> State:
        return self._state

    @property
    def position(self) -> Position | None:
        """The last publication that the application has read; kept, it makes a good `recover` for later."""
        return self._read_position

    async def ready(self) -> None:
        """Returns when it has begun for the first time; raises `CorewireError` if it is refused, or the client closed."""
        await asyncio.shield(self._ready)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._state is State.PAUSED and self._is_online:
                self.start()
            if self._end is not None:
                if self._end.code == "unsubscribed":
                    raise StopAsyncIteration
                raise self._end
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        event = self._queue.popleft()
        if isinstance(event, Subscribed) and event.position is not None:
            self._read_position = Position(event.position.epoch, event.position.offset - event.replay)
        elif isinstance(event, Message) and self._read_position is not None:
            self._read_position = Position(self._read_position.epoch, event.offset)
        return event

    async def messages(self) -> AsyncIterator[Message]:
        """Messages alone, for those who do not mind gaps."""
        async for event in self:
            if isinstance(event, Message):
                yield event

    def unsubscribe(self) -> None:
        """Ends it. What waits can still be read; nothing comes after that."""
        if self._state is State.ENDED:
            return
        is_asked = self._is_asked
        self._finish(CorewireError("unsubscribed", "the application has ended the subscription"))
        if is_asked:
            # The server may have ended it at the same moment and say so: good as well.
            self._link.request({"type": "unsubscribe", "topic": self.topic}, lambda error, answer: None)

    # What the client tells.

    def start(self) -> None:
        """There is a connection."""
        self._turn += 1
        self._is_online = True
        self._cancel_timer()
        if self._state is State.PAUSED and self._queue:
            return  # the reader goes on when it has read what waits
        self._state = State.SUBSCRIBING
        turn, source = self._turn, self._token

        def told(error: CorewireError | None, token: str | None) -> None:
            if turn != self._turn:
                return
            if error is not None:
                self._retry(error)
            elif token in self._refused:
                self._finish(CorewireError("token_invalid", "there is no other token than the one that was refused"))
            else:
                self._subscribe(token)

        if callable(source):
            self._link.ask(lambda: source(self.topic), told)
        else:
            self._subscribe(source)

    def stop(self) -> None:
        """There is none any more."""
        self._turn += 1
        self._cancel_timer()
        self._is_online = False
        self._is_asked = False
        self._end = None
        if self._ready.done() and not self._has_begun:
            self._ready = asyncio.get_running_loop().create_future()  # the client was closed, and begins anew
        if self._state is not State.PAUSED:
            self._state = State.SUBSCRIBING

    def closed(self, error: CorewireError) -> None:
        """There will be none, unless the application makes the client reconnect."""
        self._end = error
        self._fail_ready(error)
        self._wake()

    def is_replay(self, offset: int) -> bool:
        """Whether a message was asked for by this subscription alone, to be told what it missed."""
        return self._state is State.SUBSCRIBED and offset <= self._live_after

    def message(self, message: Message) -> None:
        if self._state is State.SUBSCRIBED and self._put(message) and self._position and not self.is_pattern:
            self._position = Position(self._position.epoch, message.offset)

    def presence(self, event: str, user: str, info: Any) -> None:
        if self._state is State.SUBSCRIBED and event == "join":
            self._put(Join(user, info))
        elif self._state is State.SUBSCRIBED and event == "leave":
            self._put(Leave(user))

    def unsubscribed(self, error: CorewireError) -> None:
        """The server has ended it. If it has not begun, this is about an earlier one of the same name."""
        if self._state is State.SUBSCRIBED:
            self._is_asked = False
            self._failed(error)

    # What it does.

    def _subscribe(self, token: str | None) -> None:
        turn = self._turn
        recover = None if self.is_pattern else self._position
        self._is_asked = True

        def answered(error: CorewireError | None, ack: dict[str, Any]) -> None:
            if turn != self._turn:
                return
            if error is None:
                self._begin(ack, recover is not None)
                return
            self._is_asked = False
            if error.code in _TOKEN_ERRORS:
                self._refused = [token]
            self._failed(error)

        message: dict[str, Any] = {"type": "subscribe", "topic": self.topic, "token": token}
        if recover is not None:
            message["recover"] = {"epoch": recover.epoch, "offset": recover.offset}
        if self._wants_presence:
            message["presence"] = True
        self._link.request(message, answered)

    def _begin(self, ack: dict[str, Any], has_asked_for_more: bool) -> None:
        is_first = not self._has_begun
        self._state = State.SUBSCRIBED
        self._has_begun = True
        self._attempt = 0
        self._refused = []
        replay = ack.get("replay") or 0
        stands_at = Position(ack["epoch"], ack["offset"]) if ack.get("epoch") else None
        if stands_at is not None:
            # What is replayed counts as missing until it is here: the connection may be lost on the way.
            self._position = Position(stands_at.epoch, stands_at.offset - replay)
        self._live_after = stands_at.offset if stands_at else 0
        is_whole = ack.get("recovered") is True if has_asked_for_more else is_first
        recovered = is_whole if has_asked_for_more or not is_first else None
        if not self._ready.done():
            self._ready.set_result(None)
        # These always fit: whoever counts on them must not miss them.
        self._queue.append(Subscribed(is_first, recovered, replay, stands_at))
        if not is_whole:
            self._queue.append(Gap(self.topic))
        self._wake()

    def _put(self, event: Event) -> bool:
        """Whether there was room. If not, the server keeps what comes, and is asked for it later."""
        if len(self._queue) < self._max_queued:
            self._queue.append(event)
            self._wake()
            return True
        self._turn += 1
        self._state = State.PAUSED
        self._is_asked = False
        self._link.request({"type": "unsubscribe", "topic": self.topic}, lambda error, answer: None)
        return False

    def _failed(self, error: CorewireError) -> None:
        has_new_token = error.code in _TOKEN_ERRORS and callable(self._token)
        if error.is_temporary or has_new_token:
            self._retry(error)
        else:
            self._finish(error)

    def _retry(self, error: CorewireError) -> None:
        self._turn += 1
        self._state = State.SUBSCRIBING
        wait = max(error.retry_after or 0, pause(self._attempt, self._link.first_pause, self._link.longest_pause))
        self._attempt += 1
        _LOG.warning("%s: not subscribed now, again in %.1f s: %s", self.topic, wait, error)
        self._timer = asyncio.get_running_loop().call_later(wait, self.start)

    def _finish(self, error: CorewireError) -> None:
        self.stop()
        self._state = State.ENDED
        self._end = error
        self._fail_ready(error)
        self._wake()
        self._link.forget(self)

    def _fail_ready(self, error: CorewireError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            self._ready.exception()  # who does not ask is not told twice

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


_LOG = logging.getLogger("corewire")
_TOKEN_ERRORS = {"token_required", "token_invalid", "token_expired"}
