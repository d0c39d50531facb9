"""How fast the loop turns, and what waits in it."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, TopicPartition

from schemas import clients
from schemas.settings import Settings
from schemas.topics import Topics
from services.dashboard.figures.snapshot import Traffic
from services.recommender.service import GROUP
from services.stack.lag import OffsetReader, Offsets, rates, totals
from streams.read import StateReader

TIMEOUT_S = 2.0


class TrafficReader:
    """Compares where the topics end with the reading before, and with what worker and recommender have done."""

    def __init__(self, settings: Settings, state: StateReader) -> None:
        self._topics = Topics.of(settings)
        self._state = state
        self._offsets = OffsetReader(settings)
        # it never subscribes, so it is no member of the group
        self._recommender = Consumer(clients.consumer_config(settings, f"{settings.topic_prefix}-{GROUP}"))
        self._before: tuple[float, Offsets] = (time.monotonic(), self._offsets.ends())

    def read(self) -> Traffic:
        """Take a reading; raises what Kafka's and Redis's clients raise."""
        now_s, ends = time.monotonic(), self._offsets.ends()
        before_s, before = self._before
        self._before = (now_s, ends)
        per_s = rates(before, ends, max(now_s - before_s, 1e-3))
        records = totals(ends)
        listens, answers = self._topics.listens.name, self._topics.recommendations.name
        return Traffic(
            listens=records.get(listens, 0),
            recommendations=records.get(answers, 0),
            listens_per_s=per_s.get(listens, 0.0),
            recommendations_per_s=per_s.get(answers, 0.0),
            worker_lag=_behind(ends, listens, self._state.checkpoints()),
            recommender_lag=self._recommender_lag(ends),
            dead_letters=records.get(self._topics.dead_letters.name, 0),
        )

    def close(self) -> None:
        """Let go of Kafka."""
        self._recommender.close()

    def _recommender_lag(self, ends: Offsets) -> tuple[int, ...]:
        requests = self._topics.recommendation_requests.name
        asked = [TopicPartition(topic, partition) for topic, partition in ends if topic == requests]
        found = self._recommender.committed(asked, timeout=TIMEOUT_S) if asked else []
        return _behind(ends, requests, {at.partition: max(at.offset, 0) for at in found if at.error is None})


def _behind(ends: Offsets, topic: str, done: dict[int, int]) -> tuple[int, ...]:
    # the end was read a moment before what is done, which may be further by now
    return tuple(max(0, end - done.get(at[1], 0)) for at, end in sorted(ends.items()) if at[0] == topic)
