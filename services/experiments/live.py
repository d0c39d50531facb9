"""Experiments whose traffic changes while services run: the steps of their ramps, followed on their topic."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from confluent_kafka import Message

from core.errors import BotifyError, TopicError
from core.kafka.admin import end_offsets
from core.kafka.publisher import RecordPublisher
from core.kafka.reader import AssignedConsumer, TopicReader
from core.settings import Settings
from schemas.codec import Codec
from schemas.events import RampStep
from schemas.topics import Topics
from services.experiments.assignment import Assignment, Experiments

log = logging.getLogger(__name__)

POLL_S = 0.5
BATCH = 100


class LiveExperiments:
    """The declared experiments as of the last step of each ramp.

    A thread follows the topic, so serving never waits; a step takes effect by one assignment. Without Kafka the last
    known steps stay in use. Nothing is committed, and a step that was sent twice changes nothing.

    Parameters
    ----------
    settings : Settings
    codec : Codec
    declared : Experiments

    Attributes
    ----------
    current : Experiments
        Replaced by the thread: read it once into a variable.
    """

    def __init__(self, settings: Settings, codec: Codec, declared: Experiments) -> None:
        self._settings, self._codec, self._declared = settings, codec, declared
        self._topic = Topics.of(settings).experiments.name
        self._steps: dict[str, RampStep] = {}
        self.current = declared.at(self._steps)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="experiments", daemon=True)
        self._consumer = AssignedConsumer(
            settings, self._topic, {0: 0}, group="botify-experiments", enable_partition_eof=True
        )

    def start(self) -> None:
        """Read to the topic's end, then continue in the background.

        Raises
        ------
        TopicError
            The topic is missing, or the broker stops answering.
        """
        end = {0: end_offsets(self._settings, self._topic)[0]}
        for messages in self._consumer.poll_until(end, BATCH, POLL_S):
            self._take(messages)
        self._thread.start()

    def assign(self, user: int) -> Assignment:
        """Return a listener's treatments and recommender as of now."""
        return self.current.assign(user)

    def close(self) -> None:
        """Stop the thread and close the consumer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._take(self._consumer.poll(BATCH, POLL_S, gather_s=0.0))
            except TopicError as error:
                log.error("%s; the traffic of experiments stays as it is", error)  # noqa: TRY400 - the message says it all
                self._stopping.wait(POLL_S)
            except Exception:  # the thread must not end unnoticed
                log.exception("%s cannot be read; the traffic of experiments stays as it is", self._topic)
                self._stopping.wait(POLL_S)

    def _take(self, messages: Iterable[Message]) -> None:
        steps = steps_in(messages, self._codec)
        if not steps:
            return
        self._steps |= steps
        self.current = self._declared.at(self._steps)
        for step in steps.values():
            log.info("experiment %s: %.1f %% of its listeners: %s", step.experiment, 100 * step.share, step.reason)


def steps_in(messages: Iterable[Message], codec: Codec) -> dict[str, RampStep]:
    """Return the last step of each experiment; records that are no steps are skipped with a warning."""
    steps: dict[str, RampStep] = {}
    for message in messages:
        if message.value() is None:  # a tombstone does not change the traffic
            continue
        try:
            step = codec.decode(message.value(), RampStep)
        except BotifyError as error:
            log.warning("%s offset %d is skipped: %s", message.topic(), message.offset(), error)
        else:
            steps[step.experiment] = step
    return steps


def read_steps(settings: Settings, codec: Codec) -> dict[str, RampStep]:
    """Return the last step of each experiment; raises `TopicError` if the topic cannot be read."""
    reader = TopicReader(settings, Topics.of(settings).experiments.name)
    try:
        steps: dict[str, RampStep] = {}
        for batch in reader.read_to_end():
            steps |= steps_in(batch, codec)
    finally:
        reader.close()
    return steps


def publish_step(publisher: RecordPublisher, settings: Settings, codec: Codec, step: RampStep) -> RampStep:
    """Publish a step, and return it with the time when it was acknowledged. At least once: a copy replaces its equal.

    Raises
    ------
    PublishError
        A broker refused it, or did not answer.
    """
    sent = step._replace(timestamp_ms=int(time.time() * 1000))
    publisher.send(Topics.of(settings).experiments.name, codec.encode(sent), sent.experiment.encode())
    publisher.flush()
    return sent
