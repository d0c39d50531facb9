"""What each treatment did so far, from the totals of the sampled listeners."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.dashboard.figures.listener_totals import MIXED, ListenerTotals
from services.dashboard.figures.welch import Moments, welch_interval

CONTROL = "C"
"""Botify's name of the control; without it the first by name is what the others are compared with."""

METRICS = ("mean time per session", "mean tracks per session")


class Effect(NamedTuple):
    """A treatment against the control.

    Attributes
    ----------
    control_mean, treated_mean : float
        Mean over listeners.
    effect, lower, upper : float
        Difference and its 95 % interval, in % of the control's mean; NaN while there is too little to say.
    """

    treatment: str
    metric: str
    control_mean: float
    treated_mean: float
    effect: float
    lower: float
    upper: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.lower > 0 or self.upper < 0


class ExperimentReading(NamedTuple):
    """An experiment as far as it has come.

    Attributes
    ----------
    name, control : str
    listeners : Mapping[str, int]
        Sampled listeners with a finished session, by treatment.
    effects : tuple of Effect
    """

    name: str
    control: str
    listeners: Mapping[str, int]
    effects: tuple[Effect, ...]


def read_experiments(totals: ListenerTotals) -> tuple[ExperimentReading, ...]:
    """Compare the treatments of every experiment; the unit is the listener, because listeners were split.

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
        _effect(arm, metric, _moments(of_metric[rows_of[control]]), _moments(of_metric[rows_of[arm]]))
        for arm in rows_of
        if arm != control
        for metric, of_metric in values.items()
    ]
    return ExperimentReading(name, control, {arm: len(of_arm) for arm, of_arm in rows_of.items()}, tuple(effects))


def _moments(values: NDArray[np.float64]) -> Moments:
    return Moments(len(values), float(values.mean()), float(values.var(ddof=1)) if len(values) > 1 else math.nan)


def _effect(treatment: str, metric: str, control: Moments, treated: Moments) -> Effect:
    percent = 100 / control.mean if control.mean else math.nan
    interval = welch_interval(control, treated)
    return Effect(treatment, metric, control.mean, treated.mean, *(bound * percent for bound in interval))
