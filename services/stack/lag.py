"""How far each consumer group is behind, and how fast topics grow, from Kafka's own offsets.

Committed offsets are for this display; where a worker goes on is kept in Redis, with the state it produced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas import clients
from schemas.committed_offsets import committed_offsets
from schemas.errors import TopicError
from schemas.reachable import require_kafka
from schemas.settings import Settings
from schemas.topics import Topics, partition_counts

TIMEOUT_S = 10.0
SILENT = {"log_level": 0}
"""librdkafka's own log lines would run into the table."""

Offsets = Mapping[tuple[str, int], int]
"""(topic, partition) -> offset."""


@dataclass(frozen=True, slots=True)
class GroupLag:
    """One consumer group on one topic.

    Attributes
    ----------
    topic, group : str
        Names.
    lags : list of int
        Records that are not committed yet, by partition.
    """

    topic: str
    group: str
    lags: list[int]


class OffsetReader:
    """Reads end offsets and committed offsets of our topics.

    Raises
    ------
    NoBrokerError
        No broker answers.
    """

    def __init__(self, settings: Settings) -> None:
        require_kafka(settings)
        self._settings = settings
        self._admin = AdminClient({**clients.common_config(settings), **SILENT})
        self._topics = {definition.name for definition in Topics.of(settings).all()}

    def ends(self) -> dict[tuple[str, int], int]:
        """Return the next offset of every partition.

        Raises
        ------
        TopicError
            Kafka does not answer.
        """
        counts = partition_counts(self._admin)
        wanted = {
            TopicPartition(topic, partition): OffsetSpec.latest()
            for topic in sorted(self._topics & counts.keys())
            for partition in range(counts[topic])
        }
        if not wanted:
            return {}
        try:
            found = self._admin.list_offsets(wanted, request_timeout=TIMEOUT_S)
            return {(at.topic, at.partition): future.result(TIMEOUT_S).offset for at, future in found.items()}
        except (KafkaException, TimeoutError) as error:
            raise TopicError(f"Kafka does not say where its topics end ({error!r})") from error

    def committed(self) -> dict[str, dict[tuple[str, int], int]]:
        """Return the committed offsets of every group, by group.

        Raises
        ------
        TopicError
            Kafka does not answer.
        """
        try:
            groups = [group.group_id for group in self._admin.list_consumer_groups().result(TIMEOUT_S).valid]
            partitions = self.ends().keys()
            return {group: committed_offsets(self._settings, group, partitions, TIMEOUT_S) for group in groups}
        except (KafkaException, TimeoutError) as error:
            raise TopicError(f"Kafka does not say what its groups committed ({error!r})") from error


def lags(ends: Offsets, committed: Mapping[str, Offsets]) -> list[GroupLag]:
    """Compare what groups have committed with where the topics end.

    A partition of which a group has committed nothing counts whole.

    Examples
    --------
    >>> lags({("listens", 0): 10, ("listens", 1): 5}, {"workers": {("listens", 0): 8}})
    [GroupLag(topic='listens', group='workers', lags=[2, 5])]
    """
    return [
        GroupLag(
            topic,
            group,
            [end - offsets.get(at, 0) for at, end in sorted(ends.items()) if at[0] == topic],
        )
        for group, offsets in sorted(committed.items())
        for topic in sorted({at[0] for at in offsets})
    ]


def rates(before: Offsets, after: Offsets, seconds: float) -> dict[str, float]:
    """Return how many records a second each topic got between two readings.

    Examples
    --------
    >>> rates({("listens", 0): 10, ("listens", 1): 5}, {("listens", 0): 30, ("listens", 1): 5}, seconds=2.0)
    {'listens': 10.0}
    """
    started = totals(before)
    return {topic: (end - started.get(topic, end)) / seconds for topic, end in totals(after).items()}


def totals(ends: Offsets) -> dict[str, int]:
    """Return the sum of each topic's offsets.

    Examples
    --------
    >>> totals({("listens", 0): 10, ("listens", 1): 5})
    {'listens': 15}
    """
    total: Counter[str] = Counter()
    for (topic, _), end in ends.items():
        total[topic] += end
    return dict(total)
