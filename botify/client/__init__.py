"""A client of Botify's `/v1`, synchronous and asynchronous; needs nothing of Botify but this package, and httpx.

>>> from botify.client import Botify, Event
>>> with Botify("http://127.0.0.1:8000") as botify:  # doctest: +SKIP
...     botify.send(Event.listen("alice", "t-17"))
...     [item.item for item in botify.recommendations("alice", n=3).items]
"""

from botify.client.client import AsyncBotify, Botify
from botify.client.model import (
    BotifyClientError,
    Event,
    Item,
    ItemPage,
    NotFoundError,
    ProblemError,
    Reason,
    Recommendations,
    UnavailableError,
    User,
)

__all__ = [
    "AsyncBotify",
    "Botify",
    "BotifyClientError",
    "Event",
    "Item",
    "ItemPage",
    "NotFoundError",
    "ProblemError",
    "Reason",
    "Recommendations",
    "UnavailableError",
    "User",
]
