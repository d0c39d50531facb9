"""Sessions that a replay closes, to a topic of their own: those on the sessions topic may have been cut wrongly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confluent_kafka.admin import AdminClient

from schemas import clients
from schemas.events import Session
from schemas.registry import codec_of
from schemas.settings import Settings
from schemas.topics import Topics, partition_counts
from streams.offline.fold import SilentEmits
from streams.replay.errors import ReplayError
from streams.worker.emits import Emits, Emitted
from streams.worker.emitter import Emitter
from streams.worker.intake import Rejected


class _SessionsOnly:
    """Sends sessions, at least once: a replay that was killed sends some again, with the same event ids."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter

    async def emit(self, events: Sequence[Emitted], rejected: Sequence[Rejected]) -> None:
        """Send the sessions; the dead letters were sent when the records were first folded."""
        if sessions := [event for event in events if isinstance(event, Session)]:
            await self._emitter.emit(sessions, ())


@contextmanager
def sessions_sent_to(settings: Settings, topic: str | None) -> Iterator[Emits]:
    """Yield what sends sessions to the topic; without one, nothing is sent."""
    if topic is None:
        yield SilentEmits()
        return
    emitter = Emitter(settings, codec_of(settings), sessions_to=topic)
    try:
        yield _SessionsOnly(emitter)
    finally:
        emitter.close()


def check_sessions_topic(settings: Settings, topic: str) -> None:
    """Refuse a topic that cannot take the sessions of a replay.

    Raises
    ------
    ReplayError
        It does not exist, or is one of the deployment's own.
    """
    if topic in {own.name for own in Topics.of(settings).all()}:
        raise ReplayError(f"{topic} has records of its own; name another topic for the sessions")
    if topic not in partition_counts(AdminClient(clients.common_config(settings))):
        raise ReplayError(
            f"there is no topic {topic}; make it first, best with as many partitions as the sessions have"
        )
