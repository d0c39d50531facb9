"""Request and reply over Kafka: listens and requests are published, recommendations are matched to their requests.

    listen ──► botify.listens ─────────────────► acknowledged ─┐
    request ─► botify.recommendation-requests                  ├─► the client's answer
     botify.recommendations, own reply partition ──► own request id ─┘

A gateway reads the partition of the recommendations that its requests name (`core.kafka.replies`), without a group.
Nothing is committed; a reply without a pending request is dropped.

Both clients are polled from the event loop, each millisecond while requests are pending. librdkafka works in threads
of its own, so a poll never blocks; threads of ours would compete with the loop for the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message

from botify.core.errors import DecodeError, NoBrokerError, TopicError
from botify.core.kafka import config as clients
from botify.core.kafka.layout import is_closed, open_layout
from botify.core.kafka.publisher import Headers, RecordPublisher
from botify.core.kafka.reader import FOLLOW_MS
from botify.core.kafka.replies import ReplyReader
from botify.core.process import in_background, stop
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest
from botify.schemas.topics import Topics
from botify.services.errors import UnavailableError
from botify.services.stack.record import shortage_of_stack

PendingReply = asyncio.Future[Recommendation | None]
"""A recommendation, None if there is none in time; `UnavailableError` if the listen was not acknowledged."""


@dataclass(slots=True)
class _Pending:
    future: PendingReply
    expires_s: float
    requested: bool
    acknowledged: bool = False
    reply: Recommendation | None = None


class PendingReplies:
    """Listens that were sent, until they are acknowledged and replied to, or time out.

    All have the same timeout, so the oldest expires first. Duplicate and late replies are dropped.

    Examples
    --------
    >>> async def request() -> int:
    ...     pending = PendingReplies(wait_s=1.0)
    ...     future = pending.open("g-1", requested=True, now_s=0.0)
    ...     pending.acknowledge("g-1")
    ...     pending.reply(Recommendation("g-1", 42, 7, "random", {}, 0.1, 0, 1.0, 1000))
    ...     return (await future).track
    >>> asyncio.run(request())
    7
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._pending: OrderedDict[str, _Pending] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._pending)

    def open(self, id_: str, *, requested: bool, now_s: float) -> PendingReply:
        """Wait for the acknowledgement of a listen, and for a recommendation if one is requested."""
        future: PendingReply = asyncio.get_running_loop().create_future()
        self._pending[id_] = _Pending(future, now_s + self._wait_s, requested)
        return future

    def acknowledge(self, id_: str) -> None:
        """Note that a listen is in its topic."""
        if (pending := self._pending.get(id_)) is not None:
            pending.acknowledged = True
            if pending.reply is not None or not pending.requested:
                self._finish(id_)

    def fail(self, id_: str, reason: str) -> None:
        """Note that a listen is not in its topic."""
        if (pending := self._pending.pop(id_, None)) is not None and not pending.future.done():
            pending.future.set_exception(UnavailableError(f"Kafka did not take the listen: {reason}"))

    def hold(self, id_: str, now_s: float) -> None:
        """Give a listen that has no open topic the whole time again."""
        if (pending := self._pending.get(id_)) is not None:
            pending.expires_s = now_s + self._wait_s
            self._pending.move_to_end(id_)

    def reply(self, recommendation: Recommendation) -> None:
        pending = self._pending.get(recommendation.request_id)
        if pending is None or pending.reply is not None:
            return
        pending.reply = recommendation
        if pending.acknowledged:
            self._finish(recommendation.request_id)

    def expire(self, now_s: float) -> int:
        """Finish what has timed out; return how many listens were not acknowledged."""
        unacknowledged = 0
        while self._pending:
            id_, oldest = next(iter(self._pending.items()))
            if oldest.expires_s > now_s:
                break
            if oldest.acknowledged:
                self._finish(id_)
            else:
                unacknowledged += 1
                self.fail(id_, f"no acknowledgement within {self._wait_s:g} s")
        return unacknowledged

    def _finish(self, id_: str) -> None:
        pending = self._pending.pop(id_)
        if not pending.future.done():  # the client may have disconnected
            pending.future.set_result(pending.reply)


log = logging.getLogger(__name__)

TICK_S = 0.001
IDLE_TICK_S = 0.5
BATCH = 500
QUEUE_RECORDS = 20_000
PROBE_S = 3.0  # timeout of a probe of the brokers
PROBE_AGAIN_S = 1.0
PROBE_EVERY_S = 10.0
FLUSH_S = 3.0
MOVE_S = 10.0  # how long listens wait for their topic to be open, while they move to one with more partitions
MOVE_POLL_S = 0.02
MAX_LISTEN_BYTES = 512 * 1024  # a larger one may be refused for its size


class _HeldListen(NamedTuple):
    """A listen that waits for an open topic: its id, and what is produced."""

    id_: str
    value: bytes
    record: dict[str, Any]


class RpcClient:
    """Publishes listens and requests, and gives each reply to the request that waits for it.

    At-least-once: a listen counts when all replicas acknowledged it. One whose acknowledgement is lost may be in the
    topic although its client got 503; the client's retry is then a copy with the same id (see `sessions`). Created and
    called in the event loop's thread, except for `__init__`, which blocks and raises `TopicError` if a topic is missing
    or no broker answers. Requests are pending for `wait_s` at most.

    While the listens move to a topic with more partitions (`core.kafka.layout`), the brokers refuse them: they wait, in
    order, and go to the topic that is opened. The requests among them are answered as always.
    """

    def __init__(self, settings: Settings, codec: Codec, id_prefix: str, wait_s: float) -> None:
        topics = Topics.of(settings)
        self._listens, self._requests = topics.listens.name, topics.recommendation_requests.name
        self._codec = codec
        self._pending = PendingReplies(wait_s)
        self._settings = settings
        self._held: deque[_HeldListen] = deque()
        self._moving: asyncio.Task[None] | None = None
        self.problem: str | None = None  # why no broker answered the last probe, None if one did
        self._probe_now = asyncio.Event()
        self._sent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        # the prefix saves decoding the replies to others; the whole id decides
        self._replies = ReplyReader(
            settings,
            topics.recommendations.name,
            own=id_prefix.encode(),
            keep_s=wait_s,
            group="botify-gateway",
            auto_offset_reset="latest",
            # the broker answers at once when there is a reply; an idle gateway asks it seldom
            fetch_wait_max_ms=FOLLOW_MS,
        )
        self._publisher = RecordPublisher(
            settings,
            on_error=self._on_error,
            queue_buffering_max_messages=QUEUE_RECORDS,
            delivery_report_only_error=False,
            # a listen that its client was told is not taken must not be taken much later
            delivery_timeout_ms=max(1_000, int(wait_s * 1000)),
        )

    def start(self) -> None:
        self._tasks = [in_background(self._poll_repeatedly()), in_background(self._watch())]

    @property
    def listening(self) -> bool:
        """Whether the reply partition has been fetched from: no reply waits for a connection."""
        return self._replies.listening

    async def close(self) -> None:
        """Send what is queued, and disconnect."""
        await stop(*self._tasks, *([self._moving] if self._moving else []))
        await asyncio.to_thread(self._publisher.drain, FLUSH_S)
        await asyncio.to_thread(self._replies.close)

    def send(
        self, id_: str, listen: Listen, request: RecommendationRequest | None, headers: Headers = ()
    ) -> PendingReply:
        """Publish a listen, and a request unless the session has ended; raises `UnavailableError` without a broker."""
        records = [(self._listens, self._codec.encode(listen))]
        if request is not None:
            records.append(self._record_of(request))
        return self._publish(id_, clients.key_of(listen.user), records, headers, requested=request is not None)

    def ask(self, request: RecommendationRequest) -> PendingReply:
        """Publish a request without a listen; raises `UnavailableError` without a broker."""
        id_ = request.request_id
        future = self._publish(id_, clients.key_of(request.user), [self._record_of(request)], requested=True)
        self._pending.acknowledge(id_)  # an answer proves it
        return future

    def publish(self, id_: str, topic: str, key: bytes, value: bytes) -> PendingReply:
        """Publish a record, to be acknowledged; raises `UnavailableError` without a broker."""
        return self._publish(id_, key, [(topic, value)])

    def _record_of(self, request: RecommendationRequest) -> tuple[str, bytes]:
        return self._requests, self._codec.encode(request._replace(reply_partition=self._replies.partition))

    def _publish(
        self,
        id_: str,
        key: bytes,
        records: Sequence[tuple[str, bytes]],
        headers: Headers = (),
        *,
        requested: bool = False,
    ) -> PendingReply:
        """Publish records of one key, the first of them to be acknowledged."""
        if self.problem is not None:
            raise UnavailableError(self.problem)
        record: dict[str, Any] = {"key": key, "headers": list(headers)} if headers else {"key": key}
        future = self._pending.open(id_, requested=requested, now_s=time.monotonic())
        (topic, value), *others = records
        try:
            if topic == self._listens:
                self._send_listen(_HeldListen(id_, value, record))
            else:
                self._publisher.produce(topic, value=value, on_delivery=self._when_delivered(id_), **record)
            for topic, value in others:
                self._publisher.produce(topic, value=value, **record)
        except (BufferError, KafkaException) as error:
            self._pending.fail(id_, str(error))
        self._sent.set()
        return future

    def _send_listen(self, listen: _HeldListen) -> None:
        if self._held:
            self._hold(listen)
            return
        report = self._when_delivered(listen.id_, listen)
        self._publisher.produce(self._listens, value=listen.value, on_delivery=report, **listen.record)

    def _when_delivered(
        self, id_: str, listen: _HeldListen | None = None
    ) -> Callable[[KafkaError | None, Message], None]:
        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self._pending.acknowledge(id_)
            elif listen is not None and is_closed(error) and len(listen.value) < MAX_LISTEN_BYTES:
                self._hold(listen)
            else:
                self._probe_now.set()
                self._pending.fail(id_, error.str())

        return on_delivery

    def _hold(self, listen: _HeldListen) -> None:
        self._held.append(listen)
        self._pending.hold(listen.id_, time.monotonic())
        if self._moving is None or self._moving.done():
            self._moving = in_background(self._follow_move())

    async def _follow_move(self) -> None:
        """Wait until a topic of listens is open, and send what was held to it, in order."""
        give_up, found = time.monotonic() + MOVE_S, None
        log.info("%s is closed: listens wait for the topic that is opened", self._listens)
        while found is None and time.monotonic() < give_up:
            await asyncio.sleep(MOVE_POLL_S)
            try:
                found = await asyncio.to_thread(open_layout, self._settings)
            except (NoBrokerError, TopicError) as error:
                log.warning("%s", error)
            for listen in self._held:
                self._pending.hold(listen.id_, time.monotonic())
        if found is None:
            while self._held:
                self._pending.fail(self._held.popleft().id_, "the listens move to other partitions; try again")
            return
        self._listens = Topics.of(found).listens.name
        log.info("%d listens waited for %s", len(self._held), self._listens)
        held, self._held = self._held, deque()
        for listen in held:
            try:
                self._send_listen(listen)
            except (BufferError, KafkaException) as error:
                self._pending.fail(listen.id_, str(error))

    async def _poll_repeatedly(self) -> None:
        while True:
            if self._poll():
                await asyncio.sleep(0)
            elif len(self._pending):
                await asyncio.sleep(TICK_S)
            else:
                self._sent.clear()
                try:
                    await asyncio.wait_for(self._sent.wait(), IDLE_TICK_S)
                except TimeoutError:
                    continue

    def _poll(self) -> bool:
        """Handle what has arrived; return whether there may be more."""
        self._publisher.poll()
        values: list[bytes] = []
        try:
            values = self._replies.poll(BATCH, wait_s=0.0)
        except TopicError as error:
            log.warning("%s", error)
        for value in values:
            try:
                self._pending.reply(self._codec.decode(value, Recommendation))
            except DecodeError as error:
                log.warning("a recommendation cannot be decoded: %s", error)
        if unacknowledged := self._pending.expire(time.monotonic()):
            log.warning("Kafka has not acknowledged %d records in time: answered 503", unacknowledged)
            self._probe_now.set()
        return self._replies.has_more

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._probe_now.set()

    async def _watch(self) -> None:
        """Probe the brokers: at once after an error, and periodically."""
        while True:
            was, self.problem = self.problem, await asyncio.to_thread(self._probe)
            if (self.problem is None) != (was is None):
                log.warning("Kafka is reachable again" if was else f"{self.problem}: answering 503")
            try:
                await asyncio.wait_for(self._probe_now.wait(), PROBE_AGAIN_S if self.problem else PROBE_EVERY_S)
            except TimeoutError:
                continue
            if self.problem:
                await asyncio.sleep(PROBE_AGAIN_S)
            self._probe_now.clear()

    def _probe(self) -> str | None:
        try:
            self._publisher.check_broker(self._listens, PROBE_S)
        except NoBrokerError:
            return ": ".join(["Kafka is not reachable", *shortage_of_stack(self._settings.home)])
        return None
