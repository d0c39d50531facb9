"""The newest dead letters, and what was done with them."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

from confluent_kafka import Message

from schemas.dead_letters import PREFIX, is_exclusion, origin_of
from schemas.settings import Settings
from schemas.topics import Topics
from services.dashboard.figures.snapshot import Letter
from services.dashboard.readers.tail import Tail
from streams.store.keys import dead_letter_resolutions

NEWEST = 50
"""Letters of each partition that are looked at when the dashboard starts."""

SHOWN = 100
SHOWN_BYTES = 200
MOST_AT_ONCE = 1_000


class LettersReader:
    """Follows the dead-letter topic; of copies of a letter the first is shown.

    Parameters
    ----------
    redis : redis.Redis or RedisCluster
        Blocking, with raw replies.
    """

    def __init__(self, settings: Settings, redis: Any) -> None:
        self._redis = redis
        self._resolutions = dead_letter_resolutions(settings.topic_prefix)
        self._tail = Tail(settings, Topics.of(settings).dead_letters.name, NEWEST)
        self._letters: OrderedDict[str, Letter] = OrderedDict()

    def read(self) -> tuple[Letter, ...]:
        """Return the letters, the newest first."""
        for message in self._tail.take(MOST_AT_ONCE):
            letter = letter_of(message)
            if letter is not None:
                self._letters.setdefault(letter.origin, letter)
        while len(self._letters) > SHOWN:
            self._letters.popitem(last=False)
        if not self._letters:
            return ()
        deeds = self._redis.hmget(self._resolutions, list(self._letters))
        known = [
            letter._replace(deed=json.loads(deed)["deed"]) if deed else letter
            for letter, deed in zip(self._letters.values(), deeds, strict=True)
        ]
        return tuple(sorted(known, key=lambda letter: -letter.at_ms))

    def close(self) -> None:
        """Stop following."""
        self._tail.close()


def letter_of(message: Message) -> Letter | None:
    """Return the letter that a record is; None where its headers do not say where it comes from."""
    headers = dict(message.headers() or ())
    origin = origin_of(headers.items())
    if origin is None:
        return None

    def text(name: str) -> str:
        value: bytes = headers.get(PREFIX + name, b"")
        return value.decode("utf-8", "backslashreplace")

    return Letter(
        origin=str(origin),
        at_ms=message.timestamp()[1],
        reason=text("exception.class.name"),
        message=text("exception.message"),
        value=(message.value() or b"")[:SHOWN_BYTES],
        deed="excluded" if is_exclusion(headers.items()) else "",
    )
