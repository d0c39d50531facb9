"""The dead-letter topic as a list of letters, each once, and what operators did with them.

Single records cannot be removed from a Kafka topic, so resolutions are in a Redis hash by the letter's origin, about
150 bytes each. A letter without a resolution is open.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from confluent_kafka import Message

from botify.core.errors import BotifyError, ExcludedError
from botify.core.kafka.headers import headers_of
from botify.core.kafka.reader import LogRecord, TopicReader
from botify.core.settings import Settings
from botify.schemas.dead_letters import PREFIX, Origin, origin_of
from botify.schemas.topics import Topics
from botify.streams.store.keys import dead_letter_resolutions

ACKNOWLEDGE_TIMEOUT_S = 40.0
"""More than the producer's delivery timeout: after it, nothing that was sent can reach a topic any more."""
ATTEMPTS = "botify.redrive.attempts"
"""Header that counts how often the message was redriven."""
REDRIVE_OF = "botify.redrive.of"
"""Header that names the letter from which a record was redriven."""


class DeadLetterError(BotifyError):
    """Dead letters cannot be read, excluded or redriven."""


class DeadLetter(NamedTuple):
    """A rejected message, and why.

    Attributes
    ----------
    origin : Origin
        The rejected record; copies of a letter have the same.
    at_ms : int
        When it was rejected, wall clock.
    reason : str
        Class of the error.
    message : str
        The error's text.
    attempts : int
        How often it was redriven.
    headers : sequence of (str, bytes)
        Of the message.
    """

    origin: Origin
    at_ms: int
    reason: str
    message: str
    attempts: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    @property
    def excluded(self) -> bool:
        """Whether an operator wrote it, to exclude an accepted record."""
        return self.reason == ExcludedError.__name__

    def as_record(self) -> LogRecord:
        """Return the rejected record."""
        topic, partition, offset = self.origin
        return LogRecord(topic, partition, offset, self.at_ms, self.key, self.value, self.headers)


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters; None matches all.

    Attributes
    ----------
    reason : str
        Part of the error's class or text, in any case.
    since_ms, until_ms : int
        When it was rejected.
    origin : str
        `topic/partition/offset`.

    Examples
    --------
    >>> letter = DeadLetter(Origin("t", 0, 7), 1000, "DecodeError", "unknown schema id 9", 0, None, b"", ())
    >>> LetterFilter(reason="schema").takes(letter), LetterFilter(since_ms=2000).takes(letter)
    (True, False)
    """

    reason: str | None = None
    topic: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    origin: str | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Say whether a letter is chosen."""
        return (
            (self.reason is None or self.reason.lower() in f"{letter.reason} {letter.message}".lower())
            and (self.topic is None or self.topic == letter.origin.topic)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.until_ms is None or letter.at_ms < self.until_ms)
            and (self.origin is None or self.origin == str(letter.origin))
        )


def read_letters(settings: Settings, choice: LetterFilter | None = None) -> Iterator[DeadLetter]:
    """Yield the chosen letters, in the order of the topic's partitions; of copies, the first.

    A restarted worker may publish a letter again. Records without Kafka Connect's headers are skipped.
    """
    wanted = choice or LetterFilter()
    reader = TopicReader(settings, Topics.of(settings).dead_letters.name)
    seen: set[Origin] = set()
    try:
        for batch in reader.read_to_end():
            for message in batch:
                letter = _letter(message)
                if letter is not None and letter.origin not in seen:
                    seen.add(letter.origin)
                    if wanted.takes(letter):
                        yield letter
    finally:
        reader.close()


def _letter(message: Message) -> DeadLetter | None:
    headers = headers_of(message)
    origin = origin_of(headers)
    if origin is None:
        return None
    found: dict[str, bytes] = dict(headers)

    def text(name: str) -> str:
        return found.get(name, b"").decode("utf-8", "backslashreplace")

    attempts = text(ATTEMPTS)
    return DeadLetter(
        origin=origin,
        at_ms=message.timestamp()[1],
        reason=text(f"{PREFIX}exception.class.name"),
        message=text(f"{PREFIX}exception.message"),
        attempts=int(attempts) if attempts.isdecimal() else 0,
        key=message.key(),
        value=message.value(),
        headers=[(name, value) for name, value in headers if not name.startswith(PREFIX)],
    )


class ResolutionStatus(StrEnum):
    """What was done with a letter."""

    REDRIVING = "redriving"
    """A redrive began; its topic has the record, after `from_offset`, if it was sent."""
    REDRIVEN = "redriven"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Resolution:
    """What was done with a letter.

    Attributes
    ----------
    at_ms : int
        Wall clock.
    from_offset : int
        End of the letter's partition before the redrive.
    """

    status: ResolutionStatus
    at_ms: int
    from_offset: int = 0


class Resolutions:
    """The resolutions of a deployment.

    Parameters
    ----------
    redis : redis.Redis or RedisCluster
        Blocking, with raw replies.
    prefix : str
        The settings' `topic_prefix`.
    """

    def __init__(self, redis: Any, prefix: str) -> None:
        self._redis = redis
        self._key = dead_letter_resolutions(prefix)

    def all(self) -> dict[str, Resolution]:
        """Return all, by the text of the origin."""
        found = {}
        for origin, text in self._redis.hscan_iter(self._key, count=1000):
            fields = json.loads(text)
            status = ResolutionStatus(fields["deed"])
            found[origin.decode()] = Resolution(status, fields["at_ms"], fields["from_offset"])
        return found

    def put(self, status: ResolutionStatus, letters: Mapping[Origin, int]) -> None:
        """Write resolutions. `letters`: the offset is `Resolution.from_offset`."""
        if letters:
            now_ms = int(time.time() * 1000)
            entries = {
                str(origin): json.dumps({"deed": status, "at_ms": now_ms, "from_offset": offset})
                for origin, offset in letters.items()
            }
            self._redis.hset(self._key, mapping=entries)
