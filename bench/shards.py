"""What learning in shards costs and gives: CPU of each shard, time to merge, and how good the merged models are.

The listeners of a log are divided as partitions of the listens are, each shard learns its own, and the merged models
recommend for the last listen of every listener. One shard is the learner without shards.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from botify.bench.world_card.lists import Log as WorldLog
from botify.core.settings import Settings
from botify.evaluation.log import Events, Ints, Log
from botify.evaluation.protocols import Terms, plan_of
from botify.evaluation.ranker import Setup
from botify.evaluation.rankers.botify import BotifyRanker, batch_of, columns_of
from botify.evaluation.run import run
from botify.schemas.events import Model, Track
from botify.schemas.models import model_of
from botify.schemas.training import Shard
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.loop.kafka import tracks_of
from botify.sim.world import find_world
from botify.streams.learner.learner import Learner
from botify.streams.learner.model import MODELS, OnlineModel

SHARDS = (1, 2, 4)
RECOMMENDED_BY = ("i2i_stream", "fism", "next_track")
WORLD, SESSIONS = "course-2026", 15_000
TRACKS, USERS, SESSIONS_EACH, LISTENS = 10_000, 10_000, 4, 400_000
"""Of the log whose cost is measured."""
ROUNDS = 2
FOLDED = 4_096
"""Listens of a training batch."""


class Learned(NamedTuple):
    """What shards have learned from a log.

    Attributes
    ----------
    cpu_s : list of float
        Of each shard, with its snapshots as they were due.
    merging_s : mapping of model to float
        CPU time; of one shard about 0.
    models : sequence of Model
        As a recommender prepares them.
    """

    cpu_s: list[float]
    merging_s: dict[str, float]
    models: list[Model]

    @property
    def busiest_s(self) -> float:
        """CPU time of the shard that has most to do: of it depends how many listens all can learn in a second."""
        return max(self.cpu_s)


def learn(
    tracks: Sequence[Track],
    events: Events,
    shards: int,
    kinds: Sequence[type[OnlineModel]] = MODELS,
    measured: float = 1.0,
) -> Learned:
    """Let each shard learn from its listeners, and merge what they have learned.

    Parameters
    ----------
    measured : float
        Share of each shard's listens, the last ones, whose cost is measured.
    """
    catalogue, cpu_s, snapshots = {track.track: track for track in tracks}, [], []
    of = events.users % shards
    for number in range(shards):
        learner, own = Learner(catalogue, kinds, shard=Shard(number, shards)), events.rows(of == number)
        newest: dict[str, Model] = {}
        began_s = time.process_time()
        for at in range(0, own.size, FOLDED):
            if at < own.size * (1 - measured):
                began_s = time.process_time()
            part = own.rows(slice(at, at + FOLDED))
            # the clock stands still: under full load there is no time for more snapshots than must be
            learner.fold(batch_of(learner.listens, learner.listens + part.size), columns_of(part), at_ms=0)
            newest.update({one.name: one for one in learner.take_models()})
        cpu_s.append(time.process_time() - began_s)
        newest.update({one.name: one for one in learner.newest()})
        snapshots.append([newest[Shard(number, shards).name_of(kind.name)] for kind in kinds])
    merging_s, models = {}, []
    for kind, of_kind in zip(kinds, zip(*snapshots, strict=True), strict=True):
        began_s = time.process_time()
        body = of_kind[0].body if shards == 1 else kind.merged([one.body for one in of_kind])
        merging_s[kind.name] = time.process_time() - began_s
        models.append(model_of(kind.name, sum(one.version for one in of_kind), body, 0))
    return Learned(cpu_s, merging_s, models)


class ShardedRanker(BotifyRanker):
    """A recommender that serves what is merged from the models of several shards."""

    def __init__(self, name: str, setup: Setup, shards: int) -> None:
        super().__init__(name, setup)
        self._tracks, self._shards = setup.tracks, shards
        self._kinds = [kind for kind in MODELS if kind.name in RECOMMENDERS[name].models]
        self._waiting: list[Events] = []

    def learn(self, events: Events) -> None:
        """Fold the events; the shards learn them when they are asked for a ranking."""
        self._hear(events)
        self._waiting.append(events)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Rank by the merged models; the first question comes after the last event."""
        if self._waiting:
            events = Events._make(np.concatenate(columns) for columns in zip(*self._waiting, strict=True))
            learned = learn(self._tracks, events, self._shards, self._kinds)
            self._snapshots = {model.name: model for model in learned.models}
            self._waiting = []
        return super().rank(users, times_ms, k)


def measure_shards(settings: Settings) -> dict[str, float]:
    """Return what shards cost and give for the log of a world."""
    return measure_cost(random_log()) | measure_quality(log_of_world(settings.home, WORLD, SESSIONS))


def random_log() -> Log:
    """Return listens of tracks drawn by Zipf's law, as `next_track` is measured with."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, TRACKS + 1) ** 0.8
    users = rng.integers(0, USERS, LISTENS)
    return Log.of(
        "random",
        users,
        rng.choice(TRACKS, LISTENS, p=popularity / popularity.sum()),
        fractions=rng.uniform(0, 1, LISTENS).astype(np.float32),
        times_ms=np.arange(1, LISTENS + 1),
        sessions=users * SESSIONS_EACH + np.arange(LISTENS) * SESSIONS_EACH // LISTENS,
        tracks=[Track(track, f"artist {track % 997}", None, f"genre {track % 19}", "") for track in range(TRACKS)],
    )


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


def measure_cost(log: Log, rounds: int = ROUNDS) -> dict[str, float]:
    """Return µs of CPU a listen for all models, and by number of shards how many times as many all learn in a second.

    The second half of the log is measured: a young stacker trains on every listen, in each shard. The log is learned
    several times in turn, and the least of each counts: other processes only add.
    """
    learn(log.tracks, log.events.rows(slice(FOLDED)), 2)  # compiles
    found: dict[int, list[Learned]] = {shards: [] for shards in SHARDS}
    for _ in range(rounds):
        for shards in SHARDS:
            found[shards].append(learn(log.tracks, log.events, shards, measured=0.5))
    alone_s = min(one.busiest_s for one in found[1])
    figures = {"learn_us": alone_s / (log.events.size / 2) * 1e6}
    for shards in SHARDS[1:]:
        figures[f"throughput_{shards}"] = alone_s / min(one.busiest_s for one in found[shards])
        for name in found[shards][0].merging_s:
            figures[f"merge_{name}_{shards}_s"] = min(one.merging_s[name] for one in found[shards])
    return figures


def measure_quality(log: Log, names: Sequence[str] = RECOMMENDED_BY) -> dict[str, float]:
    """Return how often the last listen of a listener is among ten recommendations, and the NDCG."""
    terms, figures = Terms(protocol="leave-last-out"), dict[str, float]()
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
    for name in names:
        for shards in SHARDS:
            outcome = run(ShardedRanker(name, setup, shards), plan, terms)
            for metric, key in (("recall", "hit_rate"), ("NDCG", "ndcg")):
                figures[f"{name}_{shards}_{key}"] = float(outcome.metrics[metric][outcome.reported].mean())
    return figures
