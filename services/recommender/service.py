"""The service: polls a batch of requests, reads their listeners' states, answers, replies.

    requests ──decode, deadline──► Batch ──experiments──► recommenders ──► recommendations, keyed by user

Delivery is at least once, see `delivery`. A request past its deadline is answered by nobody, and counted. One that
cannot be decoded goes to the dead letters.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from core.errors import RejectedMessageError
from core.kafka.config import consumer_config, is_retriable
from core.kafka.publisher import RecordPublisher
from core.settings import Settings
from core.telemetry import DurationHistogram
from schemas.codec import Codec
from schemas.dead_letters import MAX_BYTES
from schemas.events import Recommendation, RecommendationRequest
from schemas.models import ModelReader
from schemas.topics import Topics
from schemas.validation import check
from services.errors import RecommenderError
from services.experiments import Experiments
from services.recommender.delivery import Delivery
from services.recommender.dispatch import Breaker, answer
from services.recommender.protocol import NO_ANSWER, Batch
from services.recommender.registry import RecommenderRegistry
from services.recommender.sessions import PendingListens
from streams.folds.likes import Likes
from streams.folds.users import UserState
from streams.read import StateReader
from streams.store.connect import REDIS_ERRORS

log = logging.getLogger(__name__)

GROUP = "recommender"
BATCH = 512
Rejected = tuple[Message, RejectedMessageError]
COMMIT_EVERY_S = 1.0


@dataclass(slots=True)
class RecommenderCounters:
    """What the service has done since it started."""

    answered: int = 0
    fallbacks: int = 0
    expired: int = 0
    unanswerable: int = 0
    without_state: int = 0
    dead_letters: int = 0


class RecommenderService:
    """One member of the recommenders' group.

    Parameters
    ----------
    settings : Settings
    codec : Codec
    reader : StateReader
    registry : RecommenderRegistry
    experiments : Experiments
    models : ModelReader
        What the recommenders follow; closed with the service.
    breakers : mapping of name to Breaker
        Those of the recommenders.

    Attributes
    ----------
    counters : RecommenderCounters
    answers : collections.Counter of str
        Answers by the recommender that gave them.
    asked, fallbacks : collections.Counter of str
        Answers by the policy that they were wanted of, and those of them that another one gave. A policy of `mix` is
        one by itself: `mix/rerank`.
    durations : DurationHistogram
        From a request's record timestamp to its answer.
    assigned : bool
        Whether the group has said which partitions are this member's, which may be none.
    redis_problem : str | None
        Why the listeners' states could not be read when they were last asked for.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        reader: StateReader,
        registry: RecommenderRegistry,
        experiments: Experiments,
        models: ModelReader,
        breakers: Mapping[str, Breaker],
    ) -> None:
        topics = Topics.of(settings)
        self._codec = codec
        self._reader = reader
        self._registry = registry
        self._experiments = experiments
        self.models = models
        self.breakers = breakers
        self._pending = PendingListens()
        self._consumer = Consumer(
            consumer_config(
                settings, f"{settings.topic_prefix}-{GROUP}", session_timeout_ms=settings.session_timeout_s * 1000
            )
        )
        publisher = RecordPublisher(
            settings,
            linger_ms=0.5,
            queue_buffering_max_messages=200_000,
            message_max_bytes=MAX_BYTES,
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
        self.answers: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self.durations = DurationHistogram()
        self.assigned = False
        self.redis_problem: str | None = None
        self._unread: list[int] = []
        self._committed_at = time.monotonic()

    def step(self, wait_s: float = 0.2) -> int:
        """Answer what has come; return how many requests that were.

        Raises
        ------
        RecommenderError
            Kafka cannot be read from or written to any more.
        """
        messages = self._receive(wait_s)
        if messages:
            requests, taken, rejected = self._take(messages)
            answers = self._answer(requests, taken) if requests else []
            self._delivery.send(messages, answers, rejected)
        else:
            self._delivery.poll()
            self._registry.look_for_the_first_track()
            if self.redis_problem is not None:
                self._states_and_likes(self._unread)
        if time.monotonic() - self._committed_at > COMMIT_EVERY_S:
            self._delivery.commit()
            self._committed_at = time.monotonic()
        return len(messages)

    def close(self) -> None:
        """Wait for acknowledgements, commit and leave the group."""
        try:
            self._delivery.commit(wait=True)
        finally:
            self._consumer.close()
            self.models.close()

    def problem(self) -> str | None:
        """Return what keeps it from answering; a `Probe`. All models that the topic had were taken before it joined."""
        if not len(self._registry.catalogue):
            return "the catalogue is empty; `botify world publish` or a simulation fills it"
        return self.redis_problem if self.assigned else "the group has not assigned partitions yet"

    def _on_assign(self, *_: object) -> None:
        self.assigned = True

    def _on_revoke(self, *_: object) -> None:
        self.assigned = False
        self._delivery.commit(wait=True)

    def _on_lost(self, *_: object) -> None:
        self.assigned = False
        self._delivery.forget()

    def _receive(self, wait_s: float) -> list[Message]:
        """Wait for one message, then take all that are there: `consume` alone would wait for a full batch."""
        try:
            messages = self._consumer.consume(1, wait_s)
            if messages:
                messages += self._consumer.consume(BATCH - 1, 0)
        except KafkaException as error:
            raise RecommenderError(f"requests cannot be read: {error}") from error
        return [message for message in messages if _is_data(message.error())]

    def _take(self, messages: Sequence[Message]) -> tuple[list[RecommendationRequest], list[Message], list[Rejected]]:
        """Decode, and set aside what is bad or too late."""
        requests, taken, rejected, expired = [], [], [], []
        now_ms = time.time() * 1000
        for message in messages:
            raw = message.value()
            try:
                request = self._codec.decode(raw, RecommendationRequest)
                check(request, message.key(), raw)
            except RejectedMessageError as reason:
                rejected.append((message, reason))
                continue
            if request.deadline_ms < now_ms:
                expired.append(request.request_id)
                continue
            requests.append(request)
            taken.append(message)
        self.counters.dead_letters += len(rejected)
        self.counters.expired += len(expired)
        if rejected:
            log.warning("%d dead letters, the first: %s", len(rejected), rejected[0][1])
        if expired:
            log.warning("%d requests came past their deadline", len(expired), extra={"request_id": expired[0]})
        return requests, taken, rejected

    def _answer(self, requests: list[RecommendationRequest], messages: list[Message]) -> list[tuple[bytes, bytes]]:
        states, likes = self._states_and_likes([request.user for request in requests])
        if self.redis_problem is not None:
            self.counters.without_state += len(requests)
        assigned = [self._experiments.assign(request.user) for request in requests]
        wanted = [assignment.recommender for assignment in assigned]
        freshness = [_freshness(request, state) for request, state in zip(requests, states, strict=True)]
        batch = Batch.of(requests, self._pending.completed(requests, states), likes)
        answered = answer(batch, wanted, self._registry.serve(batch.tracks))
        now_ms = time.time() * 1000
        replies, durations_s = [], []
        for request, message, fresh, assignment, track, propensity, recommender, policy, candidates, asked in zip(
            requests,
            messages,
            freshness,
            assigned,
            answered.tracks.tolist(),
            answered.propensities.tolist(),
            answered.recommenders,
            answered.policies,
            answered.candidates,
            answered.asked(wanted),
            strict=True,
        ):
            if track == NO_ANSWER:
                self.counters.unanswerable += 1
                continue
            self.counters.answered += 1
            meant_for, stood_in = asked
            self.counters.fallbacks += stood_in
            self.asked[meant_for] += 1
            self.fallbacks[meant_for] += stood_in
            self.answers[recommender] += 1
            latency_ms = now_ms - message.timestamp()[1]
            durations_s.append(latency_ms / 1000)
            reply = Recommendation(
                request_id=request.request_id,
                user=request.user,
                track=track,
                recommender=recommender,
                treatments=assignment.treatments,
                propensity=propensity,
                state_freshness=fresh,
                latency_ms=latency_ms,
                timestamp_ms=request.timestamp_ms,
                policy=policy,
                candidates=candidates,
            )
            replies.append((message.key(), self._codec.encode(reply)))
        self.durations.update(durations_s)
        return replies

    def _states_and_likes(self, users: list[int]) -> tuple[list[UserState | None], list[Likes | None]]:
        """Return what Redis has of listeners; nothing where it does not answer: an answer without it beats none."""
        try:
            found = self._reader.users_and_likes(users)
        except REDIS_ERRORS as error:
            if self.redis_problem is None:
                log.warning("answering without the listeners' states: Redis does not answer (%r)", error)
            self.redis_problem = f"Redis does not answer ({type(error).__name__})"
            self._unread = users
            return [None] * len(users), [None] * len(users)
        if self.redis_problem is not None:
            log.warning("Redis answers again")
        self.redis_problem = None
        return found


def _freshness(request: RecommendationRequest, state: UserState | None) -> int:
    """Return how many listens of the request's session the state had seen."""
    return state.session_listens if state is not None and state.session_id == request.session_id else 0


def _is_data(error: KafkaError | None) -> bool:
    if error is None:
        return True
    if not is_retriable(error):
        raise RecommenderError(f"requests cannot be read: {error.str()}")
    log.warning("reading requests: %s", error.str())
    return False
