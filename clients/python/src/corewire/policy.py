"""What follows from the end of a connection, and how long the client waits. Decides; does nothing."""

from __future__ import annotations

import enum
import random


class AfterClose(enum.Enum):
    """What a close code asks of a client."""

    RETRY = enum.auto()
    #: Connect again, but never soon.
    RETRY_LATER = enum.auto()
    #: Connect again with another token, if the application has one.
    NEW_TOKEN = enum.auto()
    #: The server does not want this client.
    FINAL = enum.auto()


def after_close(code: int) -> AfterClose:
    """See `docs/WIRE.md`, "Close codes"."""
    match code:
        case 4001 | 4002:
            return AfterClose.NEW_TOKEN
        case 4003:
            return AfterClose.FINAL
        case 1013 | 4004 | 4005:
            return AfterClose.RETRY_LATER
        case _:
            return AfterClose.RETRY


def pause(attempt: int, first: float, longest: float, is_later: bool = False) -> float:
    """The pause before an attempt, counted from zero, in seconds.

    It is random, so that the clients of a server that has restarted do not come back all at once, and within a bound
    that doubles from attempt to attempt. `is_later` waits for half of the bound in any case.
    """
    bound = min(longest, first * 2.0 ** min(attempt, 30))
    return bound / 2 + random.random() * bound / 2 if is_later else random.random() * bound


def refresh_in(expires_in: float) -> float:
    """When to ask for a newer token: 30 seconds before the end, or at three quarters of a short time."""
    return expires_in - min(30, expires_in / 4)


def matches(pattern: str, topic: str) -> bool:
    """Whether a pattern matches a topic: `*` is one segment, `**` at the end is all that follow, at least one."""
    wanted, segments = pattern.split(":"), topic.split(":")
    if wanted[-1] == "**":
        if len(segments) < len(wanted):
            return False
        wanted.pop()
    elif len(segments) != len(wanted):
        return False
    return all(want in ("*", segment) for want, segment in zip(wanted, segments))


#: From which attempt on `RETRY_LATER` counts.
LATER_ATTEMPT = 3
#: A connection that has held so many seconds was a good one: the next pause is a short one again.
STABLE_SECONDS = 10.0

NORMAL = 1000
#: Never sent: the connection ended without a close frame (RFC 6455, section 7.4.1).
ABNORMAL = 1006
TOKEN_REFUSED = 4001
