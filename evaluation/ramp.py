"""Follows the listens of an experiment, and changes its traffic step by step until it is decided.

The steps are the only state, on their compacted topic; all else is read from the listens again: those that workers have
accepted. So a ramp that was killed continues where it was. Of several at a time each sees the steps of the others, and
one takes the next step (`StepLog`). Services follow the steps in threads of their own: they keep serving, and without
this process the traffic stays as it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

import pandas as pd
import typer
from redis.exceptions import RedisError

from botify.analytics import AnalyticsError
from botify.analytics.assignment import Assignment, assignment_of
from botify.analytics.decision import GO_ON, SHIP, Decision
from botify.core.cli import Alpha, say
from botify.core.errors import NoBrokerError, TopicError
from botify.core.goals import RAMP
from botify.core.kafka.admin import require_kafka
from botify.core.kafka.layout import live_layout
from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.evaluation.launch import (
    EFFECT,
    LEAST_EFFECT,
    LEAST_LISTENERS,
    WINDOW_H,
    Judge,
    declared_experiment,
    first_sessions,
)
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import RejectedBefore
from botify.schemas.events import Listen, RampStep
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.schemas.validation import iter_valid
from botify.services.experiments.live import StepLog
from botify.streams.read import StateReader
from botify.streams.store.connect import connect, require_redis


@dataclass(slots=True)
class _Session:
    user: int
    started_ms: int
    ended_ms: int
    positions: set[int] = field(default_factory=set)
    time: float = 0.0
    ended: bool = False
    requests: int = 0
    latency_ms: float = 0.0


class Observed:
    """Sessions and treatments of the listens so far, as `sessions_of` and `assign` return them.

    A copy of a listen has its session and position, and changes nothing. Memory grows with sessions, not with listens.
    """

    def __init__(self, experiment: str) -> None:
        self._experiment = experiment
        self._sessions: dict[tuple[int, str], _Session] = {}
        self._seen: dict[int, tuple[set[str], int, int]] = {}
        self.event_ms = 0  # the newest event time

    def add(self, listens: Iterable[Listen]) -> None:
        for listen in listens:
            at = listen.timestamp_ms
            session = self._sessions.get((listen.user, listen.session_id))
            if session is None:
                session = self._sessions[listen.user, listen.session_id] = _Session(listen.user, at, at)
            if listen.position in session.positions:
                continue
            session.positions.add(listen.position)
            session.started_ms, session.ended_ms = min(session.started_ms, at), max(session.ended_ms, at)
            session.time += listen.fraction
            session.ended |= listen.ended_session
            if listen.latency_ms is not None:
                session.requests += 1
                session.latency_ms += listen.latency_ms
            self.event_ms = max(self.event_ms, at)
            treatment = listen.treatments.get(self._experiment)
            if treatment is not None:
                names, since_ms, until_ms = self._seen.get(listen.user, (set(), at, at))
                self._seen[listen.user] = (names | {treatment}, min(since_ms, at), max(until_ms, at))

    def sessions(self) -> pd.DataFrame:
        """Return the sessions so far, as `botify.analytics.sessions.sessions_of`."""
        rows = [
            (of.user, of.started_ms, of.ended_ms, len(of.positions), of.time, of.ended, of.requests, of.latency_ms)
            for of in self._sessions.values()
        ]
        names = ["user", "started_ms", "ended_ms", "tracks", "time", "ended", "requests", "latency_ms"]
        return pd.DataFrame(rows, columns=names)

    def assignment(self) -> Assignment | None:
        """Return the listeners' treatments, as `analytics.assignment.assign`; None before the first treated listen."""
        if not self._seen:
            return None
        names = sorted(set().union(*(treatments for treatments, _, _ in self._seen.values())))
        rows = [
            (names.index(min(treatments)), names.index(max(treatments)), since_ms, until_ms)
            for treatments, since_ms, until_ms in self._seen.values()
        ]
        seen = pd.DataFrame(rows, index=list(self._seen), columns=["lowest", "highest", "since_ms", "until_ms"])
        return assignment_of(seen.sort_index(), names)


class Known(NamedTuple):
    """What is known about a launch.

    `decision` is that of the settled listeners, None before there are any; `early` that of first sessions, if they show
    a loss. `new_listeners` are those of the smaller arm who entered since the last step and whose first session is
    over.
    """

    decision: Decision | None
    early: Decision | None
    new_listeners: int
    event_ms: int


def next_step(
    experiment: str, last: RampStep | None, shares: Sequence[float], control: str, known: Known, listeners_a_step: int
) -> RampStep | None:
    """Return the step to take now, if any; the time is set when it is published.

    - A metric with a goal is significantly worse, at first sessions or in all, or the listeners did not split as
      declared, or the planned listeners did not decide: back to the control.
    - The rule ships: everyone gets the treatment.
    - Each arm has `listeners_a_step` new listeners and none of this happened: the next of the ascending `shares`.
    """
    if last is None:
        return RampStep(experiment, shares[0], None, 0, known.event_ms, "the ramp begins")
    if last.arm is not None:
        return None
    if known.early is not None:
        reason = known.early.sentence
        return RampStep(experiment, 1.0, control, 0, known.event_ms, f"first sessions: {reason}")
    decision = known.decision
    if decision is not None and decision.outcome != GO_ON:
        arm = decision.treatment if decision.outcome == SHIP else control
        return RampStep(experiment, 1.0, arm, 0, known.event_ms, decision.sentence)
    further = [share for share in shares if share > last.share]
    if not further or known.new_listeners < listeners_a_step:
        return None
    reason = f"the rule has not ended the ramp after {known.new_listeners:,} more listeners in each arm"
    return RampStep(experiment, further[0], None, 0, known.event_ms, reason)


log = logging.getLogger(__name__)

LISTENERS_A_STEP = 300  # new listeners in each arm before the next step: their first sessions show a loss of a fifth
EVERY_S = 1.0


class Ramp:
    """The ramp of one experiment with two arms; `last` is its last step on the topic.

    Raises `AnalyticsError` if the experiment declares no goals or no ramp, or has more than one treatment.
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
                "`botify experiment results --decide`"
            )
        self._settings, self._codec, self._judge = settings, codec, judge
        self._listeners_a_step = listeners_a_step
        self._steps = StepLog(settings, codec)
        self.last = self._steps.read().get(name)
        self._state = StateReader(connect(settings), settings)
        self._open(settings)

    def step(self) -> RampStep | None:
        """Read the listens since the last call, and take the step that follows from them; or return another ramp's.

        Raises `TopicError`, `NoBrokerError` or `RedisError` if a server does not answer: call it again. Raises
        `PublishError` if the step was not acknowledged: make another ramp.
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
        for opened in (self._steps, self._reader, self._rejected):
            opened.close()

    def _open(self, live: Settings) -> None:
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
        counts = new["treatment"].value_counts()
        smaller = min(int(counts.get(arm, 0)) for arm in self._judge.shares)
        return Known(decisions[0], next(iter(early), None), smaller, self.observed.event_ms)


def ramp(
    name: Annotated[str, typer.Argument(help="Name of an experiment that declares goals and a ramp.")],
    effect: Annotated[
        float, typer.Option(min=LEAST_EFFECT, help="Smallest relevant improvement, in % of the control's mean.")
    ] = EFFECT,
    window_h: Annotated[
        float, typer.Option(min=0, help="Hours of each listener to compare, in event time.")
    ] = WINDOW_H,
    listeners: Annotated[
        int | None,
        typer.Option(
            min=LEAST_LISTENERS, help="Listeners of both arms to plan for; default: from the spread of the data."
        ),
    ] = None,
    step_listeners: Annotated[
        int, typer.Option(min=50, help="New listeners in each arm before the next step.")
    ] = LISTENERS_A_STEP,
    alpha: Alpha = 0.05,
) -> None:
    """Raise an experiment's traffic step by step; ship or roll back by its goals. Run it again to continue."""
    settings = require_kafka(require_redis(Settings.from_env()))
    judge = Judge(declared_experiment(settings, name), effect / 100, window_h, alpha, listeners)
    follower = Ramp(settings, codec_of(settings), judge, step_listeners)
    if follower.last is not None:
        say(_said(follower.last))
    try:
        last = follower.run(lambda step: say(_said(step)))
    except KeyboardInterrupt:
        say(f"the traffic stays as it is; run `botify experiment ramp {name}` again to continue")
        raise typer.Exit(130) from None
    finally:
        follower.close()
    raise typer.Exit(1 if last.arm == judge.control else 0)


def _said(step: RampStep) -> str:
    traffic = f"{step.share:.0%} of the listeners" if step.arm is None else f"all listeners get {step.arm}"
    return f"{traffic}: {step.reason}"
