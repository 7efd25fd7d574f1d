"""A connection to `corewire serve` that comes back by itself."""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from .connection import Answered, Connection, Ended, error_of, open_socket
from .errors import CorewireError
from .events import ClientEvent, Connected, Disconnected, Failed, Member, Message, Position
from .policy import (
    ABNORMAL,
    LATER_ATTEMPT,
    NORMAL,
    STABLE_SECONDS,
    TOKEN_REFUSED,
    AfterClose,
    after_close,
    matches,
    pause,
    refresh_in,
)
from .subscription import Subscription, Told, TopicToken

Token = str | Callable[[], str | None | Awaitable[str | None]]


class State(enum.Enum):
    """What a client does."""

    #: A token is asked for, a WebSocket opened, the server's answer awaited.
    CONNECTING = "connecting"
    CONNECTED = "connected"
    #: It will connect again by itself.
    WAITING = "waiting"
    #: Not entered yet, or closed by the application or by the server; `reconnect()` begins anew.
    CLOSED = "closed"


class Client:
    """Connects when it is entered, and after each loss again, with random pauses that grow.

    ```python
    async with Client("ws://127.0.0.1:8080/ws") as client:
        async for message in client.subscribe("prices:eur").messages():
            print(message.data)
    ```

    `token` proves who this is; a function is asked before each connection, and again before the token expires. Without
    a token, or if the function has none, the connection is anonymous. `on_event` is called with each `ClientEvent`.
    Times are in seconds. `options` go to `websockets.connect`: `ssl`, `proxy`, `additional_headers` and so on.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        on_event: Callable[[ClientEvent], None] | None = None,
        connect_timeout: float = 10,
        request_timeout: float = 10,
        ping_interval: float = 25,
        ping_timeout: float = 10,
        first_pause: float = 1,
        longest_pause: float = 30,
        **options: Any,
    ) -> None:
        if not url.startswith(("ws://", "wss://")):
            raise ValueError(f"the URL must begin with ws:// or wss://: {url}")
        self.url = url
        self.first_pause = first_pause
        self.longest_pause = longest_pause
        self._token = token
        self._on_event = on_event
        self._connect_timeout = connect_timeout
        self._request_timeout = request_timeout
        self._pings = (ping_interval, ping_timeout)
        self._options = options
        self._state = State.CLOSED
        self._task: asyncio.Task[Ended] | None = None
        #: Of one connection: everything that ends with it.
        self._helpers: set[asyncio.Task[None] | asyncio.TimerHandle] = set()
        self._connection: Connection | None = None
        #: There is a connection, or there will be none.
        self._is_settled = asyncio.Event()
        self._hurry = asyncio.Event()
        self._subscriptions: dict[str, Subscription] = {}
        self._waiting_count = 0
        self._attempt = 0
        #: In the attempt that has ended last, or goes on.
        self._was_connected = False
        self._last_token: str | None = None
        #: The token that was refused last, or none.
        self._refused: list[str | None] = []
        self._user: str | None = None

    async def __aenter__(self) -> Client:
        self.reconnect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def state(self) -> State:
        return self._state

    @property
    def user(self) -> str | None:
        """Who the server says this is; `None` while nobody has said, and for anonymous connections."""
        return self._user

    def subscribe(
        self,
        topic: str,
        *,
        presence: bool = False,
        token: TopicToken | None = None,
        recover: Position | None = None,
        max_queued: int = 10_000,
    ) -> Subscription:
        """Subscribes to a topic or a pattern, now and after each reconnection, until `unsubscribe()`.

        `presence` has joins and leaves told. `token` is for a topic whose namespace wants one; a function is asked
        again when needed. `recover` is the last publication that the application has, from an earlier life. If the
        application reads so slowly that `max_queued` events wait, the server is asked for the rest later.
        """
        if topic in self._subscriptions:
            raise ValueError(f"{topic} is subscribed to already")
        subscription = Subscription(topic, self, presence, token, recover, max_queued)
        self._subscriptions[topic] = subscription
        if self._state is State.CONNECTED:
            subscription.start()
        return subscription

    async def publish(self, topic: str, data: Any, *, key: str | None = None) -> Position:
        """Publishes any JSON; returns when the topic has accepted it.

        If the connection is lost before that is known, it raises `CorewireError` with `connection_lost`, and does not
        send it again: it may have been accepted. `key` is what it is the newest value of.
        """
        ack = await self._ask_server({"type": "publish", "topic": topic, "key": key, "data": data})
        return Position(ack["epoch"], ack["offset"])

    def publish_unacked(self, topic: str, data: Any, *, key: str | None = None) -> bool:
        """Publishes what is worth something only now, such as a position. Returns whether it was sent.

        It is not without a connection, or while that is clogged. Nobody says that it was accepted; a refusal comes as
        `Failed`.
        """
        if self._state is not State.CONNECTED or self._connection is None or self._connection.is_clogged:
            return False
        self._connection.send({"type": "publish", "topic": topic, "key": key, "data": data})
        return True

    async def presence(self, topic: str) -> list[Member]:
        """Who is there, each user once."""
        answer = await self._ask_server({"type": "presence", "topic": topic})
        return [Member(found["user"], found.get("info"), found.get("connections")) for found in answer["members"]]

    def reconnect(self) -> None:
        """Connects at once: instead of waiting on, or after the client was closed."""
        if self._state is State.WAITING:
            self._hurry.set()
        if self._state is not State.CLOSED:
            return
        self._attempt, self._refused = 0, []
        self._leave()  # readers that come now wait for the connection
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._over)  # also if it is cancelled before it has begun

    async def close(self) -> None:
        """Ends the connection and connects no more. Subscriptions are kept for `reconnect()`."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        # Not `await task`, by which a caller who is cancelled cancels the task, and does not hear of it himself.
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    # The sequence of connections.

    async def _run(self) -> Ended:
        """Raises what trying again would not help: a URL that is none, an option that is none."""
        while True:
            ended = await self._live()
            wait = self._pause_after(ended)
            if wait is None:
                return ended
            self._hurry.clear()
            self._state = State.WAITING
            self._tell(Disconnected(ended.code, ended.reason, wait))
            await self._wait(wait)

    def _over(self, task: asyncio.Task[Ended]) -> None:
        """There will be no other attempt."""
        if task.cancelled():
            last = Disconnected(NORMAL, "closed by the application", None)
        elif error := task.exception():  # `close` raises it
            last = Disconnected(ABNORMAL, repr(error), None)
        else:
            last = Disconnected(task.result().code, task.result().reason, None)
        self._state = State.CLOSED
        self._is_settled.set()
        code = "unsubscribed" if last.code == NORMAL else "closed"
        for subscription in list(self._subscriptions.values()):
            subscription.closed(CorewireError(code, f"the connection is over: {last.reason}"))
        self._tell(last)

    async def _wait(self, seconds: float) -> None:
        # Not `wait_for`, which before Python 3.12 loses a cancellation that comes together with what it waits for.
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _live(self) -> Ended:
        """One attempt, and all that comes of it."""
        self._state = State.CONNECTING
        self._was_connected = False
        try:
            token = await self._find_token()
            self._last_token = token
            await self._converse(token)
        except Ended as ended:
            return ended
        except TimeoutError:
            pass
        finally:
            self._leave()
        return Ended(ABNORMAL, "no answer to connect in time")

    async def _find_token(self) -> str | None:
        if not callable(self._token):
            return self._token
        try:
            token = await self._call(self._token)
        except CorewireError as error:
            self._tell(Failed(error))
            raise Ended(ABNORMAL, str(error)) from error
        if token in self._refused:
            raise Ended(NO_OTHER_TOKEN, "there is no other token than the one that was refused")
        return token

    async def _converse(self, token: str | None) -> None:
        """Raises `Ended`, or `TimeoutError` if nothing came of it."""
        refusal: CorewireError | None = None

        def answered(error: CorewireError | None, ack: dict[str, Any]) -> None:
            nonlocal refusal
            if error is None:
                deadline.reschedule(None)
                self._ready(connection, ack)
                return
            if error.code == "connection_lost":
                return  # the end itself says more
            refusal = error
            self._tell(Failed(error))
            # The server closes after a refusal that is final for this connection. All others mean: try again.
            if error.code not in _ENDS_CONNECT:
                raise Ended(ABNORMAL, error.args[0], error.retry_after or 0)

        async with asyncio.timeout(self._connect_timeout) as deadline:
            socket = await open_socket(self.url, *self._pings, self._options)
            connection = Connection(socket, self._heard)
            try:
                connection.request({"type": "connect", "token": token}, answered)
                await connection.run()
            except Ended as ended:
                if refusal is not None:
                    ended.reason = refusal.args[0]
                raise
            finally:
                # Subscriptions first, so that they know that the connection is gone, and do not try again on it.
                self._leave()
                connection.lose()
                await socket.close()

    def _pause_after(self, ended: Ended) -> float | None:
        """How long to wait for the next attempt; `None` if there must be none."""
        is_later = False
        if ended.code == NO_OTHER_TOKEN:
            ended.code = TOKEN_REFUSED
            return None
        match after_close(ended.code):
            case AfterClose.FINAL:
                return None
            case AfterClose.NEW_TOKEN:
                if not callable(self._token):
                    return None
                # A token that was good may still be: the back end can ask for a newer one before the old one expires.
                self._refused = [] if self._was_connected else [self._last_token]
            case AfterClose.RETRY_LATER:
                self._attempt = max(self._attempt, LATER_ATTEMPT)
                is_later = True
            case AfterClose.RETRY:
                pass
        wait = pause(self._attempt, self.first_pause, self.longest_pause, is_later)
        self._attempt += 1
        return max(wait, ended.retry_after)

    # One connection.

    def _ready(self, connection: Connection, ack: dict[str, Any]) -> None:
        self._connection = connection
        self._was_connected = True
        self._user = ack.get("user")
        self._refused = []
        self._state = State.CONNECTED
        self._later(STABLE_SECONDS, self._held)
        self._arm_refresh(ack.get("expires_in"))
        for subscription in list(self._subscriptions.values()):
            subscription.start()
        self._is_settled.set()
        self._tell(Connected(ack["connection"], self._user))

    def _leave(self) -> None:
        """Drops everything that belongs to a connection. Twice is as good as once."""
        self._connection = None
        self._user = None
        self._state = State.CONNECTING
        self._is_settled.clear()
        while self._helpers:
            self._helpers.pop().cancel()
        for subscription in self._subscriptions.values():
            subscription.stop()

    def _held(self) -> None:
        self._attempt = 0

    def _heard(self, message: dict[str, Any]) -> None:
        topic = message.get("topic", "")
        own = self._subscriptions.get(topic)
        match message.get("type"):
            case "message":
                heard = Message(topic, message["offset"], message["data"], message.get("key"), message.get("user"))
                is_replay = own is not None and own.is_replay(heard.offset)
                if own is not None:
                    own.message(heard)
                # The server sends each publication once, however many subscriptions it is for.
                if not is_replay:
                    for other in self._patterns_of(topic):
                        other.message(heard)
            case "presence" if own is not None:
                own.presence(message["event"], message["user"], message.get("info"))
            case "unsubscribe" if own is not None:
                own.unsubscribed(CorewireError(message["code"], message["reason"]))
            case "error":
                self._tell(Failed(error_of(message)))
            case _:  # of a later version, or too late
                pass

    def _patterns_of(self, topic: str) -> list[Subscription]:
        return [found for found in self._subscriptions.values() if found.is_pattern and matches(found.topic, topic)]

    def _arm_refresh(self, expires_in: float | None) -> None:
        if expires_in is not None and callable(self._token):
            self._later(refresh_in(expires_in), self._refresh, 0)

    def _refresh(self, attempt: int) -> None:
        """Without success the server closes with 4002 in the end."""
        source, connection = self._token, self._connection
        assert callable(source) and connection is not None, "armed by a connection, with a function"

        def failed(error: CorewireError) -> None:
            wait = max(error.retry_after or 0, pause(attempt, self.first_pause, self.longest_pause, True))
            self._later(wait, self._refresh, attempt + 1)
            self._tell(Failed(error))

        def told(error: CorewireError | None, token: str | None) -> None:
            if error is not None:
                return failed(error)
            connection.request({"type": "connect", "token": token}, lambda error, ack: answered(error, ack, token))

        def answered(error: CorewireError | None, ack: dict[str, Any], token: str | None) -> None:
            if connection is not self._connection:
                return
            if error is not None:
                return failed(error)
            self._last_token = token
            self._arm_refresh(ack.get("expires_in"))

        self.ask(source, told)

    # What subscriptions need.

    def request(self, message: dict[str, Any], answered: Answered) -> None:
        """Sends it, if there is a connection."""
        if self._connection is not None:
            self._connection.request(message, answered)

    def ask(self, source: Callable[[], str | None | Awaitable[str | None]], told: Told) -> None:
        """Calls a token function; `told` is called unless the connection ends before."""

        async def run() -> None:
            try:
                token = await self._call(source)
            except CorewireError as error:
                told(error, None)
            else:
                told(None, token)

        task = asyncio.create_task(run())
        self._helpers.add(task)
        task.add_done_callback(self._helpers.discard)

    def forget(self, subscription: Subscription) -> None:
        """It is over."""
        self._subscriptions.pop(subscription.topic, None)

    # Helpers.

    async def _call(self, source: Callable[[], str | None | Awaitable[str | None]]) -> str | None:
        try:
            async with asyncio.timeout(self._connect_timeout):
                found = source()
                token = await found if inspect.isawaitable(found) else found
                if token is not None and not isinstance(token, str):
                    raise TypeError(f"it gave {type(token).__name__}, which is no str")
                return token
        except TimeoutError as cause:
            raise CorewireError("token_function", f"no token in {self._connect_timeout:g} s") from cause
        except Exception as cause:
            raise CorewireError("token_function", f"the token function failed: {cause!r}") from cause

    async def _ask_server(self, message: dict[str, Any]) -> dict[str, Any]:
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def answered(error: CorewireError | None, found: dict[str, Any]) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(found)

        connection: Connection | None = None
        request = 0
        try:
            async with asyncio.timeout(self._request_timeout):
                connection = await self._settled()
                request = connection.request(message, answered)
                return await answer
        except TimeoutError:
            if connection is None:
                raise CorewireError("not_sent", f"no connection in {self._request_timeout:g} s") from None
            raise CorewireError("timeout", f"no answer in {self._request_timeout:g} s") from None
        finally:
            if connection is not None:
                connection.forget(request)

    async def _settled(self) -> Connection:
        """The connection, when there is one."""
        if self._waiting_count >= WAITING_MAX:
            raise CorewireError("not_sent", f"{WAITING_MAX} requests wait for a connection already")
        self._waiting_count += 1
        try:
            while self._connection is None:
                if self._state is State.CLOSED:
                    raise CorewireError("not_sent", "the client is closed")
                await self._is_settled.wait()
            return self._connection
        finally:
            self._waiting_count -= 1

    def _later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        def fire() -> None:
            self._helpers.discard(timer)
            call(*arguments)

        timer = asyncio.get_running_loop().call_later(seconds, fire)
        self._helpers.add(timer)

    def _tell(self, event: ClientEvent) -> None:
        match event:
            case Connected():
                _LOG.info("connected to %s as %s", self.url, event.user or "nobody")
            case Disconnected(retry_in=None):
                _LOG.log(logging.INFO if event.code == NORMAL else logging.ERROR, "%s: %s", self.url, event.reason)
            case Disconnected():
                _LOG.warning("%s: %d %s; again in %.1f s", self.url, event.code, event.reason, event.retry_in)
            case Failed():
                _LOG.warning("%s: %s", self.url, event.error)
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                _LOG.exception("on_event failed")


_LOG = logging.getLogger("corewire")
_LOG.addHandler(logging.NullHandler())  # silent unless the application wants to hear it

#: Errors after which the server itself closes, if they answer the first `connect`.
_ENDS_CONNECT = {"token_required", "token_invalid", "token_expired", "forbidden"}
#: Requests that may wait for a connection.
WAITING_MAX = 1000
#: No code of the wire.
NO_OTHER_TOKEN = 0
