"""A universe of requests: gateways ask, recommenders answer, and processes and brokers fail meanwhile."""

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import ContextVar
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from confluent_kafka import KafkaException
from redis.exceptions import ConnectionError as RedisConnectionError

from botify.core.errors import PublishError
from botify.core.kafka.config import key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.schemas.events import RecommendationRequest
from botify.services.errors import RecommenderError, UnavailableError
from botify.services.gateway.rpc import PendingReplies
from botify.services.recommender import service as shipped
from botify.services.recommender.dispatch import Dispatched
from botify.services.recommender.protocol import NO_ANSWER, Answers, Batch
from botify.services.recommender.service import RecommenderService
from tests.simulation import faults
from tests.simulation.faults import FAULTS_UNTIL_S, Fault
from tests.simulation.kafka import SETTINGS, Kafka
from tests.simulation.loop import Nap, Process
from tests.simulation.requests import (
    REQUESTS,
    TOPICS,
    AsyncProducer,
    GroupConsumer,
    RequestGroup,
    RequestTopics,
    unanswerable,
)
from tests.simulation.topic import BASE_MS, CODEC, TRACKS
from tests.simulation.universe import Universe

WAIT_S, ROUNDING_S = 1.0, 1e-6
"""How long a gateway waits for an answer, and what the differences of late virtual times may be off."""
POLL_S, GATEWAY_POLL_S, IDLE_S = 0.05, 0.1, 1.0
LATE_S = 0.3
"""By how much a client's answer may be late: the gateway polls, and the order of callbacks is any."""
HEARTBEAT_S = 3.0
JUMPS_S = [-86_400.0 * 400, -3_600.0, -30.0, 30.0, 3_600.0, 86_400.0 * 400]
"""By how much the wall clock of a process jumps."""


class Clock:
    """The wall clock of a process, which may jump; its monotonic clock does not."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self.monotonic = now_s
        self.ahead_s = 0.0
        self.newest_ms = 0

    def time(self) -> float:
        now_s = BASE_MS / 1000 + self.monotonic() + self.ahead_s
        self.newest_ms = max(self.newest_ms, int(now_s * 1000) + 1)
        return now_s


CLOCK: ContextVar[Clock] = ContextVar("clock")
"""Of the process whose callback runs."""


class Known(list[int]):
    label = "of the simulation"


class Recommenders:
    """Answers most requests at random; stands in for `LiveRecommenders`."""

    catalogue = Known(TRACKS)

    def answer(self, batch: Batch, wanted: Sequence[str]) -> Dispatched:
        tracks = [NO_ANSWER if unanswerable(request) else 1 + request.user % 8 for request in batch.requests]
        answered = Dispatched(len(batch))
        answered.put(np.arange(len(batch)), "random", Answers(np.array(tracks), np.ones(len(batch))))
        return answered

    def refresh_if_empty(self) -> None:
        """Do nothing."""


class Recommender:
    def __init__(self, process: Process, group: RequestGroup, clock: Clock) -> None:
        self.name = process.name
        self.stopping = asyncio.Event()
        self._group = group
        self._clock = clock

    async def run(self) -> BaseException | None:
        consumer = GroupConsumer(self._group, self.name, lambda: self._clock.newest_ms)
        heartbeats = asyncio.ensure_future(self._beat(consumer))
        nap = self._group.topics.naps[self.name] = Nap()
        CLOCK.set(self._clock)
        try:
            with (
                mock.patch.object(shipped, "Consumer", mock.Mock(return_value=consumer)),
                mock.patch.object(shipped, "member_config"),
            ):
                service = self._service()
            while not self.stopping.is_set():
                service.problem()
                if service.step(0.0):
                    await asyncio.sleep(POLL_S)
                else:
                    await nap.sleep(self._group.kafka.timeline.pause_s(self._group.kafka.loop.time(), IDLE_S))
            service.close()
        except Exception as error:  # noqa: BLE001  # judged by the universe
            return error
        finally:
            heartbeats.cancel()
            del self._group.topics.naps[self.name]
        await asyncio.gather(heartbeats, return_exceptions=True)
        return None

    def _service(self) -> RecommenderService:
        reader: Any = SimpleNamespace(users_and_likes=self._users_and_likes)
        experiments: Any = SimpleNamespace(
            assign=lambda user: SimpleNamespace(recommender="random", treatments={}), close=lambda: None
        )
        models: Any = SimpleNamespace(close=lambda: None, in_use=dict, swapping=nullcontext())
        recommenders: Any = Recommenders()
        return RecommenderService(SETTINGS, CODEC, reader, recommenders, experiments, models, {})

    def _users_and_likes(self, users: list[int]) -> tuple[list[None], list[None]]:
        if self._group.kafka.strikes(faults.STORE_LOSES_REPLIES):
            raise RedisConnectionError
        return [None] * len(users), [None] * len(users)

    async def _beat(self, consumer: GroupConsumer) -> None:
        while consumer.beat():
            await self._group.kafka.pause(HEARTBEAT_S)


class Gateway:
    """One incarnation of a gateway with its clients; what `RpcClient` does, around the shipped pending replies."""

    def __init__(self, process: Process, group: RequestGroup, rng: Random) -> None:
        self.name = process.name
        self.stopping = asyncio.Event()
        self._kafka: Kafka = group.kafka
        self._topics = group.topics
        self._rng = rng
        self._pending = PendingReplies(WAIT_S)
        self._read = len(self._topics.answers)
        self._nap = Nap()
        self._due_s = math.inf
        self._calls: dict[str, asyncio.Future[Any]] = {}
        self._read_s: dict[str, float] = {}
        """When the first answer to each call was read."""
        self._paused_until_s = -1.0

    async def run(self) -> BaseException | None:
        self._publisher = RecordPublisher(SETTINGS, delivery_report_only_error=False)
        clients = [asyncio.ensure_future(self._client(number)) for number in range(3)]
        while not self.stopping.is_set() or len(self._pending):
            self._poll()
            now_s = self._kafka.loop.time()
            wait_s = GATEWAY_POLL_S if len(self._pending) else self._kafka.timeline.pause_s(now_s, IDLE_S)
            self._due_s = now_s + wait_s
            await self._nap.sleep(wait_s)
        left = [id_ for id_, call in self._calls.items() if not call.done()]
        self._topics.violations += [f"{id_}: has no answer" for id_ in left]
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        return None

    def _poll(self) -> None:
        now_s = self._kafka.loop.time()
        if now_s - self._due_s > LATE_S:  # it was paused, and its clients may have been late before
            self._paused_until_s = now_s
        self._publisher.poll()
        answers = self._topics.answers[self._read :]
        self._read += len(answers)
        for answer in answers:
            self._read_s.setdefault(answer.request_id, now_s)
            self._pending.reply(answer)
        self._pending.expire(now_s)

    async def _client(self, number: int) -> None:
        user, count = self._rng.randrange(12), 0
        while not self.stopping.is_set():
            await self._kafka.pause(self._rng.uniform(0.5, 10.0), awake_s=0.0)
            if self._kafka.loop.time() > self._kafka.timeline.at(FAULTS_UNTIL_S):
                return
            count += 1
            await self._call(f"{self.name}-{number}-{count}", user)

    async def _call(self, id_: str, user: int) -> None:
        asks = self._rng.random() < 0.9
        sent_s = self._kafka.loop.time()
        waits_s = self._rng.choice([WAIT_S, 60.0])
        request = RecommendationRequest(
            id_, user, "s", 0, self._rng.randint(1, 8), 0.5, BASE_MS, BASE_MS + int((sent_s + waits_s) * 1000)
        )
        future = self._calls[id_] = self._pending.open(id_, requested=asks, now_s=sent_s)
        if len(self._pending) == 1:
            self._nap.wake()

        acknowledged_s: list[float] = []

        def on_delivery(error: Any, _: object) -> None:
            if error is None:
                acknowledged_s.append(self._kafka.loop.time())
                self._pending.acknowledge(id_)
            else:
                self._pending.fail(id_, error.str())

        key = key_of(user)
        self._publisher.produce(TOPICS.listens.name, value=id_.encode(), key=key, on_delivery=on_delivery)
        if asks:
            good = self._rng.random() < 0.9
            self._publisher.produce(REQUESTS, value=CODEC.encode(request) if good else b"?", key=key)
        try:
            answer = await future
        except UnavailableError:
            answer, refused = None, True
        else:
            refused = False
        self._check(request, answer, refused=refused, asked=asks, sent_s=sent_s)
        if answer is not None and self._paused_until_s < sent_s:
            late_s = self._kafka.loop.time() - max(self._read_s[id_], *acknowledged_s)
            if late_s > ROUNDING_S:
                self._topics.violations.append(f"{id_}: answered {late_s:.3f} s after that was known")

    def _check(self, request: RecommendationRequest, answer: Any, *, refused: bool, asked: bool, sent_s: float) -> None:
        id_, waited_s = request.request_id, self._kafka.loop.time() - sent_s
        wrong = self._topics.violations.append
        self._kafka.history.note(self.name, f"{id_} after {waited_s:.3f} s: {'503' if refused else answer}")
        if not refused and id_ not in self._topics.listens:
            wrong(f"{id_}: answered, and its listen is not in the topic")
        if not refused and asked and answer is None and waited_s < WAIT_S - ROUNDING_S:
            wrong(f"{id_}: no answer after {waited_s:.3f} s already")
        if answer is not None and (answer.request_id, answer.user) != (id_, request.user):
            wrong(f"{id_}: got the answer to {answer.request_id}")
        if waited_s > WAIT_S + LATE_S and self._paused_until_s < sent_s:
            wrong(f"{id_}: answered after {waited_s:.3f} s")


class ServingUniverse(Universe):
    """Gateways, recommenders, and the topics between them."""

    may_end = (PublishError, RecommenderError, KafkaException)

    def __init__(self, seed: int, planned_faults: Sequence[Fault]) -> None:
        super().__init__(seed, planned_faults, ["g0", "g1", "r0", "r1"])
        self._topics = RequestTopics(self.violations, self.loop.time)
        accept = self._topics.accepted_by_topic()
        kafka = Random(f"{seed} kafka")
        self._kafka = Kafka(self.loop, self.active, kafka, self.history, self.context, accept, self.timeline)
        self._group = RequestGroup(self._kafka, self._topics, classic=seed % 2 == 0)
        self._clocks = [Clock(self.loop.time) for _ in self._slots]
        self._rng = Random(f"{seed} clients")

    def patches(self) -> AbstractContextManager[object]:
        connect = partial(AsyncProducer, self._kafka)
        stack = ExitStack()
        stack.enter_context(mock.patch.dict(RecordPublisher.__init__.__kwdefaults__ or {}, connect=connect))
        clock = SimpleNamespace(time=lambda: CLOCK.get().time(), monotonic=self.loop.time)
        stack.enter_context(mock.patch.object(shipped, "time", clock))
        stack.enter_context(mock.patch.object(shipped, "is_spare", mock.Mock(return_value=False)))
        return stack

    def app(self, slot: str, process: Process) -> Recommender | Gateway:
        if slot.startswith("g"):
            return Gateway(process, self._group, self._rng)
        return Recommender(process, self._group, self._clocks[int(slot[1:])])

    def servers(self) -> list[Coroutine[Any, Any, None]]:
        return [self._group.expire_members()]

    def begin(self, fault: Fault) -> None:
        if fault.kind == faults.REBALANCE:
            self._group.rebalance()
        elif fault.kind == faults.CLOCK:
            clock = self._clocks[fault.process % 2]
            clock.ahead_s = self._rng.choice(JUMPS_S)
            self.loop.call_later(fault.lasts_s, setattr, clock, "ahead_s", 0.0, context=self.context)

    def settled(self) -> bool:
        return all(at == len(self._topics.requests[partition]) for partition, at in self._group.committed.items())

    def check_end(self) -> None:
        for partition, at in self._group.committed.items():
            if at != len(self._topics.requests[partition]):
                self.violations.append(f"requests {at} and on of partition {partition} are not committed: no liveness")
