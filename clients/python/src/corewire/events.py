"""What a client and its subscriptions tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a topic."""

    epoch: str
    offset: int


@dataclass(frozen=True, slots=True)
class Message:
    """A publication."""

    topic: str
    #: Its place in the topic, counted from 1.
    offset: int
    data: Any
    #: What it is the newest value of, if its publisher said so.
    key: str | None = None
    #: Who published it, if a client did and the namespace tells.
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription has begun, or begun again."""

    #: False if it had begun before, and the connection was lost in between.
    is_first: bool
    #: Whether nothing is missing, where something could be: after a loss.
    recovered: bool | None
    #: How many messages follow that were published before.
    replay: int
    #: Where the topic stands; a pattern has no position.
    position: Position | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Something may be missing before the next message: load the state anew."""

    topic: str


@dataclass(frozen=True, slots=True)
class Join:
    """Somebody came."""

    user: str
    info: Any = None


@dataclass(frozen=True, slots=True)
class Leave:
    """Somebody went."""

    user: str


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody who is there."""

    user: str
    info: Any = None
    #: With how many connections, if that is known.
    connections: int | None = None


#: What a subscription tells, in order.
Event: TypeAlias = Message | Subscribed | Gap | Join | Leave


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a connection, for the first time or again."""

    #: What the HTTP API calls it.
    connection: str
    user: str | None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A connection, or an attempt, has ended."""

    code: int
    reason: str
    #: In seconds; `None`: there will be no other.
    retry_in: float | None


@dataclass(frozen=True, slots=True)
class Failed:
    """Something failed for which no call and no subscription is responsible."""

    error: Exception


#: What a client tells.
ClientEvent: TypeAlias = Connected | Disconnected | Failed
