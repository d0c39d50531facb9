"""The dead-letter topic as a list of letters, each once, and what operators did with them.

Single records cannot be removed from a Kafka topic, so resolutions are in a Redis hash by the letter's origin, about
150 bytes each. A letter without a resolution is open.

To redrive letters is to send them back to their topic, each at most once. The intent is noted first, with the end of
the partition. If an intent has no outcome, because the process was killed, the letter is searched in the topic from
that offset before anything is sent. One process redrives at a time. Should all that fail, the second copy has the same
event id, which the listener's history recognises.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Message
from redis.exceptions import LockError

from botify.core.errors import BotifyError, ExcludedError, RejectedMessageError
from botify.core.kafka.admin import end_offsets
from botify.core.kafka.headers import headers_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import LogRecord, TopicReader
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.dead_letters import PREFIX, Origin, origin_of
from botify.schemas.event_time import EventTime, Lead
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.schemas.validation import Intake, decode_and_validate
from botify.streams.read import StateReader
from botify.streams.store.keys import dead_letter_resolutions, redrive_lock

ACKNOWLEDGE_TIMEOUT_S = 40.0
"""More than the producer's delivery timeout: after it, nothing that was sent can reach a topic any more."""
ATTEMPTS = "botify.redrive.attempts"  # header that counts how often the message was redriven
REDRIVE_OF = "botify.redrive.of"  # header that names the letter from which a record was redriven
BATCH = 500
LOCK_S = 120  # how long a killed process prevents others from redriving


class DeadLetterError(BotifyError):
    """Dead letters cannot be read, excluded or redriven."""


class DeadLetter(NamedTuple):
    """A rejected message, and why."""

    origin: Origin  # the rejected record; copies of a letter have the same
    at_ms: int  # when it was rejected, wall clock
    reason: str  # class of the error
    message: str  # the error's text
    attempts: int  # how often it was redriven
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]  # of the message

    @property
    def excluded(self) -> bool:
        """Whether an operator wrote it, to exclude an accepted record."""
        return self.reason == ExcludedError.__name__


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters; None matches all.

    Examples
    --------
    >>> letter = DeadLetter(Origin("t", 0, 7), 1000, "DecodeError", "unknown schema id 9", 0, None, b"", ())
    >>> LetterFilter(reason="schema").takes(letter), LetterFilter(since_ms=2000).takes(letter)
    (True, False)
    """

    reason: str | None = None  # part of the error's class or text, in any case
    topic: str | None = None
    # since_ms, until_ms: when it was rejected
    since_ms: int | None = None
    until_ms: int | None = None
    origin: str | None = None  # `topic/partition/offset`

    def takes(self, letter: DeadLetter) -> bool:
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
    seen: set[Origin] = set()
    with closing(TopicReader(settings, Topics.of(settings).dead_letters.name)) as reader:
        for message in chain.from_iterable(reader.read_to_end()):
            letter = _letter(message)
            if letter is not None and letter.origin not in seen:
                seen.add(letter.origin)
                if wanted.takes(letter):
                    yield letter


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

    REDRIVING = "redriving"  # a redrive began; its topic has the record, after `from_offset`, if it was sent
    REDRIVEN = "redriven"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Resolution:
    """What was done with a letter."""

    status: ResolutionStatus
    at_ms: int  # wall clock
    from_offset: int = 0  # end of the letter's partition before the redrive


class Resolutions:
    """The resolutions of a deployment, in Redis."""

    def __init__(self, redis: Any, prefix: str) -> None:
        self._redis = redis
        self._key = dead_letter_resolutions(prefix)

    def all(self) -> dict[str, Resolution]:
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


@dataclass(slots=True)
class RedriveResult:
    """The result of a redrive."""

    sent: list[Origin] = field(default_factory=list)  # redriven now, or would be without a dry run
    found: list[Origin] = field(default_factory=list)  # redriven by a process that was killed before it noted so
    # not sent because they would be rejected again, and why
    hopeless: list[tuple[Origin, str]] = field(default_factory=list)
    # not sent because an operator has excluded them, or their listener was erased
    excluded: list[Origin] = field(default_factory=list)
    unsure: list[Origin] = field(default_factory=list)  # not acknowledged; the next redrive searches them


def redrive(
    settings: Settings,
    redis: Any,
    letters: Iterable[DeadLetter],
    *,
    dry_run: bool = False,
    force: bool = False,
    exclusions: bool = False,
) -> RedriveResult:
    """Send open letters back with their own key, value and headers, and count the attempts.

    `force` sends letters that would be rejected again, `exclusions` excluded records. Raises `DeadLetterError` if
    another process redrives, or a letter is not of the listens topic.
    """
    topic, resolutions = Topics.of(settings).listens.name, Resolutions(redis, settings.topic_prefix)
    outcome = RedriveResult()
    with _one_at_a_time(redis, settings.topic_prefix) as still_ours:
        known, ends = resolutions.all(), end_offsets(settings, topic)
        chosen = []
        for letter in letters:
            if not _is_open(letter, topic, known):
                continue
            if letter.origin.offset >= ends.get(letter.origin.partition, 0):
                outcome.hopeless.append((letter.origin, f"{topic} has no such record"))
            elif letter.excluded and (letter.value is None or not exclusions):
                outcome.excluded.append(letter.origin)
            else:
                chosen.append(letter)
        in_doubt = {letter.origin: known[str(letter.origin)] for letter in chosen if str(letter.origin) in known}
        outcome.found = sorted(_find_sent(settings, topic, in_doubt))
        if not dry_run:
            resolutions.put(ResolutionStatus.REDRIVEN, dict.fromkeys(outcome.found, 0))
        left = [letter for letter in chosen if letter.origin not in outcome.found]
        fit = left if force else _only_fit(settings, redis, left, outcome)
        if dry_run:
            outcome.sent = [letter.origin for letter in fit]
            return outcome
        for first in range(0, len(fit), BATCH):
            still_ours()
            _send(settings, topic, fit[first : first + BATCH], resolutions, outcome)
    return outcome


@contextmanager
def _one_at_a_time(redis: Any, prefix: str) -> Iterator[Any]:
    lock = redis.lock(redrive_lock(prefix), timeout=LOCK_S)
    if not lock.acquire(blocking=False):
        raise DeadLetterError(f"another process is redriving; if it was killed, wait {LOCK_S} s and try again")
    try:
        yield lock.reacquire
    except LockError as error:
        raise DeadLetterError("the redrive lock was lost; run the command again to resume") from error
    finally:
        if lock.owned():
            lock.release()


def _is_open(letter: DeadLetter, topic: str, known: dict[str, Resolution]) -> bool:
    if letter.origin.topic != topic:
        raise DeadLetterError(f"{letter.origin} is not from {topic}; select letters with --topic {topic}")
    resolution = known.get(str(letter.origin))
    return resolution is None or resolution.status is ResolutionStatus.REDRIVING


def _find_sent(settings: Settings, topic: str, in_doubt: dict[Origin, Resolution]) -> set[Origin]:
    found, end = set[Origin](), end_offsets(settings, topic)
    for partition in {origin.partition for origin in in_doubt}:
        wanted = {str(origin).encode(): origin for origin in in_doubt if origin.partition == partition}
        start = min(in_doubt[origin].from_offset for origin in wanted.values())
        with closing(
            TopicReader(settings, topic, {partition: start}, [partition], auto_offset_reset="error")
        ) as reader:
            for message in chain.from_iterable(reader.read_to_end({partition: end[partition]})):
                origin = dict(headers_of(message)).get(REDRIVE_OF)
                if origin in wanted:
                    found.add(wanted[origin])
    return found


def _only_fit(
    settings: Settings, redis: Any, letters: Sequence[DeadLetter], outcome: RedriveResult
) -> list[DeadLetter]:
    codec, now_ms = codec_of(settings), int(time.time() * 1000)
    reached_ms = StateReader(redis, settings).event_times()
    with closing(CatalogueReader(settings, codec)) as catalogue:
        catalogue.refresh()
        intake = Intake(codec, catalogue.tracks, catalogue.refresh, lead=Lead.of(settings))
        fit = []
        for letter in letters:
            event_time = EventTime(reached_ms.get(letter.origin.partition, 0))
            record = LogRecord(*letter.origin, now_ms, letter.key, letter.value, letter.headers)
            ((_, one),) = decode_and_validate([record], Listen, intake, event_time=event_time)
            if isinstance(one, RejectedMessageError):
                outcome.hopeless.append((letter.origin, str(one)))
            else:
                fit.append(letter)
    return fit


def _send(
    settings: Settings, topic: str, letters: Sequence[DeadLetter], resolutions: Resolutions, outcome: RedriveResult
) -> None:
    end = end_offsets(settings, topic)
    resolutions.put(ResolutionStatus.REDRIVING, {letter.origin: end[letter.origin.partition] for letter in letters})
    acknowledged: list[Origin] = []
    publisher = RecordPublisher(settings, delivery_report_only_error=False)
    for letter in letters:

        def on_delivery(error: KafkaError | None, _: Message, origin: Origin = letter.origin) -> None:
            if error is None:
                acknowledged.append(origin)

        own = [(name, value) for name, value in letter.headers if name not in (ATTEMPTS, REDRIVE_OF)]
        publisher.produce(
            topic,
            key=letter.key,
            value=letter.value,
            partition=letter.origin.partition,
            headers=[*own, (ATTEMPTS, b"%d" % (letter.attempts + 1)), (REDRIVE_OF, str(letter.origin).encode())],
            on_delivery=on_delivery,
        )
    publisher.drain(ACKNOWLEDGE_TIMEOUT_S)  # the next redrive searches what is not acknowledged by then
    resolutions.put(ResolutionStatus.REDRIVEN, dict.fromkeys(acknowledged, 0))
    outcome.sent += acknowledged
    outcome.unsure += sorted({letter.origin for letter in letters} - set(acknowledged))
