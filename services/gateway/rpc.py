"""Who waits for Kafka, and what for: the acknowledgement of a listen, and a recommendation.

The gateway's side of Kafka: listens and requests go out, recommendations come back to whoever waits.

    listen ──► botify.listens ─────────────────► acknowledged ─┐
    request ─► botify.recommendation-requests                  ├─► the client's answer
                    botify.recommendations ──► own request id ─┘

Every gateway reads all partitions of the recommendations from their ends, without a group, and keeps the answers to
its own requests: which gateway a client comes to says nothing about partitions. Nothing is committed; an answer that
nobody waits for any more is dropped.

Both clients are polled from the event loop, each millisecond while somebody waits. librdkafka does its work in threads
of its own, so a poll never blocks; threads of ours would only take turns with the loop for the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from core.errors import DecodeError, TopicError
from core.kafka import config as clients
from core.kafka.admin import end_offsets
from core.kafka.reader import AssignedConsumer
from core.process import in_background, stop
from core.settings import Settings
from schemas.codec import Codec
from schemas.events import Listen, Recommendation, RecommendationRequest
from schemas.topics import Topics
from services.gateway.errors import UnavailableError

Outcome = asyncio.Future[Recommendation | None]


class _Open:
    __slots__ = ("acknowledged", "asks", "expires_s", "future", "id_", "reply")

    def __init__(self, id_: str, future: Outcome, expires_s: float, *, asks: bool) -> None:
        self.id_ = id_
        self.future = future
        self.expires_s = expires_s
        self.asks = asks
        self.acknowledged = False
        self.reply: Recommendation | None = None


class PendingReplies:
    """Listens that were sent, until they are acknowledged and answered or their time is over.

    All wait equally long, so the oldest is the first whose time is over.

    Parameters
    ----------
    wait_s : float

    Attributes
    ----------
    dropped : int
        Second answers, and answers that came too late.

    Examples
    --------
    >>> async def talk() -> int:
    ...     waiting = PendingReplies(wait_s=1.0)
    ...     future = waiting.open("g-1", asks=True, now_s=0.0)
    ...     waiting.acknowledge("g-1")
    ...     waiting.reply(Recommendation("g-1", 42, 7, "random", {}, 0.1, 0, 1.0, 1000))
    ...     return (await future).track
    >>> asyncio.run(talk())
    7
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._open: dict[str, _Open] = {}
        self._by_age: deque[_Open] = deque()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, id_: str, *, asks: bool, now_s: float) -> Outcome:
        """Begin to wait.

        Parameters
        ----------
        id_ : str
            Of the listen and of its request.
        asks : bool
            Whether there is a request, so that the acknowledgement is not the end.
        now_s : float
            Monotonic clock.

        Returns
        -------
        Future
            The recommendation; None where none was asked for, or none came in time. `UnavailableError` where the
            listen was not acknowledged.
        """
        one = _Open(id_, asyncio.get_running_loop().create_future(), now_s + self._wait_s, asks=asks)
        self._open[id_] = one
        self._by_age.append(one)
        return one.future

    def acknowledge(self, id_: str) -> None:
        """Take in that a listen is in its topic."""
        if (one := self._open.get(id_)) is not None:
            one.acknowledged = True
            if one.reply is not None or not one.asks:
                self._finish(one)

    def refuse(self, id_: str, why: str) -> None:
        """Take in that a listen did not get into its topic."""
        if (one := self._open.pop(id_, None)) is not None and not one.future.done():
            one.future.set_exception(UnavailableError(f"Kafka did not take the listen: {why}"))

    def reply(self, recommendation: Recommendation) -> None:
        """Take an answer in."""
        one = self._open.get(recommendation.request_id)
        if one is None or one.reply is not None:
            self.dropped += 1
            return
        one.reply = recommendation
        if one.acknowledged:
            self._finish(one)

    def expire(self, now_s: float) -> int:
        """End what has waited long enough; return how many listens were not even acknowledged."""
        unacknowledged = 0
        by_age = self._by_age
        while by_age and (by_age[0].expires_s <= now_s or by_age[0].id_ not in self._open):
            one = by_age.popleft()
            if one.id_ not in self._open:
                continue
            if one.acknowledged:
                self._finish(one)
            else:
                unacknowledged += 1
                self.refuse(one.id_, f"no acknowledgement within {self._wait_s:g} s")
        return unacknowledged

    def _finish(self, one: _Open) -> None:
        del self._open[one.id_]
        if not one.future.done():  # the client may have gone away
            one.future.set_result(one.reply)


log = logging.getLogger(__name__)

TICK_S = 0.001
IDLE_TICK_S = 0.1
BATCH = 500
QUEUE_RECORDS = 20_000
PROBE_S = 3.0
"""How long a broker may take to say that it is there."""
PROBE_AGAIN_S = 1.0
PROBE_EVERY_S = 10.0
FLUSH_S = 3.0

Headers = Sequence[tuple[str, bytes]]


class RpcClient:
    """Sends listens and requests, and hands each answer to the request that waits for it.

    At-least-once: a listen counts when all replicas acknowledged it; one whose acknowledgement is lost may be in the
    topic although its client was told 503, and the client's retry is a copy with the same id (see `sessions`). Made and
    called in the event loop's thread, except for `__init__`, which blocks for some milliseconds.

    Parameters
    ----------
    settings : Settings
    codec : Codec
    id_prefix : str
        What the ids of all requests of this gateway begin with.
    wait_s : float
        How long a request may wait.

    Raises
    ------
    TopicError
        A topic is missing, or no broker answers.

    Attributes
    ----------
    reachable : bool
        Whether a broker answered when it was last asked.
    """

    def __init__(self, settings: Settings, codec: Codec, id_prefix: str, wait_s: float) -> None:
        topics = Topics.of(settings)
        self._listens, self._requests = topics.listens.name, topics.recommendation_requests.name
        self._codec = codec
        self._mark = id_prefix.encode()
        self._waiting = PendingReplies(wait_s)
        self.reachable = True
        self._suspected = asyncio.Event()
        self._stirred = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        replies = topics.recommendations.name
        self._consumer = AssignedConsumer(
            settings, replies, end_offsets(settings, replies), group="botify-gateway", auto_offset_reset="latest"
        )
        self._producer = Producer(
            {
                **clients.producer_config(
                    settings,
                    queue_buffering_max_messages=QUEUE_RECORDS,
                    # what a client was told about as not taken must not be taken much later
                    delivery_timeout_ms=max(1_000, int(wait_s * 1000)),
                ),
                "error_cb": self._on_error,
            }
        )

    def start(self) -> None:
        """Begin to poll."""
        self._tasks = [in_background(self._poll_on()), in_background(self._watch())]

    @property
    def listening(self) -> bool:
        """Whether every partition of the recommendations was fetched from: no answer waits for a connection."""
        return self._consumer.connected

    async def close(self) -> None:
        """Send what is queued, and leave the brokers."""
        await stop(*self._tasks)
        await asyncio.to_thread(self._producer.flush, FLUSH_S)
        await asyncio.to_thread(self._consumer.close)

    def tell(self, id_: str, listen: Listen, request: RecommendationRequest | None, headers: Headers = ()) -> Outcome:
        """Send a listen, and a request with it where the listener goes on.

        Parameters
        ----------
        id_ : str
            Of the client's call, and of the request.
        listen : Listen
        request : RecommendationRequest | None
        headers : sequence of (str, bytes)
            Of both records.

        Returns
        -------
        Future
            See `PendingReplies.open`.

        Raises
        ------
        UnavailableError
            No broker is reachable, or too much is queued.
        """
        if not self.reachable:
            raise UnavailableError("Kafka is not reachable")
        key = clients.key_of(listen.user)

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self._waiting.acknowledge(id_)
            else:
                self._suspected.set()
                self._waiting.refuse(id_, error.str())

        kept: dict[str, Any] = {"headers": list(headers)} if headers else {}
        future = self._waiting.open(id_, asks=request is not None, now_s=time.monotonic())
        try:
            self._producer.produce(
                self._listens, key=key, value=self._codec.encode(listen), on_delivery=on_delivery, **kept
            )
            if request is not None:
                self._producer.produce(self._requests, key=key, value=self._codec.encode(request), **kept)
        except (BufferError, KafkaException) as error:
            self._waiting.refuse(id_, str(error))
        self._stirred.set()
        return future

    async def _poll_on(self) -> None:
        while True:
            if self._poll():
                await asyncio.sleep(0)
            elif len(self._waiting):
                await asyncio.sleep(TICK_S)
            else:
                self._stirred.clear()
                try:
                    await asyncio.wait_for(self._stirred.wait(), IDLE_TICK_S)
                except TimeoutError:
                    continue

    def _poll(self) -> bool:
        """Hear what has come; return whether there may be more."""
        self._producer.poll(0)
        try:
            messages = self._consumer.poll(BATCH, wait_s=0.0)
        except TopicError as error:
            log.warning("%s", error)
            messages = []
        for message in messages:
            raw = message.value()
            # Looking for our mark spares decoding the answers to others; who asked is decided by the whole id.
            if raw is not None and self._mark in raw:
                self._take(raw)
        if self._waiting.expire(time.monotonic()):
            self._suspected.set()
        return len(messages) == BATCH

    def _take(self, raw: bytes) -> None:
        try:
            self._waiting.reply(self._codec.decode(raw, Recommendation))
        except DecodeError as error:
            log.warning("an answer cannot be read: %s", error)

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._suspected.set()

    async def _watch(self) -> None:
        """Ask a broker whether it is there: at once where something went wrong, and now and then."""
        while True:
            was, self.reachable = self.reachable, await asyncio.to_thread(self._probe)
            if self.reachable != was:
                log.warning("Kafka is %s", "reachable again" if self.reachable else "not reachable: answering 503")
            try:
                await asyncio.wait_for(self._suspected.wait(), PROBE_EVERY_S if self.reachable else PROBE_AGAIN_S)
            except TimeoutError:
                continue
            if not self.reachable:
                await asyncio.sleep(PROBE_AGAIN_S)
            self._suspected.clear()

    def _probe(self) -> bool:
        try:
            self._producer.list_topics(self._listens, timeout=PROBE_S)
        except KafkaException:
            return False
        return True
