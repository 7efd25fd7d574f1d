"""A client for `corewire serve`, in its subprotocol `corewire.v1`, for asyncio."""

from .client import Client, State
from .errors import CorewireError
from .events import (
    ClientEvent,
    Connected,
    Disconnected,
    Event,
    Failed,
    Gap,
    Join,
    Leave,
    Member,
    Message,
    Position,
    Subscribed,
)
from .subscription import Subscription

__all__ = [
    "Client",
    "ClientEvent",
    "Connected",
    "CorewireError",
    "Disconnected",
    "Event",
    "Failed",
    "Gap",
    "Join",
    "Leave",
    "Member",
    "Message",
    "Position",
    "State",
    "Subscribed",
    "Subscription",
]
