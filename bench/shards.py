"""What learning in shards costs and gives: CPU of each shard, time to merge, and how good the merged models are.

The listeners of a log are divided as partitions of the listens are, each shard learns its own, and the merged models
recommend for the last listen of every listener. One shard is the learner without shards.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.world_card.lists import Log as WorldLog
from core.settings import Settings
from evaluation.log import Events, Ints, Log
from evaluation.protocols import Terms, plan_of
from evaluation.ranker import Setup
from evaluation.rankers.botify import BotifyRanker, batch_of, columns_of
from evaluation.run import run
from schemas.models import model_of
from schemas.shards import ALONE, Shard, shard_of
from services.recommender.registry import RECOMMENDERS
from sim.loop.kafka import tracks_of
from sim.world import find_world
from streams.learner.learner import Learner
from streams.learner.model import MODELS

SHARDS = (1, 2, 4)
RECOMMENDED_BY = ("i2i_stream", "fism", "rerank", "next_track")
WORLD, SESSIONS = "course-2026", 30_000
FOLDED = 4_096
"""Listens of a training batch."""


class ShardedRanker(BotifyRanker):
    """A recommender that serves what is merged from the models of several learners.

    Attributes
    ----------
    cpu_s : list of float
        Of each learner, with its snapshots.
    merging_s : float
    """

    def __init__(self, name: str, setup: Setup, shards: int) -> None:
        super().__init__(name, setup)
        self._kinds = [kind for kind in MODELS if kind.name in RECOMMENDERS[name].models]
        catalogue = {track.track: track for track in setup.tracks}
        self._learners = [
            Learner(catalogue, self._kinds, shard=ALONE if shards == 1 else Shard(number, shards))
            for number in range(shards)
        ]
        self.cpu_s = [0.0] * shards
        self.merging_s = 0.0
        self._waiting: list[Events] = []

    def learn(self, events: Events) -> None:
        """Fold the events; the shards learn them when they are asked for a ranking."""
        self._hear(events)
        self._waiting.append(events)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Rank by the merged models."""
        if self._waiting:
            self._learn_and_merge(Events._make(np.concatenate(columns) for columns in zip(*self._waiting, strict=True)))
            self._waiting = []
        return super().rank(users, times_ms, k)

    def _learn_and_merge(self, events: Events) -> None:
        of_shards = []
        of = np.array([shard_of(user, len(self._learners)) for user in events.users.tolist()])
        for number, learner in enumerate(self._learners):
            own = events.rows(of == number)
            began_s = time.process_time()
            for at in range(0, own.size, FOLDED):
                part = own.rows(slice(at, at + FOLDED))
                learner.fold(batch_of(learner.listens, learner.listens + part.size), columns_of(part))
                learner.take_models()
            self.cpu_s[number] += time.process_time() - began_s
            learner.take_snapshots()
            of_shards.append(learner.take_models())
        for kind, snapshots in zip(self._kinds, zip(*of_shards, strict=True), strict=True):
            began_s = time.process_time()
            body = kind.merged([one.body for one in snapshots]) if len(snapshots) > 1 else snapshots[0].body
            self.merging_s += time.process_time() - began_s
            self._snapshots[kind.name] = model_of(kind.name, sum(one.version for one in snapshots), body, 0)


def measure_shards(settings: Settings) -> dict[str, Any]:
    """Return figures by recommender and number of shards."""
    return measure(log_of_world(settings.home, WORLD, SESSIONS))


def log_of_world(home: Path, name: str, sessions: int) -> Log:
    """Return the listens of random recommendations in a world."""
    world = find_world(home, name)
    heard = WorldLog.of(world, sessions)
    return Log.of(
        name,
        heard.users,
        heard.tracks,
        fractions=heard.fractions.astype(np.float32),
        times_ms=heard.time_ms,
        tracks=list(tracks_of(world.catalogue)),
        item_count=len(world.catalogue),
    )


def measure(log: Log, names: Sequence[str] = RECOMMENDED_BY) -> dict[str, Any]:
    """Learn a log in one, two and four shards, and return what it costs and how good it is."""
    terms = Terms(protocol="leave-last-out")
    found: dict[str, Any] = {}
    for name in names:
        for shards in SHARDS:
            plan = plan_of(log, terms, 0)
            setup = Setup(
                users=log.users,
                items=log.items,
                tracks=plan.log.catalogue(),
                events=plan.log.events.size,
                positive=terms.positive,
                repeats=terms.repeats,
                seed=0,
                refresh=plan.log.events.size,
                trainings=1,
                settings={},
            )
            ranker = ShardedRanker(name, setup, shards)
            outcome = run(ranker, plan, terms)
            reported = outcome.reported
            found[f"{name}-{shards}"] = {
                "hit_rate": float(outcome.metrics["recall"][reported].mean()),
                "ndcg": float(outcome.metrics["NDCG"][reported].mean()),
                "cpu_s": ranker.cpu_s,
                "merging_s": ranker.merging_s,
            }
    return found
