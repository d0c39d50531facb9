"""Listens that keep coming while things are broken."""

import itertools
import time
from collections.abc import Collection, Iterable, Iterator

from confluent_kafka import KafkaError, Message, Producer

from botify.core.kafka.config import key_of, producer_config
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import OPINION_KINDS, SHOWN, Feedback, Listen
from botify.schemas.topics import Topics
from tests.support import Background, make_listens

TICK_S = 0.02
CHUNK = 1_000


def listens_for_ever(users: int, tracks: int, seed: int) -> Iterator[Listen]:
    """Yield listens without an end, so that no test waits for progress after the last one, however slow the machine."""
    for first in itertools.count(0, CHUNK):
        yield from make_listens(CHUNK, users, tracks, seed, first)


LIKED_EVERY = 20


class Load(Background):
    """Sends listens from a thread, at a rate; leaving the block stops it and waits for the acknowledgements.

    What is refused with an error of `again` is sent again, as callers of a gateway do after a 503: its id is the same.
    """

    def __init__(
        self,
        settings: Settings,
        listens: Iterable[Listen],
        per_s: float,
        patience_s: float = 60.0,
        again: Collection[int] = (),
    ) -> None:
        super().__init__(self._send)
        topics = Topics.of(settings)
        self._topic, self._feedback = topics.listens.name, topics.feedback.name
        self._producer = Producer(producer_config(settings, delivery_timeout_ms=int(patience_s * 1000)))
        self._listens = iter(listens)
        self._per_s, self._patience_s, self._again = per_s, patience_s, again
        self._codec = Codec()
        self._failures: list[object] = []
        self.sent = self.impressions = 0

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        assert self._producer.flush(self._patience_s) == 0
        assert not self._failures, self._failures[0]

    def _send(self) -> None:
        started = time.monotonic()
        while not self._over.wait(TICK_S):
            due = int((time.monotonic() - started) * self._per_s) - self.sent
            batch = list(itertools.islice(self._listens, due))
            for at, listen in enumerate(batch, start=self.sent):
                self._produce(self._topic, listen)
                if at % LIKED_EVERY == 0:
                    kind = OPINION_KINDS[at // LIKED_EVERY % len(OPINION_KINDS)]
                    said = Feedback(f"said-{at}", listen.user, listen.track, kind, listen.timestamp_ms)
                    seen = said._replace(event_id=f"seen-{at}", kind=SHOWN, tracks=[listen.track, listen.track + 1])
                    for one in (said, seen):
                        self._produce(self._feedback, one)
                    self.impressions += 2
            self.sent += len(batch)
            self._producer.poll(0)
            if len(batch) < due:
                return

    def _produce(self, topic: str, event: Listen | Feedback) -> None:
        self._send_record(topic, self._codec.encode(event), key_of(event.user))

    def _send_record(self, topic: str, value: bytes, key: bytes) -> None:
        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if error is not None and error.code() in self._again:
                self._send_record(topic, value, key)
            elif error is not None:
                self._failures.append(error)

        self._producer.produce(topic, value, key, on_delivery=on_delivery)
