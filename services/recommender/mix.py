"""`mix`, the flagship: each session is given to the policy that keeps listeners longest, as far as one knows by now.

The policies are those of `POLICIES`; the shares of sessions that each of them gets are the gate's (see `gate`). The
policy is drawn by session, so a session stays with its policy while the shares stay what they are. A policy that has
no answer is stood in for along its fallback chain, and the answer names both: `memory/sticky_norepeat`. The session
counts for the policy that was drawn, or those that answer only where it is easy would look better than they are.

The propensity is that of the policy and the track together: the share of the policy that was drawn, times the
probability with which the track was then chosen.

Cost: about 40 µs a recommendation at batch 64 in sessions of 50 tracks, nearly all of it that of `rerank`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from schemas.keyed_random import keys_of_texts, uniform
from services.recommender.answering import answer, drawn_policy
from services.recommender.gate import Gate
from services.recommender.protocol import Answers, Batch, Recommender

POLICIES = ("sticky_norepeat", "memory", "i2i_stream", "rerank")


class Mix:
    """A gate before other recommenders.

    Parameters
    ----------
    recommenders : mapping of name to Recommender
        The gate's policies, and what their chains need.
    gate : Gate

    Examples
    --------
    >>> from services.recommender.catalogue import Catalogue
    >>> from services.recommender.random_tracks import RandomTracks
    >>> mix = Mix({"random": RandomTracks(Catalogue([]))}, Gate("mix", ["random"], dict))
    >>> mix.recommend(Batch.of([], [])).tracks.tolist()
    []
    """

    name = "mix"
    fallback: str | None = "random"

    def __init__(self, recommenders: Mapping[str, Recommender], gate: Gate) -> None:
        self._recommenders = recommenders
        self._gate = gate

    def recommend(self, batch: Batch) -> Answers:
        """Answer each request by its session's policy."""
        shares = self._gate.shares()
        sessions = keys_of_texts([request.session_id for request in batch.requests])
        drawn = np.searchsorted(np.cumsum(shares)[:-1], uniform(sessions, 15), side="right")
        wanted = [self._gate.policies[policy] for policy in drawn.tolist()]
        answered = answer(batch, wanted, self._recommenders)
        candidates = np.array([count or 0 for count in answered.candidates], dtype=np.int64)
        policies = list(map(drawn_policy, wanted, answered.recommenders))
        return Answers(answered.tracks, answered.propensities * shares[drawn], candidates, policies)
