"""Effects of treatments from running totals, with Welch's intervals."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.welch import Sample, welch
from schemas.events import Listen

MOST_USERS = 200_000
"""Listeners that are kept, about 60 MB; further ones are left out and counted."""

MIXED = ""
"""Treatment of a listener who was seen in more than one: left out, as in Botify's analysis."""


@dataclass(slots=True)
class _Open:
    """A session that has not ended."""

    session_id: str
    tracks: int = 0
    time: float = 0.0
    treatments: Mapping[str, str] = field(default_factory=dict)


class ListenerTotals:
    """Finished sessions per listener, and the treatment of each listener.

    A listener's sessions count from the first one with a treatment. A listen that Kafka delivers twice counts twice:
    these figures are for observation, and `botify experiment results` drops copies.

    Attributes
    ----------
    left_out : int
        Sessions of listeners beyond `most_users`, which bounds the memory.

    Examples
    --------
    >>> totals = ListenerTotals()
    >>> first = Listen("a:0", 42, 7, 1.0, 1000, "a", 0, False, None, {}, None, None)
    >>> last = Listen("a:1", 42, 8, 0.5, 2000, "a", 1, True, "random", {"X": "C"}, 0.1, 3.0)
    >>> totals.update(first), totals.update(last)
    (None, None)
    >>> totals.columns(), totals.treatments
    ((array([1]), array([2]), array([1.5])), {'X': {0: 'C'}})
    """

    def __init__(self, most_users: int = MOST_USERS) -> None:
        self._most_users = most_users
        self._open: dict[int, _Open] = {}
        self._row_of: dict[int, int] = {}
        self._sessions, self._tracks, self._time = array("q"), array("q"), array("d")
        self.treatments: dict[str, dict[int, str]] = {}
        self.left_out = 0

    def update(self, listen: Listen) -> None:
        """Add one listen; a listener's listens come in their order."""
        user = listen.user
        session = self._open.get(user)
        if session is None or session.session_id != listen.session_id:
            if session is not None:
                self._close(user, session)
            elif len(self._open) >= self._most_users:
                self.left_out += listen.ended_session
                return
            session = self._open[user] = _Open(listen.session_id)
        session.tracks += 1
        session.time += listen.fraction
        if listen.treatments:
            session.treatments = listen.treatments
        if listen.ended_session:
            del self._open[user]
            self._close(user, session)

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return sessions, tracks and time (sum of fractions), one row per listener."""
        sessions, tracks = (np.array(column, dtype=np.int64) for column in (self._sessions, self._tracks))
        return sessions, tracks, np.array(self._time)

    def _close(self, user: int, session: _Open) -> None:
        row = self._row_of.get(user)
        if row is None:
            if not session.treatments:
                return
            if len(self._row_of) >= self._most_users:
                self.left_out += 1
                return
            row = self._row_of[user] = len(self._row_of)
            for column in (self._sessions, self._tracks, self._time):
                column.append(0)
        self._sessions[row] += 1
        self._tracks[row] += session.tracks
        self._time[row] += session.time
        for experiment, treatment in session.treatments.items():
            arms = self.treatments.setdefault(experiment, {})
            if arms.setdefault(row, treatment) != treatment:
                arms[row] = MIXED


CONTROL = "C"
"""Botify's name of the control; without it, the first treatment by name is the control."""

METRICS = ("mean time per session", "mean tracks per session")


class Effect(NamedTuple):
    """A treatment against the control.

    Attributes
    ----------
    control_mean, treated_mean : float
        Mean over listeners.
    effect, lower, upper : float
        Difference and its 95 % interval, in % of the control's mean; NaN while there are too few listeners.
    """

    treatment: str
    metric: str
    control_mean: float
    treated_mean: float
    effect: float
    lower: float
    upper: float

    @property
    def side(self) -> str:
        """`good` or `bad` where the interval excludes zero, else empty."""
        return "good" if self.lower > 0 else "bad" if self.upper < 0 else ""

    @property
    def said(self) -> str:
        """Where the interval lies; what follows from it, `botify experiment decide` says."""
        if math.isnan(self.lower):
            return "too few listeners"
        return {"good": "above zero", "bad": "below zero"}.get(self.side, "includes zero")


class ExperimentReading(NamedTuple):
    """An experiment up to now: listeners with a finished session by treatment, and effects."""

    name: str
    control: str
    listeners: Mapping[str, int]
    effects: tuple[Effect, ...]


def read_experiments(totals: ListenerTotals) -> tuple[ExperimentReading, ...]:
    """Compare the treatments of every experiment; the unit is the listener, because listeners are split.

    Examples
    --------
    >>> read_experiments(ListenerTotals())
    ()
    """
    sessions, tracks, time = totals.columns()
    values = {METRICS[0]: time / np.maximum(sessions, 1), METRICS[1]: tracks / np.maximum(sessions, 1)}
    return tuple(_read(name, arms, values) for name, arms in sorted(totals.treatments.items()))


def _read(name: str, arms: Mapping[int, str], values: Mapping[str, NDArray[np.float64]]) -> ExperimentReading:
    treatment_of = np.array(list(arms.values()))
    rows = np.fromiter(arms, dtype=np.int64, count=len(arms))
    rows_of = {str(arm): rows[treatment_of == arm] for arm in np.unique(treatment_of) if arm != MIXED}
    if not rows_of:
        return ExperimentReading(name, CONTROL, {}, ())
    control = CONTROL if CONTROL in rows_of else min(rows_of)
    effects = [
        _effect(arm, metric, Sample.of(of_metric[rows_of[control]]), Sample.of(of_metric[rows_of[arm]]))
        for arm in rows_of
        if arm != control
        for metric, of_metric in values.items()
    ]
    return ExperimentReading(name, control, {arm: len(of_arm) for arm, of_arm in rows_of.items()}, tuple(effects))


def _effect(treatment: str, metric: str, control: Sample, treated: Sample) -> Effect:
    percent = 100 / control.mean if control.mean else math.nan
    estimate, lower, upper, _ = welch(control, treated)
    return Effect(treatment, metric, control.mean, treated.mean, estimate * percent, lower * percent, upper * percent)
