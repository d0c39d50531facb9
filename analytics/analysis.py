"""The ways to analyse an experiment, chosen by whoever asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import pandas as pd

from analytics.assignment import Assignment, metrics_before, sessions_in, user_metrics
from analytics.experiment import CONTROL, Comparison, ExperimentResults, results_of
from analytics.monitoring import adjust, settled_users
from analytics.sessions import retention
from analytics.statistics.sequence import ConfidenceSequence
from core.welch import welch

HOUR_MS = 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is to be done.

    Attributes
    ----------
    control : str
        Treatment to compare with.
    alpha : float
        One minus the confidence of each interval.
    cuped : bool
        Whether what is known of the users from before the experiment is taken out.
    holm : bool
        Whether significance is corrected for the number of metrics and treatments.
    window_ms : int, optional
        Compares each user's first so many milliseconds in the experiment by a confidence sequence, so that one may
        look as often as one likes; without, all that users did is compared by Welch's interval, at one look.
    tuned_for : int
        Users at which the confidence sequence is narrowest; to be chosen before the first look.
    split : mapping of treatment to weight, optional
        As declared; equal by default.
    retention_days : sequence of int
        Adds who came back on these days after their first session in the experiment (`analytics.sessions`).
    """

    control: str = CONTROL
    alpha: float = 0.05
    cuped: bool = False
    holm: bool = False
    window_ms: int | None = None
    tuned_for: int = 10_000
    split: Mapping[str, float] | None = None
    retention_days: Sequence[int] = ()


class Analysed(NamedTuple):
    """Results, and what must be known to read them, a line each."""

    results: ExperimentResults
    notes: list[str]


def analyse(name: str, sessions: pd.DataFrame, assignment: Assignment, analysis: Analysis) -> Analysed:
    """Analyse an experiment.

    Parameters
    ----------
    name : str
        The experiment's.
    sessions : DataFrame
        As `analytics.sessions.sessions_of`, from before the experiment too where CUPED is wanted.
    assignment : Assignment
    analysis : Analysis

    Raises
    ------
    AnalyticsError
        Nobody had the control, or nobody had anything else, or the split does not fit the treatments.
    """
    notes = []
    users = user_metrics(sessions, assignment)
    compare: Comparison = partial(welch, alpha=analysis.alpha)
    if analysis.window_ms is not None:
        users = settled_users(sessions, assignment, analysis.window_ms)
        compare = ConfidenceSequence(analysis.alpha, analysis.tuned_for).difference
        hours = analysis.window_ms / HOUR_MS
        notes.append(f"valid at every look: the first {hours:g} h of each of {len(users):,} listeners")
    if analysis.cuped:
        users, reduction = adjust(users, metrics_before(sessions, assignment))
        notes.append("CUPED takes out of the variance: " + ", ".join(f"{r:.0%} ({m})" for m, r in reduction.items()))
    if analysis.retention_days:
        users = users.join(retention(sessions_in(sessions, assignment), analysis.retention_days))
    results = results_of(name, users, assignment.mixed, analysis.control, compare, analysis.split)
    if analysis.holm:
        corrected = [e._replace(significant=e.p_holm < analysis.alpha) for e in results.effects]
        results = results._replace(effects=corrected)
        notes.append(f"significance is corrected for {len(corrected)} comparisons (Holm)")
    return Analysed(results, notes)
