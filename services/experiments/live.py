"""Experiments whose traffic changes while services run: the steps of their ramps, followed on their topic."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import closing

from confluent_kafka import Message

from botify.core.errors import BotifyError
from botify.core.kafka.publisher import append_if
from botify.core.kafka.reader import TopicFollower, TopicReader
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import RampStep
from botify.schemas.topics import Topics
from botify.services.experiments.assignment import Assignment, Experiments

log = logging.getLogger(__name__)

BATCH = 100


class LiveExperiments(TopicFollower):
    """The declared experiments as of the last step of each ramp.

    A step that was sent twice changes nothing. The thread replaces `current` and `steps`: read each once into a
    variable.
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


class StepLog:
    """The last step of each ramp, read by their controllers, who append a step only after the last known one."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings, self._codec = settings, codec
        self._topic = Topics.of(settings).experiments.name
        self._reader = TopicReader(settings, self._topic)
        self.steps: dict[str, RampStep] = {}

    def read(self) -> Mapping[str, RampStep]:
        """Read what was added; raises `TopicError` if the topic cannot be read."""
        for batch in self._reader.read_to_end():
            self.steps |= steps_in(batch, self._codec)
        return self.steps

    def append(self, step: RampStep, last: RampStep | None) -> RampStep | None:
        """Append a step, and return it with its time; None if another one follows `last`. Raises `PublishError`."""
        sent = step._replace(timestamp_ms=int(time.time() * 1000))
        name, value = step.experiment, self._codec.encode(sent)
        appended = append_if(self._settings, self._topic, name, value, lambda: self.read().get(name) == last)
        return sent if appended else None

    def close(self) -> None:
        self._reader.close()


def read_steps(settings: Settings, codec: Codec) -> Mapping[str, RampStep]:
    """Return the last step of each experiment; raises `TopicError` if the topic cannot be read."""
    with closing(StepLog(settings, codec)) as steps:
        return steps.read()
