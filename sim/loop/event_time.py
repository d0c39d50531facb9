"""The event time of a run: where it begins, and which of its listens declare that it is simulated."""

from __future__ import annotations

import time

from core.kafka.admin import end_offsets
from core.kafka.config import partition_of
from core.kafka.reader import TopicReader
from core.settings import Settings
from schemas.dead_letters import RejectedBefore
from schemas.event_time import LEAD_MS, event_time_of
from schemas.events import Listen
from schemas.registry import codec_of
from schemas.topics import Topics
from schemas.validation import iter_valid

NEWEST = 100
"""Listens of each partition that are looked at: some of them may be dead letters, and some may come late."""
APART_MS = 60 * 60 * 1000
"""Between the newest listen and a new run: more than the gap that closes sessions."""


def start_of_run_ms(settings: Settings) -> int:
    """Return now, or an hour after the newest listen if that is later.

    Event time runs faster than the wall clock at full speed, so the last run may have ended in the future; a run that
    began before that would come late for every session.

    Raises
    ------
    TopicError
        The topic is missing, or no broker answers.
    """
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    newest_ms: dict[int, int] = {}
    rejected = RejectedBefore(settings, topic)
    ends = end_offsets(settings, topic)
    reader = TopicReader(settings, topic, {partition: max(0, end - NEWEST) for partition, end in ends.items()})
    try:
        rejected.refresh()
        for batch in reader.read_to_end(ends):
            # a dead letter says nothing about time
            for message, listen in iter_valid(batch, Listen, codec, rejected.offsets):
                newest_ms[message.partition()] = max(newest_ms.get(message.partition(), 0), listen.timestamp_ms)
    finally:
        reader.close()
        rejected.close()
    return max(int(time.time() * 1000), event_time_of(list(newest_ms.values())) + APART_MS)


class SimulatedTime:
    """Knows how far a run has brought the event time of each partition, so that few listens need to declare theirs.

    Parameters
    ----------
    partitions : int
        Of the listens topic.

    Examples
    --------
    >>> time = SimulatedTime(partitions=1)
    >>> leaps = [Listen(f"a:{n}", 42, 7, 0.5, n * LEAD_MS // 2, "a", n, False, None, {}, None, None) for n in (1, 2, 4)]
    >>> [time.leaps(listen, wall_ms=0) for listen in leaps]
    [False, False, True]
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._newest_ms = [0] * partitions

    def leaps(self, listen: Listen, wall_ms: int) -> bool:
        """Note a listen, and say whether the worker would refuse it but for the header `SIMULATED_TIME`.

        Half of the bound is left for the clocks of this machine and the broker.
        """
        partition = partition_of(listen.user, self._partitions)
        newest_ms = self._newest_ms[partition]
        if listen.timestamp_ms <= newest_ms:
            return False
        self._newest_ms[partition] = listen.timestamp_ms
        return listen.timestamp_ms > max(newest_ms, wall_ms) + LEAD_MS // 2
