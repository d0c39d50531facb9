"""`mix`: a bandit over policies. Thompson sampling assigns each session to one of `POLICIES`.

Assume that listeners leave a policy at a constant rate. Given how long they listened and how often they left (see
`botify.streams.folds.sessions`), that rate has a gamma posterior, and the mean session time is its inverse. Thompson
sampling (Biometrika, 1933) chooses a policy as often as it is best among draws from the posteriors. The shares are
computed once a second from `DRAWS` draws, so a session's choice needs one random number and its probability is exact.

A model learns most where it serves, so at first the policies with models keep a share of `TRIAL` of the sessions
together; one with fewer than `ENOUGH` finished sessions gets no more. Half of that share is left after `JUDGED`
finished sessions. As results fade, it grows again for one that is rarely tried. The first policy, which needs no model,
keeps at least `FLOOR`.

If a policy has no answer, its fallback chain answers, and the answer names both: `rerank/sticky_norepeat`. The session
counts for the policy that was drawn. The propensity is the share of the drawn policy times the probability with which
that policy chose the track.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import keys_of_texts, uniform
from botify.services.recommender.dispatch import answer, drawn_policy, rank
from botify.services.recommender.protocol import (
    NO_ANSWER,
    Answers,
    Batch,
    RandomStream,
    Ranking,
    Recommender,
    no_ranking,
)
from botify.streams.folds.sessions import PolicyResult

Floats = NDArray[np.float64]
Results = Callable[[], Mapping[str, PolicyResult]]

ENOUGH = 20.0
TRIAL = 0.25
JUDGED = 500.0
FLOOR = 0.01
"""Enough to notice when this policy becomes the better one: its results fade, and the draws then try it more."""
DRAWS = 2_000
REFRESH_S = 1.0


class Bandit:
    """Thompson sampling over policies: the share of sessions that each one gets.

    Results are those of `recommender/policy`, read at most once in `REFRESH_S` monotonic seconds. The first policy must
    not need a model.

    Examples
    --------
    >>> bandit = Bandit("mix", ["plain", "learned"], dict, clock=lambda: 0.0)
    >>> bandit.shares().round(3).tolist()
    [0.75, 0.25]
    """

    def __init__(self, recommender: str, policies: Sequence[str], results: Results, clock: Callable[[], float]) -> None:
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
    """Compute the shares; equal results give equal shares."""
    times = np.array([result.time for result in results])
    ends = np.array([result.ends for result in results])
    known = ends >= ENOUGH
    known[0] = True
    least = TRIAL / max(len(results) - 1, 1) * JUDGED / (JUDGED + ends)
    least[0] = FLOOR
    drawn = times / np.random.default_rng(0).standard_gamma(ends + 1.0, (DRAWS, len(results)))
    best = np.argmax(np.where(known, drawn, -np.inf), axis=1)
    thompson = np.bincount(best, minlength=len(results)) / DRAWS
    result: Floats = least + (1.0 - least.sum()) * thompson
    return result


POLICIES = ("sticky_norepeat", "rerank")


class Mix:
    """The answer of sticky_norepeat or rerank, of the one that is listened to longer.

    `recommenders` are the bandit's policies and their fallbacks.
    """

    name = "mix"
    fallback: str | None = "random"

    def __init__(self, recommenders: Mapping[str, Recommender], bandit: Bandit) -> None:
        self._recommenders = recommenders
        self._bandit = bandit

    def recommend(self, batch: Batch) -> Answers:
        wanted, shares = self.policies_of(batch)
        answered = answer(batch, wanted, self._recommenders)
        candidates = np.array([count or 0 for count in answered.candidates], dtype=np.int64)
        policies = list(map(drawn_policy, wanted, answered.recommenders))
        return Answers(answered.tracks, answered.propensities * np.array(shares), candidates, policies)

    def rank(self, batch: Batch, k: int) -> Ranking:
        """Return the list of the policy of each request's session, or of the first of its fallbacks that has one."""
        wanted, ranking = np.array(self.policies_of(batch)[0]), no_ranking(len(batch), k)
        for policy in self._bandit.policies:
            name: str | None = policy
            rows = np.flatnonzero(wanted == policy)
            while name is not None and len(rows):
                part = rank(self._recommenders[name], batch.select(rows), k)
                ranking.tracks[rows], ranking.scores[rows] = part
                rows, name = rows[part.tracks[:, 0] == NO_ANSWER], self._recommenders[name].fallback
        return ranking

    def policies_of(self, batch: Batch) -> tuple[list[str], list[float]]:
        """Return the policy of each request's session, and its share of the sessions."""
        shares = self._bandit.shares()
        sessions = keys_of_texts([request.session_id for request in batch.requests])
        drawn = np.searchsorted(np.cumsum(shares)[:-1], uniform(sessions, RandomStream.MIX), side="right")
        return [self._bandit.policies[policy] for policy in drawn.tolist()], shares[drawn].tolist()
