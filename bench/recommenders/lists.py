"""Lists that are learned from a log of random recommendations: those of the batch job, and those of SASRec.

`sasrec` is what the course's control of 2026 was: SASRec, trained on the log, gives each track the list of those that
it expects next, and `i2i` serves them. RecTools trains it (`botify.evaluation.rankers.peers`, extra `sasrec`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.evaluation.log import Events
from botify.evaluation.ranker import Setup, best_of_scores
from botify.evaluation.rankers.registry import require_peer
from botify.services.lists.build import build_models
from botify.services.lists.neighbours import LIKED, ListenColumns
from botify.services.recommender.item_to_item import I2I
from botify.services.recommender.lists import NEIGHBOURS, Lists, lists_of
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.agents import DummyAgent
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world.model import World

Ints = NDArray[np.int64]

SEED = 0x6C697374
"""Seed of the sessions of the log, which differ from the measured ones."""
SESSIONS = 5
"""Number of these sessions for each listener; fewer give too few neighbours."""
COUNT, PER_USER = 50, 50
"""Lengths of a track's list and of a listener's."""

SASREC = "sasrec"
SERVED_BY = I2I.name
SETTINGS = {"epochs": 3, "batch_size": 128, "n_factors": 64, "session_max_len": 10, "lr": 0.001}
"""RecTools' arguments. The cost is epochs × listeners × length × tracks, padding included: ten minutes of a core."""
BLOCK = 500
"""Tracks that are ranked in one call."""


class RandomLog(NamedTuple):
    """Listens of random recommendations, columns of equal length."""

    users: Ints
    ordinals: Ints
    positions: Ints
    tracks: Ints
    fractions: NDArray[np.float64]
    time_ms: Ints

    @classmethod
    def of(cls, world: World) -> RandomLog:
        """Play `SESSIONS` sessions for each listener."""
        heard: list[FinishedListens] = []
        options = RunOptions(sessions=SESSIONS * len(world.listeners), seed=SEED, start_ms=0)
        play_world(world, DummyAgent(world.catalogue, SEED), options, listener=heard.append)
        return cls(*(np.concatenate([getattr(part, name) for part in heard]) for name in cls._fields))


def needs_lists(name: str) -> bool:
    """Say whether a recommender needs lists that are learned before it serves."""
    return name == SASREC or (name in RECOMMENDERS and RECOMMENDERS[name].needs_lists)


def lists_for(name: str, world: World) -> dict[str, Lists]:
    """Return the lists that a recommender needs, by the names of their models; none for most.

    Raises
    ------
    MissingPeerError
        It is `SASREC`, and a package that it needs is not installed.
    """
    if not needs_lists(name):
        return {}
    if name == SASREC:
        require_peer(SASREC)
        return {NEIGHBOURS: lists_of_sasrec(RandomLog.of(world), len(world.listeners), len(world.catalogue))}
    return lists_of_batch_job(RandomLog.of(world))


def lists_of_batch_job(log: RandomLog) -> dict[str, Lists]:
    """Run the batch job on a log."""
    sessions = [f"{user}-{ordinal}" for user, ordinal in zip(log.users.tolist(), log.ordinals.tolist(), strict=True)]
    events = [f"{session}-{position}" for session, position in zip(sessions, log.positions.tolist(), strict=True)]
    heard = ListenColumns.of(
        events, sessions, log.users.tolist(), log.tracks.tolist(), log.fractions.tolist(), log.time_ms.tolist()
    )
    return {model.name: lists_of(model) for model in build_models(heard, COUNT, PER_USER)}


def lists_of_sasrec(log: RandomLog, users: int, tracks: int) -> Lists:
    """Train SASRec on what the listeners liked, in order, and return the tracks that it expects after each."""
    from botify.evaluation.rankers.peers import Sasrec  # its packages are an extra

    order = np.argsort(log.time_ms, kind="stable")
    order = order[log.fractions[order] >= LIKED]
    zeros = np.zeros(len(order), dtype=np.int64)
    liked = Events(
        log.users[order], log.tracks[order], log.fractions[order].astype(np.float32), log.time_ms[order], zeros,
        zeros.astype(np.bool_),
    )  # fmt: skip
    model = Sasrec(Setup(users, tracks, (), liked.size, seed=SEED, settings=SETTINGS))
    model.train(liked)
    known = np.unique(liked.items)
    lists = []
    for start in range(0, len(known), BLOCK):
        after = known[start : start + BLOCK]
        rows = np.arange(len(after))
        lists.append(best_of_scores(model.scores(rows, rows, after), (rows, after), COUNT))
    return Lists(known, np.concatenate(lists).astype(np.int32))
