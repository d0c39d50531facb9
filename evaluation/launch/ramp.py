"""Follows the listens of an experiment, and changes its traffic step by step until it is decided.

The steps are the only state, on their compacted topic; all else is read from the listens again: those that workers have
accepted. So a ramp that was killed continues where it was. Of several at a time each sees the steps of the others, and
one takes the next step (`StepLog`). Services follow the steps in threads of their own: they keep serving, and without
this process the traffic stays as it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pandas as pd
from redis.exceptions import RedisError

from botify.analytics import AnalyticsError
from botify.core.errors import NoBrokerError, TopicError
from botify.core.goals import RAMP
from botify.core.kafka.layout import live_layout
from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.evaluation.launch.judge import Judge, first_sessions
from botify.evaluation.launch.observed import Observed
from botify.evaluation.launch.steps import Known, next_step
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import RejectedBefore
from botify.schemas.events import Listen, RampStep
from botify.schemas.topics import Topics
from botify.schemas.validation import iter_valid
from botify.services.experiments.live import StepLog
from botify.streams.read import StateReader
from botify.streams.store.connect import connect

log = logging.getLogger(__name__)

LISTENERS_A_STEP = 300
"""New listeners in each arm before the next step: so many first sessions show a loss of a fifth."""
EVERY_S = 1.0


class Ramp:
    """The ramp of one experiment.

    Parameters
    ----------
    judge : Judge
        With two arms.

    Attributes
    ----------
    last : RampStep | None
        The last step on the topic.

    Raises
    ------
    AnalyticsError
        The experiment declares no goals or no ramp, or has more than one treatment.
    """

    def __init__(
        self, settings: Settings, codec: Codec, judge: Judge, listeners_a_step: int = LISTENERS_A_STEP
    ) -> None:
        name = judge.experiment.name
        if not judge.goals.ramp:
            raise AnalyticsError(f"experiment {name} declares no ramp; add ramp = {list(RAMP)} to the experiments file")
        if len(judge.treatments) != 1:
            raise AnalyticsError(
                f"a ramp compares one treatment with the control, {name} has {', '.join(judge.shares)}; use "
                "`botify experiment decide`"
            )
        self._settings, self._codec, self._judge = settings, codec, judge
        self._listeners_a_step = listeners_a_step
        self._steps = StepLog(settings, codec)
        self.last = self._steps.read().get(name)
        self._state = StateReader(connect(settings), settings)
        self._open(settings)

    def step(self) -> RampStep | None:
        """Read the listens since the last call, and take the step that follows from them; or return another ramp's.

        Raises
        ------
        TopicError, NoBrokerError, RedisError
            A server does not answer; call it again.
        PublishError
            The step was not acknowledged; make another ramp.
        """
        judge, name = self._judge, self._judge.experiment.name
        self._observe()
        if (last := self._steps.read().get(name)) != self.last:
            self.last, self._is_judged = last, False
            return last
        if self._is_judged:  # all that was heard, and what follows from it
            return None
        taken = next_step(name, last, judge.goals.ramp, judge.control, self._known(), self._listeners_a_step)
        self._is_judged = taken is None
        if taken is not None and (taken := self._steps.append(taken, last)) is not None:
            self.last = taken
        return taken

    def run(self, notify: Callable[[RampStep], None], every_s: float = EVERY_S) -> RampStep:
        """Take steps until the experiment is decided, and return the last one. Waits while Kafka is away."""
        while self.last is None or self.last.arm is None:
            began_s = time.monotonic()
            try:
                if (taken := self.step()) is not None:
                    notify(taken)
            except (TopicError, NoBrokerError, RedisError) as error:
                log.warning("%s; the traffic stays as it is", error)
            time.sleep(max(0.0, every_s - (time.monotonic() - began_s)))
        return self.last

    def close(self) -> None:
        """Close the readers."""
        for opened in (self._steps, self._reader, self._rejected):
            opened.close()

    def _open(self, live: Settings) -> None:
        """Begin with the first listen of a topic."""
        topic = Topics.of(live).listens.name
        self._layout, self._letters, self._is_judged = live.layout, 0, False
        self._reader, self._rejected = TopicReader(live, topic), RejectedBefore(live, topic)
        self.observed = Observed(self._judge.experiment.name)

    def _observe(self) -> None:
        """Add what workers have accepted since. Begin again if the topic is another, or what was read a dead letter."""
        live, folded = live_layout(self._settings), self._state.checkpoints()
        if self._state.partitions != live.partitions:  # the listens are moving
            return
        self._rejected.refresh()  # after the checkpoints: letters are sent before these move
        reached = self._reader.next_offsets
        if live.layout != self._layout or self._rejected.count_before(reached) != self._letters:
            self._reader.close()
            self._rejected.close()
            self._open(live)
            self._rejected.refresh()
            reached = self._reader.next_offsets
        end = {p: at for p, at in folded.items() if at > reached[p]}
        for batch in self._reader.read_to_end(end) if end else ():
            accepted = iter_valid(batch, Listen, self._codec, self._rejected.offsets)
            self.observed.add(listen for _, listen in accepted)
            self._is_judged = False
        self._letters = self._rejected.count_before(reached)

    def _known(self) -> Known:
        assignment = self.observed.assignment()
        if assignment is None or self.last is None:
            return Known(None, None, 0, self.observed.event_ms)
        sessions = self.observed.sessions()
        decisions = self._judge.decisions(sessions, assignment)
        early = self._judge.early(sessions, assignment)
        entered = assignment.users["since_ms"] >= self.last.event_ms
        first = first_sessions(sessions, assignment)
        new = first[entered.reindex(first.index)]
        return Known(
            decisions[0], next(iter(early), None), _smaller_arm(new, list(self._judge.shares)), self.observed.event_ms
        )


def _smaller_arm(users: pd.DataFrame, arms: list[str]) -> int:
    counts = users["treatment"].value_counts()
    return min(int(counts.get(arm, 0)) for arm in arms)
