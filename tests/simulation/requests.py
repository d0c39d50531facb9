"""The topics of requests and answers, and the clients of confluent-kafka that the recommender service has to them.

The group has no barrier: a member learns of a rebalance when it polls. A former generation may not commit, but for
what a member commits while it gives its partitions up, before the next owner has them. By the classic protocol it gives
up all of them, by KIP-848 those that move; what it keeps, it may commit as before (KIP-1251).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from botify.core.kafka.config import key_of
from botify.schemas.events import Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from tests.simulation import faults
from tests.simulation.group import Members
from tests.simulation.kafka import SETTINGS, Delivered, Headers, Kafka, OnDelivery, Record
from tests.simulation.loop import Nap
from tests.simulation.topic import BASE_MS, CODEC, PARTITIONS, partition_of
from tests.support import FakeMessage

TOPICS = Topics.of(SETTINGS)
REQUESTS, ANSWERS = TOPICS.recommendation_requests.name, TOPICS.recommendations.name
SLOW_S, TIMEOUT_S = 3.0, 1.0
"""How long an acknowledgement takes while a broker is slow, and after which time a lost one is given up."""


STAYS = 0.05
"""Share of a consumer's errors with which a recommender ends."""


class RequestTopics:
    """What was published, and which requests may be committed."""

    def __init__(self, violations: list[str], now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.requests: list[list[FakeMessage]] = [[] for _ in range(PARTITIONS)]
        self.listens: set[str] = set()
        self.answers: list[Recommendation] = []
        self.violations = violations
        self.naps: dict[str, Nap] = {}
        """Of recommenders, by name, which a request ends."""
        self._answered: set[str] = set()
        self._rejected: set[tuple[int, int]] = set()

    def accepted_by_topic(self) -> Mapping[str, Callable[[Record], object]]:
        return {
            TOPICS.listens.name: lambda record: self.listens.add((record.value or b"").decode()),
            REQUESTS: self._request,
            ANSWERS: self._answer,
            TOPICS.dead_letters.name: self._reject,
        }

    def check_commit(self, partition: int, begin: int, end: int, newest_ms: int) -> None:
        """Check that requests may be committed: each is answered, rejected, or past its deadline."""
        for at, message in enumerate(self.requests[partition][begin:end], begin):
            if (partition, at) in self._rejected:
                continue
            request = request_of(message.value() or b"")
            if request is None or request.request_id not in self._answered:
                if request is not None and (request.deadline_ms < newest_ms or unanswerable(request)):
                    continue
                self.violations.append(f"request {partition, at} is committed and not answered")
        if end > len(self.requests[partition]):
            self.violations.append(f"offset {end} of partition {partition} is committed and not there")

    def _request(self, record: Record) -> None:
        partition = partition_of(int(record.key or b"0"))
        offset, taken_ms = len(self.requests[partition]), BASE_MS + int(self._now_s() * 1000)
        self.requests[partition].append(
            FakeMessage(**record._asdict(), partition=partition, offset=offset, timestamp=(1, taken_ms))
        )
        for nap in self.naps.values():
            nap.wake()

    def _answer(self, record: Record) -> None:
        answer = CODEC.decode(record.value, Recommendation)
        self.answers.append(answer)
        self._answered.add(answer.request_id)
        if record.key != key_of(answer.user):
            self.violations.append(f"the answer {answer.request_id} has another listener's key")

    def _reject(self, record: Record) -> None:
        origin = dict(record.headers)
        partition, offset = (int(origin[f"__connect.errors.{name}"]) for name in ("partition", "offset"))
        self._rejected.add((partition, offset))
        if request_of(self.requests[partition][offset].value() or b"") is not None:
            self.violations.append(f"request {partition, offset} is a dead letter, and it is good")


def request_of(value: bytes) -> RecommendationRequest | None:
    return CODEC.decode(value, RecommendationRequest) if value.startswith(b"\0") else None


def unanswerable(request: RecommendationRequest) -> bool:
    return request.track == 8


class RequestGroup(Members):
    def __init__(self, kafka: Kafka, topics: RequestTopics, *, classic: bool) -> None:
        super().__init__(kafka)
        self.topics, self.classic = topics, classic
        self.committed = dict.fromkeys(range(PARTITIONS), 0)
        self.generation = 0
        self._taken_in: dict[int, int] = {}
        """Partition to the newest generation in which a member has begun to read it."""
        self.assigned: dict[str, list[int]] = {}

    def beat(self, member: str, *, join: bool = False) -> bool:
        known = member in self._members
        if known or join:
            self._members[member] = self._now_s()
        if join and not known:
            self.rebalance()
        return known or join

    def rebalance(self) -> None:
        self.generation += 1
        members, partitions = sorted(self._members), list(range(PARTITIONS))
        self.kafka.rng.shuffle(partitions)
        self.assigned = {m: partitions[at :: len(members)] for at, m in enumerate(members)}
        self.kafka.history.note("group", f"generation {self.generation}: {self.assigned or 'empty'}")

    def take(self, member: str, kept: Collection[int]) -> dict[int, int]:
        self._taken_in |= dict.fromkeys(set(self.assigned[member]).difference(kept), self.generation)
        return {partition: self.committed[partition] for partition in self.assigned[member]}

    def commit(self, member: str, generation: int, offsets: Mapping[int, int], newest_ms: int) -> bool:
        """Commit, if the member is known and no later one has the partitions; return whether it did."""
        if member not in self._members or any(self._taken_in[partition] > generation for partition in offsets):
            return False
        self.kafka.history.note("group", f"{member} commits {offsets}")
        for partition, offset in offsets.items():
            self.topics.check_commit(partition, self.committed[partition], offset, newest_ms)
            self.committed[partition] = offset
        return True


class GroupConsumer:
    """Stands in for `confluent_kafka.Consumer`, as the recommender service uses it."""

    def __init__(self, group: RequestGroup, member: str, newest_ms: Callable[[], int]) -> None:
        self._group, self._member, self._newest_ms = group, member, newest_ms
        self._generation = -1
        self._positions: dict[int, int] = {}
        self._on: dict[str, Callable[..., object]] = {}
        self._closed = False

    def subscribe(self, topics: Sequence[str], **on: Callable[..., object]) -> None:
        self._on = on

    def consume(self, most: int, wait_s: float = 0.0) -> list[FakeMessage]:
        self._rebalance()
        found = [*self._errors()]
        for partition, position in self._positions.items():
            some = self._group.topics.requests[partition][position : position + most - len(found)]
            self._positions[partition] += len(some)
            found += some
        return found

    def _errors(self) -> Iterator[FakeMessage]:
        """Yield what librdkafka reports as messages: a leader that changes, and now and then an error that stays."""
        kafka = self._group.kafka
        if kafka.strikes(faults.LEADER_CHANGES):
            stays = kafka.rng.random() < STAYS
            error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED if stays else KafkaError.LEADER_NOT_AVAILABLE)
            yield FakeMessage(topic=REQUESTS, partition=0, offset=0, error=error)

    def commit(self, offsets: Sequence[TopicPartition], *, asynchronous: bool) -> None:
        group, generation, newest_ms = self._group, self._generation, self._newest_ms()
        wanted = {at.partition: at.offset for at in offsets}
        commit = partial(group.commit, self._member, generation, wanted, newest_ms)
        if asynchronous:
            group.kafka.later(lambda: (group.generation == generation or not group.classic) and commit())
        elif not commit():
            raise KafkaException(KafkaError(KafkaError.ILLEGAL_GENERATION))

    def memberid(self) -> str:
        return self._member

    def beat(self) -> bool:
        if not self._closed and self._generation >= 0:
            self._group.beat(self._member)
        return not self._closed

    def close(self) -> None:
        self._closed = True
        if self._positions:
            self._call("on_revoke", self._positions)
        self._group.remove(self._member)

    def _rebalance(self) -> None:
        group = self._group
        known = group.beat(self._member)
        if known and group.generation == self._generation:
            return
        kept = set() if group.classic or not known else self._positions.keys() & group.assigned[self._member]
        if self._generation >= 0:
            self._call("on_revoke" if known else "on_lost", self._positions.keys() - kept)
        group.beat(self._member, join=True)
        self._generation = group.generation
        positions = group.take(self._member, kept)
        self._positions = {at: self._positions[at] if at in kept else offset for at, offset in positions.items()}
        self._call("on_assign", positions.keys() - kept)

    def _call(self, what: str, partitions: Iterable[int]) -> None:
        self._on[what](self, [TopicPartition(REQUESTS, partition) for partition in partitions])


class AsyncProducer:
    """Stands in for `confluent_kafka.Producer`, for who polls: reports arrive later, with `poll`."""

    def __init__(self, kafka: Kafka, config: Mapping[str, Any]) -> None:
        self._kafka = kafka
        self._sent: dict[int, tuple[Record, OnDelivery | None]] = {}
        self._reports: list[tuple[OnDelivery | None, KafkaError | None, Delivered]] = []
        self._count = 0

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        on_delivery: OnDelivery | None = None,
        timestamp: int = 0,
        headers: Headers | None = None,
    ) -> None:
        self._count += 1
        number, kafka = self._count, self._kafka
        self._sent[number] = Record(topic, value, key, headers or ()), on_delivery
        slow_s = kafka.rng.uniform(0.0, SLOW_S) if kafka.strikes(faults.BROKER_SLOW) else 0.0
        kafka.later(lambda: self._arrive(number), slow_s)

    def produce_batch(
        self, topic: str, records: Sequence[Mapping[str, Any]], partition: int, on_delivery: OnDelivery
    ) -> int:
        for record in records:
            self.produce(topic, partition=partition, on_delivery=on_delivery, **record)
        return len(records)

    def _arrive(self, number: int) -> None:
        if (sent := self._sent.pop(number, None)) is None:
            return
        kafka, (record, on_delivery) = self._kafka, sent
        refused = kafka.strikes(faults.BROKER_REFUSES) and kafka.rng.random() < 0.5
        error = KafkaError(KafkaError.INVALID_RECORD) if refused else None
        if not refused:
            kafka.append(record)
        wait_s = 0.0
        if kafka.strikes(faults.BROKER_LOSES_REPLIES):
            error, wait_s = KafkaError(KafkaError._MSG_TIMED_OUT), TIMEOUT_S
        report = on_delivery, error, Delivered(record.topic)
        kafka.later(lambda: self._reports.append(report), wait_s)

    def poll(self, wait_s: float = 0.0) -> int:
        reports, self._reports = self._reports, []
        for on_delivery, error, delivered in reports:
            if on_delivery is not None:
                on_delivery(error, delivered)
        return len(reports)

    def flush(self, timeout_s: float) -> int:
        """Wait for what is sent; a slow broker outlasts the timeout. Its reports come with a later poll."""
        if not self._kafka.strikes(faults.BROKER_SLOW):
            for number in sorted(self._sent):
                self._arrive(number)
        self.poll()
        return len(self._sent)

    def purge(self) -> None:
        self._sent.clear()
