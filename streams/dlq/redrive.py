"""Redrive dead letters: send them back to their topic, each at most once.

Publishing a record and noting it cannot be one step. So the intent is noted first, with the end of the partition. If an
intent has no outcome, because the process was killed, the letter is searched in the topic from that offset before
anything is sent. One process redrives at a time. Should all that fail, the second copy has the same event id, which the
listener's history recognises.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, Message
from redis.exceptions import LockError

from botify.core.errors import RejectedMessageError
from botify.core.kafka.admin import end_offsets
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import PartitionLog
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.dead_letters import Origin
from botify.schemas.event_time import EventTime, Lead
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.schemas.validation import Intake, decode_and_validate
from botify.streams.dlq.letters import (
    ACKNOWLEDGE_TIMEOUT_S,
    ATTEMPTS,
    REDRIVE_OF,
    DeadLetter,
    DeadLetterError,
    Resolution,
    Resolutions,
    ResolutionStatus,
)
from botify.streams.read import StateReader
from botify.streams.store.keys import redrive_lock

BATCH = 500
LOCK_S = 120
"""How long a killed process prevents others from redriving."""


@dataclass(slots=True)
class RedriveResult:
    """The result of a redrive.

    Attributes
    ----------
    sent : list of Origin
        Redriven now, or would be without a dry run.
    found : list of Origin
        Redriven by a process that was killed before it noted so.
    hopeless : list of (Origin, str)
        Not sent because they would be rejected again, and why.
    excluded : list of Origin
        Not sent because an operator has excluded them, or their listener was erased.
    unsure : list of Origin
        Not acknowledged; the next redrive searches them.
    """

    sent: list[Origin] = field(default_factory=list)
    found: list[Origin] = field(default_factory=list)
    hopeless: list[tuple[Origin, str]] = field(default_factory=list)
    excluded: list[Origin] = field(default_factory=list)
    unsure: list[Origin] = field(default_factory=list)


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

    Raises `DeadLetterError`: another process redrives, or a letter is not of the listens topic.

    Parameters
    ----------
    redis : redis.Redis or RedisCluster
        Blocking.
    force : bool
        Whether to send letters that would be rejected again.
    exclusions : bool
        Whether to send excluded records, which would be accepted again.
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
    """Return which of the letters were sent."""
    found = set()
    end = end_offsets(settings, topic)
    for partition in {origin.partition for origin in in_doubt}:
        wanted = {str(origin).encode(): origin for origin in in_doubt if origin.partition == partition}
        start = min(in_doubt[origin].from_offset for origin in wanted.values())
        log = PartitionLog(settings, topic, partition, start)
        try:
            for batch in log.read_to(end[partition]):
                of = (dict(record.headers).get(REDRIVE_OF) for record in batch)
                found |= {wanted[origin] for origin in of if origin in wanted}
        finally:
            log.close()
    return found


def _only_fit(
    settings: Settings, redis: Any, letters: Sequence[DeadLetter], outcome: RedriveResult
) -> list[DeadLetter]:
    """Return the letters that would be accepted now; the others are noted as hopeless."""
    codec, now_ms = codec_of(settings), int(time.time() * 1000)
    reached_ms = StateReader(redis, settings).event_times()
    catalogue = CatalogueReader(settings, codec)
    try:
        catalogue.refresh()
        intake = Intake(codec, catalogue.tracks, catalogue.refresh, lead=Lead.of(settings))
        fit = []
        for letter in letters:
            event_time = EventTime(reached_ms.get(letter.origin.partition, 0))
            record = letter.as_record()._replace(timestamp=now_ms)
            ((_, one),) = decode_and_validate([record], Listen, intake, event_time=event_time)
            if isinstance(one, RejectedMessageError):
                outcome.hopeless.append((letter.origin, str(one)))
            else:
                fit.append(letter)
        return fit
    finally:
        catalogue.close()


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
