"""The simulated brokers, and the client that publishes to them: what `RecordPublisher` has from confluent-kafka."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from random import Random
from types import EllipsisType
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import KafkaError

from botify.core.settings import Settings
from tests.simulation import faults
from tests.simulation.faults import Faults
from tests.simulation.history import History
from tests.simulation.loop import SimulatedLoop
from tests.simulation.timeline import AWAKE_S, Timeline

T = TypeVar("T")

SETTINGS = Settings(redis_url="redis://simulated:6379/0")
FAST_S = 0.02
SLOW_S = 25.0
"""How long a slow broker takes to acknowledge what is flushed: less than the worker's timeout."""
Headers = Sequence[tuple[str, bytes]]


class Record(NamedTuple):
    topic: str
    value: bytes | None
    key: bytes | None
    headers: Headers


class Kafka:
    def __init__(
        self,
        loop: SimulatedLoop,
        active: Faults,
        rng: Random,
        history: History,
        context: Context,
        accept: Mapping[str, Callable[[Record], object]],
        timeline: Timeline,
    ) -> None:
        self.loop = loop
        self.timeline = timeline
        self.rng = rng
        self.history = history
        self._active = active
        self._context = context
        self._accept = accept

    def strikes(self, kind: str) -> bool:
        return self._active.strikes(kind, self.loop.time())

    def append(self, record: Record) -> None:
        self._accept[record.topic](record)

    async def pause(self, every_s: float, awake_s: float = AWAKE_S) -> None:
        await asyncio.sleep(self.timeline.pause_s(self.loop.time(), every_s, awake_s))

    async def ask(self, execute: Callable[[], T]) -> T:
        """Execute in the broker, whether or not the caller is alive by then, and return the reply."""
        reply: asyncio.Future[T] = self.loop.create_future()

        def answer() -> None:
            result = execute()
            self.later(lambda: None if reply.done() else reply.set_result(result))

        self.later(answer)
        return await reply

    def later(self, act: Callable[[], object], after_s: float = 0.0) -> None:
        self.loop.call_later(after_s + self.rng.uniform(0.0, FAST_S), act, context=self._context)


class Delivered(NamedTuple):
    name: str

    def topic(self) -> str:
        return self.name


OnDelivery = Callable[[KafkaError | None, Delivered], None]


class SimulatedProducer:
    """Stands in for `confluent_kafka.Producer`: what is produced is sent by `flush`, a job of a thread."""

    def __init__(self, kafka: Kafka, config: Mapping[str, Any]) -> None:
        self._kafka = kafka
        self._only_errors = bool(config.get("delivery.report.only.error"))
        self._queued: list[tuple[Record, OnDelivery | None]] = []

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        callback: OnDelivery | EllipsisType | None = ...,
        on_delivery: OnDelivery | None = None,
        timestamp: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """Queue a record; as with the client, a None that is given as `callback` hides `on_delivery`."""
        report = on_delivery if isinstance(callback, EllipsisType) else callback
        self._queued.append((Record(topic, value, key, headers or ()), report))

    def flush(self, timeout_s: float) -> int:
        """Append what is queued, and take as long as the broker; return how many records are left: none."""
        kafka, queued, self._queued = self._kafka, self._queued, []
        reports: list[tuple[OnDelivery | None, KafkaError | None, Delivered]] = []
        lost = kafka.strikes(faults.BROKER_LOSES_REPLIES)
        for record, on_delivery in queued:
            error = KafkaError(KafkaError._MSG_TIMED_OUT) if lost else None
            if kafka.strikes(faults.BROKER_REFUSES) and kafka.rng.random() < 0.5:
                error = KafkaError(KafkaError.INVALID_RECORD)
            else:
                kafka.append(record)
            reports.append((on_delivery, error, Delivered(record.topic)))
        if kafka.strikes(faults.BROKER_SLOW):
            kafka.loop.spend(kafka.rng.uniform(0.0, SLOW_S))
        for report, error, delivered in reports:
            if report is not None and (error is not None or not self._only_errors):
                report(error, delivered)
        return 0

    def poll(self, timeout_s: float = 0.0) -> int:
        """Do nothing: `flush` has reported."""
        return 0

    def purge(self) -> None:
        self._queued = []
