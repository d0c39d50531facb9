"""The service: polls a batch of requests, reads their listeners' states, dispatches, replies and commits.

    requests ──decode, deadline──► Batch ──experiments──► recommenders ──► recommendations, keyed by user

An answer goes to the partition that its request names, or else to the user's own.

Delivery is at least once: a request's offset is committed only after the broker has acknowledged the answer. After a
crash some requests are answered twice; the client drops the copy by its request id. A request past its deadline is
counted and not answered. A request that cannot be decoded becomes a dead letter.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from botify.core.drift import Watch
from botify.core.errors import RejectedMessageError
from botify.core.kafka.config import LONG_POLL_MS, is_retriable
from botify.core.kafka.group import is_spare, member_config
from botify.core.kafka.headers import headers_of
from botify.core.kafka.publisher import Record, RecordPublisher
from botify.core.settings import Settings
from botify.core.telemetry import DurationHistogram
from botify.core.throttle import gather_ms
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import dead_letter
from botify.schemas.events import Recommendation, RecommendationRequest
from botify.schemas.models import ModelReader
from botify.schemas.topics import MAX_DEAD_LETTER_BYTES, Topics
from botify.schemas.validation import Intake, accept_requests
from botify.services.errors import RecommenderError
from botify.services.experiments import LiveExperiments
from botify.services.recommender.catalogue import CATALOGUE
from botify.services.recommender.dispatch import Breaker, Dispatched, LiveRecommenders
from botify.services.recommender.protocol import NO_ANSWER, Batch
from botify.services.recommender.sessions import PendingListens, Seen, freshness_of, listens_of
from botify.services.recommender.slates import from_state, with_liked
from botify.streams.folds.likes import Likes
from botify.streams.folds.users import UserState
from botify.streams.read import StateReader
from botify.streams.store.connect import REDIS_ERRORS

Rejected = tuple[Message, RejectedMessageError]

MAX_UNACKNOWLEDGED = 20_000
POLL_S = 0.05


@dataclass(slots=True)
class _Batch:
    offsets: dict[tuple[str, int], int]
    waiting: int


class Delivery:
    """Sends batches of answers to `topic`, and commits the requests' offsets behind them.

    The publisher must report the delivery of every record.
    """

    def __init__(self, consumer: Consumer, publisher: RecordPublisher, topic: str, dead_letters: str) -> None:
        self._consumer, self._publisher = consumer, publisher
        self._topic, self._dead_letters = topic, dead_letters
        self._batches: deque[_Batch] = deque()
        self._unacknowledged = 0
        self._committable: dict[tuple[str, int], int] = {}
        self._refused: KafkaError | None = None

    def send(
        self, requests: Sequence[Message], answers: Mapping[int, list[Record]], rejected: Sequence[Rejected] = ()
    ) -> None:
        """Send the answers to a batch of requests, by partition (-1 is the key's), and its dead letters.

        Waits while more than `MAX_UNACKNOWLEDGED` records are unacknowledged. Raises as `poll`.
        """
        if rejected:
            self._publisher.drain()  # they may be large, and `produce` does not wait while the queue is full
        batch = _Batch({}, sum(map(len, answers.values())) + len(rejected))
        for request in requests:
            batch.offsets[request.topic(), request.partition()] = request.offset() + 1
        self._batches.append(batch)
        self._unacknowledged += batch.waiting

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            batch.waiting -= 1
            self._unacknowledged -= 1
            if error is not None:
                self._refused = error

        for partition, records in answers.items():
            self._publisher.send_batch(self._topic, records, partition, on_delivery)
        produce = self._publisher.produce
        for message, reason in rejected:
            origin = message.topic(), message.partition(), message.offset()
            letter = dead_letter(origin, message.key(), message.value(), headers_of(message), reason)
            produce(self._dead_letters, **letter, on_delivery=on_delivery)
        self.poll()
        while self._unacknowledged > MAX_UNACKNOWLEDGED:
            self.poll(POLL_S)

    def poll(self, wait_s: float = 0.0) -> None:
        """Handle acknowledgements; wait for the first one. Raises `RecommenderError` if a broker refused an answer."""
        self._publisher.poll(wait_s)
        if self._refused is not None:
            raise RecommenderError(f"the brokers refused an answer or a dead letter: {self._refused.str()}")
        while self._batches and self._batches[0].waiting == 0:
            self._committable.update(self._batches.popleft().offsets)

    def commit(self, *, wait: bool = False) -> None:
        """Commit acknowledged requests; with `wait`, flush everything first."""
        if wait:
            self._publisher.drain()
            self.poll()
        if self._committable:
            offsets = [TopicPartition(topic, partition, at) for (topic, partition), at in self._committable.items()]
            self._committable = {}
            self._consumer.commit(offsets=offsets, asynchronous=not wait)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop what is not committed of these partitions: it is left to another member, whose commit ours would undo.

        What the member keeps must stay: a later commit of the same partition passes it.
        """
        gone = {(at.topic, at.partition) for at in partitions}
        for batch in self._batches:
            batch.offsets = {at: offset for at, offset in batch.offsets.items() if at not in gone}
        self._committable = {at: offset for at, offset in self._committable.items() if at not in gone}


log = logging.getLogger(__name__)

GROUP = "recommender"
BATCH = 512
COMMIT_EVERY_S = 1.0

GATHER_RATE = 1.1  # requests a millisecond that call for 1 ms of gathering
MOST_GATHER_MS = 4.0


@dataclass(slots=True)
class RecommenderCounters:
    """Counts since the start of the service."""

    answered: int = 0
    fallbacks: int = 0
    expired: int = 0
    unanswerable: int = 0
    without_state: int = 0
    dead_letters: int = 0


class RecommenderService:
    """One member of the recommenders' group; closes the models and experiments.

    `answers` counts by recommender, `asked` and `fallbacks` by assigned policy. `durations` are from the request's
    record timestamp to its answer. `redis_problem` is the error of the last read of states.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        reader: StateReader,
        recommenders: LiveRecommenders,
        experiments: LiveExperiments,
        models: ModelReader,
        breakers: Mapping[str, Breaker],
    ) -> None:
        topics = Topics.of(settings)
        self._codec, self._intake = codec, Intake(codec)
        self._partitions, self._reader = settings.partitions, reader
        self._recommenders, self._experiments = recommenders, experiments
        self.models, self.breakers = models, breakers
        self._pending = PendingListens()
        self._settings, self._group = settings, f"{settings.topic_prefix}-{GROUP}"
        self._consumer = Consumer(member_config(settings, self._group, fetch_wait_max_ms=LONG_POLL_MS))
        publisher = RecordPublisher(
            settings,
            linger_ms=0,  # batches are gathered already
            queue_buffering_max_messages=200_000,
            message_max_bytes=MAX_DEAD_LETTER_BYTES,
            delivery_report_only_error=False,
        )
        self._delivery = Delivery(self._consumer, publisher, topics.recommendations.name, topics.dead_letters.name)
        self._consumer.subscribe(
            [topics.recommendation_requests.name],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        self.counters = RecommenderCounters()
        self.answers, self.asked, self.fallbacks = Counter[str](), Counter[str](), Counter[str]()
        self.durations, self.drift = DurationHistogram(), {"fallbacks": Watch(side=-1)}
        self._owned: set[int] = set()
        self._revoked: set[int] = set()
        self.redis_problem: str | None = None
        self._unread: list[int] = []
        self._received, self._received_s = 0, 0.0
        self._committed_at = time.monotonic()

    def step(self, wait_s: float = 0.2) -> int:
        """Answer one batch of requests; return how many messages it had. Raises `RecommenderError` if Kafka fails."""
        messages = self._receive(wait_s)
        if messages:
            requests, taken, rejected = self._take(messages)
            answers = self._answer(requests, taken) if requests else {}
            self._delivery.send(messages, answers, rejected)
        else:
            self._delivery.poll()
            self._recommenders.refresh_if_empty()
            if self.redis_problem is not None:
                self._states_and_likes(self._unread)
        if time.monotonic() - self._committed_at > COMMIT_EVERY_S:
            self._delivery.commit()
            self._committed_at = time.monotonic()
        return len(messages)

    def close(self) -> None:
        try:
            self._delivery.commit(wait=True)
        finally:
            self._consumer.close()
            self.models.close()
            self._experiments.close()

    def problem(self) -> str | None:
        """Return why the service cannot answer, or None; a `Probe`. All models are read before it joins the group."""
        if not len(self._recommenders.catalogue):
            return "the catalogue is empty; fill it with `botify world make --publish` or `botify sim`"
        if self._owned or is_spare(self._settings, self._group, self._consumer.memberid()):
            return self.redis_problem
        return "the group has not assigned partitions yet"

    def _on_assign(self, _: object, partitions: Sequence[TopicPartition]) -> None:
        self._owned.update(at.partition for at in partitions)

    def _on_revoke(self, consumer: object, partitions: Sequence[TopicPartition]) -> None:
        self._delivery.commit(wait=True)
        self._on_lost(consumer, partitions)

    def _on_lost(self, _: object, partitions: Sequence[TopicPartition]) -> None:
        revoked = {at.partition for at in partitions}
        self._revoked |= revoked
        self._owned -= revoked
        self._delivery.forget(partitions)

    def _receive(self, wait_s: float) -> list[Message]:
        """Wait for one message, and gather more for as long as the rate of the last batch calls for."""
        try:
            messages = self._consumer.consume(1, wait_s)
            if messages:
                before_s, self._received_s = self._received_s, time.monotonic()
                wait_ms = gather_ms(self._received, (self._received_s - before_s) * 1000, GATHER_RATE, MOST_GATHER_MS)
                self._revoked.clear()
                more = self._consumer.consume(BATCH - 1, wait_ms / 1000)
                # what was not committed at a revocation is its next owner's, whose commit a later one would undo
                messages = [one for one in messages if one.partition() not in self._revoked] + more
                self._received = len(messages)
        except KafkaException as error:
            raise RecommenderError(f"reading requests failed: {error}") from error
        return [message for message in messages if _is_data(message.error())]

    def _take(self, messages: Sequence[Message]) -> tuple[list[RecommendationRequest], list[Message], list[Rejected]]:
        requests, taken, rejected, expired = [], [], [], []
        now_ms = time.time() * 1000
        for message, request in zip(messages, accept_requests(messages, self._intake, self._partitions), strict=True):
            if isinstance(request, RejectedMessageError):
                rejected.append((message, request))
            elif request.deadline_ms < now_ms:
                expired.append(request.request_id)
            else:
                requests.append(request)
                taken.append(message)
        self.counters.dead_letters += len(rejected)
        self.counters.expired += len(expired)
        if rejected:
            log.warning("%d requests became dead letters, the first: %s", len(rejected), rejected[0][1])
        if expired:
            log.warning("%d requests were past their deadline", len(expired), extra={"request_id": expired[0]})
        return requests, taken, rejected

    def _answer(self, requests: list[RecommendationRequest], messages: list[Message]) -> dict[int, list[Record]]:
        states, likes = self._states_and_likes([one.user for one in requests])
        if self.redis_problem is not None:
            self.counters.without_state += len(requests)
        known = list(states)
        for row, request in enumerate(requests):
            if not request.has_listen:
                states[row] = with_liked(request, states[row])
                requests[row] = from_state(request, states[row])
        assigned = [self._experiments.assign(request.user) for request in requests]
        wanted = [assignment.recommender for assignment in assigned]
        freshness = [freshness_of(request, state) for request, state in zip(requests, known, strict=True)]
        listens = listens_of(states)
        batch = Batch.of(requests, self._pending.completed(requests, states), likes)
        with self.models.swapping:  # or an answer would name a snapshot that came while it was computed
            answered, versions = self._recommenders.answer(batch, wanted), self.models.in_use()
        versions[CATALOGUE] = self._recommenders.catalogue.label
        self._count(answered, wanted, max(request.timestamp_ms for request in requests))
        now_ms = time.time() * 1000
        latencies_ms = [now_ms - message.timestamp()[1] for message in messages]
        found = enumerate(zip(answered.tracks.tolist(), answered.slates, strict=True))
        rows = [row for row, (track, slate) in found if track != NO_ANSWER or slate is not None]
        self.durations.update([latencies_ms[row] / 1000 for row in rows])
        columns: list[list[Any]] = [
            [request.request_id for request in requests],
            [request.user for request in requests],
            answered.tracks.tolist(),
            answered.recommenders,
            [assignment.treatments for assignment in assigned],
            answered.propensities.tolist(),
            freshness,
            latencies_ms,
            [request.timestamp_ms for request in requests],
            answered.policies,
            answered.candidates,
            answered.rankings,
            answered.slates,
            *map(list, Seen.of(batch, wanted, listens, versions)),
        ]
        if len(rows) < len(requests):
            columns = [[column[row] for row in rows] for column in columns]
        values = self._codec.encode_columns(columns, Recommendation)
        replies: dict[int, list[Record]] = {}
        for row, value in zip(rows, values, strict=True):
            partition = requests[row].reply_partition
            record = {"key": messages[row].key(), "value": value}
            replies.setdefault(-1 if partition is None else partition, []).append(record)
        return replies

    def _count(self, answered: Dispatched, wanted: Sequence[str], time_ms: int) -> None:
        replaced: list[bool] = []
        for recommender, slate, (policy, is_fallback) in zip(
            answered.recommenders, answered.slates, answered.asked(wanted), strict=True
        ):
            if not recommender:
                # an empty slate is an answer: the request allowed no track
                self.counters.answered += slate is not None
                self.counters.unanswerable += slate is None
                continue
            self.counters.answered += 1
            self.counters.fallbacks += is_fallback
            self.asked[policy] += 1
            self.fallbacks[policy] += is_fallback
            self.answers[recommender] += 1
            replaced.append(is_fallback)
        self.drift["fallbacks"].add(replaced, time_ms)

    def _states_and_likes(self, users: list[int]) -> tuple[list[UserState | None], list[Likes | None]]:
        """Read listeners from Redis; None for each if it does not answer: a reply without state beats none."""
        try:
            states, likes = self._reader.users_and_likes(users)
        except REDIS_ERRORS as error:
            if self.redis_problem is None:
                log.warning("answering without the listeners' states: Redis does not answer (%r)", error)
            self.redis_problem = f"Redis does not answer ({type(error).__name__})"
            self._unread = users
            return [None] * len(users), [None] * len(users)
        if self.redis_problem is not None:
            log.warning("Redis answers again")
        self.redis_problem = None
        return states, likes


def _is_data(error: KafkaError | None) -> bool:
    if error is None:
        return True
    if not is_retriable(error):
        raise RecommenderError(f"reading requests failed: {error.str()}")
    log.warning("reading requests: %s", error.str())
    return False
