"""Which policy a session gets: Thompson sampling over what the sessions of each policy come to.

Where listeners leave a policy at a constant rate, that rate has a gamma posterior, given for how long they listened and
how often they left (see `streams.folds.policy_results`); the mean time of a session is one over it. Thompson sampling
(Biometrika, 1933) chooses a policy as often as it is best among draws from the posteriors. The shares are worked out
once a second from `DRAWS` such draws, so that a session's choice needs one random number and its probability is known
exactly.

A policy under which fewer than `ENOUGH` sessions have ended takes no part in that and is only tried, in `TRIAL` of the
sessions, so a model that has learned nothing yet cannot drag the service down; the first policy answers for all the
rest. Later every policy keeps `FLOOR`: taste changes, and so does who serves it best.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from streams.folds.policy_results import PolicyResult

Floats = NDArray[np.float64]
Results = Callable[[], Mapping[str, PolicyResult]]

ENOUGH = 20.0
TRIAL = 0.04
FLOOR = 0.005
DRAWS = 2_000
REFRESH_S = 1.0


class Gate:
    """Shares of sessions, by policy.

    Parameters
    ----------
    recommender : str
        Whose policies they are; results are those of `recommender/policy`.
    policies : sequence of str
        The first one needs no model.
    results : callable
        Reads the results; called at most once in `REFRESH_S`.
    clock : callable
        Seconds, from any beginning.

    Examples
    --------
    >>> gate = Gate("mix", ["plain", "learned"], dict)
    >>> gate.shares().tolist()
    [0.96, 0.04]
    """

    def __init__(
        self,
        recommender: str,
        policies: Sequence[str],
        results: Results,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policies = tuple(policies)
        self._names = [f"{recommender}/{policy}" for policy in policies]
        self._results = results
        self._clock = clock
        self._shares: Floats = np.zeros(0)
        self._read_at = -math.inf

    def shares(self) -> Floats:
        """Return the share of sessions of each policy, shape (number of policies,); they add up to 1."""
        now = self._clock()
        if now - self._read_at >= REFRESH_S:
            found = self._results()
            self._shares = shares([found.get(name, PolicyResult()) for name in self._names])
            self._read_at = now
        return self._shares


def shares(results: Sequence[PolicyResult]) -> Floats:
    """Work the shares out; equal results give equal shares.

    Examples
    --------
    >>> shares([PolicyResult(time=3000.0, ends=1000.0), PolicyResult(time=9000.0, ends=1000.0)]).round(3).tolist()
    [0.005, 0.995]
    """
    times = np.array([result.time for result in results])
    ends = np.array([result.ends for result in results])
    known = ends >= ENOUGH
    known[0] = True
    least = np.where(known, FLOOR, TRIAL)
    drawn = times / np.random.default_rng(0).standard_gamma(ends + 1.0, (DRAWS, len(results)))
    best = np.argmax(np.where(known, drawn, -np.inf), axis=1)
    thompson = np.bincount(best, minlength=len(results)) / DRAWS
    result: Floats = least + (1.0 - least.sum()) * thompson
    return result
