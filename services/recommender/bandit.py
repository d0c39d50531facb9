"""Which policy a session gets: Thompson sampling over what the sessions of each policy come to.

Where listeners leave a policy at a constant rate, that rate has a gamma posterior, given for how long they listened and
how often they left (see `streams.folds.policy_results`); the mean time of a session is one over it. Thompson sampling
(Biometrika, 1933) chooses a policy as often as it is best among draws from the posteriors. The shares are worked out
once a second from `DRAWS` such draws, so that a session's choice needs one random number and its probability is known
exactly.

A policy under which fewer than `ENOUGH` sessions have ended takes no part in that and is only tried, in `TRIAL` of the
sessions, so a model that has learned nothing yet cannot drag the service down; the first policy answers for all the
rest. Later every policy keeps `FLOOR`: taste changes, and so does who serves it best.

`mix`, the flagship: each session is given to the policy that keeps listeners longest, as far as one knows by now.

The policies are those of `POLICIES`; the shares of sessions that each of them gets are the bandit's (see `bandit`). The
policy is drawn by session, so a session stays with its policy while the shares stay what they are. A policy that has
no answer is stood in for along its fallback chain, and the answer names both: `memory/sticky_norepeat`. The session
counts for the policy that was drawn, or those that answer only where it is easy would look better than they are.

The propensity is that of the policy and the track together: the share of the policy that was drawn, times the
probability with which the track was then chosen.

Cost: about 40 µs a recommendation at batch 64 in sessions of 50 tracks, nearly all of it that of `rerank`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import keys_of_texts, uniform
from services.recommender.dispatch import answer, drawn_policy
from services.recommender.protocol import Answers, Batch, RandomStream, Recommender
from streams.folds.policy_results import PolicyResult

Floats = NDArray[np.float64]
Results = Callable[[], Mapping[str, PolicyResult]]

ENOUGH = 20.0
TRIAL = 0.04
FLOOR = 0.005
DRAWS = 2_000
REFRESH_S = 1.0


class Bandit:
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
    >>> bandit = Bandit("mix", ["plain", "learned"], dict)
    >>> bandit.shares().tolist()
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


POLICIES = ("sticky_norepeat", "memory", "i2i_stream", "rerank")


class Mix:
    """A bandit before other recommenders.

    Parameters
    ----------
    recommenders : mapping of name to Recommender
        The bandit's policies, and what their chains need.
    bandit : Bandit

    Examples
    --------
    >>> from services.recommender.catalogue import Catalogue
    >>> from services.recommender.random_tracks import RandomTracks
    >>> mix = Mix({"random": RandomTracks(Catalogue([]))}, Bandit("mix", ["random"], dict))
    >>> mix.recommend(Batch.of([], [])).tracks.tolist()
    []
    """

    name = "mix"
    fallback: str | None = "random"

    def __init__(self, recommenders: Mapping[str, Recommender], bandit: Bandit) -> None:
        self._recommenders = recommenders
        self._gate = bandit

    def recommend(self, batch: Batch) -> Answers:
        """Answer each request by its session's policy."""
        shares = self._gate.shares()
        sessions = keys_of_texts([request.session_id for request in batch.requests])
        drawn = np.searchsorted(np.cumsum(shares)[:-1], uniform(sessions, RandomStream.MIX), side="right")
        wanted = [self._gate.policies[policy] for policy in drawn.tolist()]
        answered = answer(batch, wanted, self._recommenders)
        candidates = np.array([count or 0 for count in answered.candidates], dtype=np.int64)
        policies = list(map(drawn_policy, wanted, answered.recommenders))
        return Answers(answered.tracks, answered.propensities * shares[drawn], candidates, policies)
