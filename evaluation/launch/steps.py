"""The next step of a ramp: a pure function of the last one and of what is known about the treatment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from botify.analytics.decision import GO_ON, SHIP, Decision
from botify.schemas.events import RampStep


class Known(NamedTuple):
    """What is known about a launch.

    Attributes
    ----------
    decision : Decision | None
        Of the settled listeners; None before there are any.
    early : Decision | None
        Of first sessions, if they show a loss.
    new_listeners : int
        Listeners of the smaller arm who entered since the last step and whose first session is over.
    event_ms : int
        Newest event time.
    """

    decision: Decision | None
    early: Decision | None
    new_listeners: int
    event_ms: int


def next_step(
    experiment: str,
    last: RampStep | None,
    shares: Sequence[float],
    control: str,
    known: Known,
    listeners_a_step: int,
) -> RampStep | None:
    """Return the step to take now, if any; the time is set when it is published.

    - A metric with a goal is significantly worse, at first sessions or in all, or the listeners did not split as
      declared, or the planned listeners did not decide: back to the control.
    - The rule ships: everyone gets the treatment.
    - Each arm has `listeners_a_step` new listeners and none of this happened: the next share.

    Parameters
    ----------
    last : RampStep | None
        None before the ramp begins.
    shares : sequence of float
        Ascending.

    Examples
    --------
    >>> first = next_step("A", None, (0.01, 1.0), "C", Known(None, None, 0, 0), 300)
    >>> first.share, next_step("A", first, (0.01, 1.0), "C", Known(None, None, 300, 9), 300).share
    (0.01, 1.0)
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
    reason = f"no metric is significantly worse after {known.new_listeners:,} more listeners in each arm"
    return RampStep(experiment, further[0], None, 0, known.event_ms, reason)
