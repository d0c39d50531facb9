"""Experiments whose traffic changes while services run: the steps of their ramps, followed on their topic."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping

from confluent_kafka import Message

from core.errors import BotifyError
from core.kafka.follower import TopicFollower
from core.kafka.publisher import RecordPublisher
from core.kafka.reader import TopicReader
from core.settings import Settings
from schemas.codec import Codec
from schemas.events import RampStep
from schemas.topics import Topics
from services.experiments.assignment import Assignment, Experiments

log = logging.getLogger(__name__)

BATCH = 100


class LiveExperiments(TopicFollower):
    """The declared experiments as of the last step of each ramp.

    A step takes effect by one assignment, and one that was sent twice changes nothing.

    Parameters
    ----------
    settings : Settings
    codec : Codec
    declared : Experiments

    Attributes
    ----------
    current : Experiments
        Replaced by the thread: read it once into a variable.
    steps : Mapping of experiment to RampStep
        The last step of each ramp; replaced likewise.
    """

    def __init__(self, settings: Settings, codec: Codec, declared: Experiments) -> None:
        topic = Topics.of(settings).experiments.name
        super().__init__(settings, topic, "experiments", "the traffic of experiments stays as it is", BATCH)
        self._codec, self._declared = codec, declared
        self.steps: Mapping[str, RampStep] = {}
        self.current = declared.at(self.steps)

    def assign(self, user: int) -> Assignment:
        """Return a listener's treatments and recommender as of now."""
        return self.current.assign(user)

    def _take(self, messages: Iterable[Message]) -> None:
        steps = steps_in(messages, self._codec)
        if not steps:
            return
        self.steps = {**self.steps, **steps}
        self.current = self._declared.at(self.steps)
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
