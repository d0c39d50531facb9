"""How much of exact scoring a recommender finds among a million tracks, and what a request costs, without servers."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Listen, RecommendationRequest, Track
from botify.schemas.track_columns import LABELS
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.factors import FactorTable, ServedFactors
from botify.services.recommender.protocol import Batch
from botify.services.recommender.rerank import Rerank
from botify.streams.folds.users import UserState
from botify.streams.learner.models.factors import BIAS, DIMENSIONS, MOST_EARLIER, Factors

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

TRACKS = 1_000_000
ARTIST_TRACKS, SCENE_TRACKS = 12, 2_000
SCENE, ARTIST, OWN = 0.25, 0.2, 0.2
"""Standard deviation of each part of a vector. The more a track has of its own, the more clusters have some of the
best: after four listens a track, the vectors that `fism` learns from simulated sessions have less than this."""
LISTENS, SESSIONS, BEST = 10, 200, 10
PER_S, SECONDS = 500.0, 20.0


def measure_retrieval(tracks: int = TRACKS, sessions: int = SESSIONS, seconds: float = SECONDS) -> dict[str, float]:
    """Return the recall of exact scoring, with the clusters that are offered and with four, and the cost of a request.

    `p99_ms` is the time from arrival to answer, without Kafka and Redis: requests arrive at random, `PER_S` on average,
    and one process with a core of its own answers all that have arrived at a time.
    """
    rng = np.random.default_rng(0)
    catalogue, factors, scene_of = _million(rng, tracks, OWN)
    served, began_s = ServedFactors(factors), time.process_time()
    table = served.table(catalogue)
    built_s = time.process_time() - began_s
    batch = _sessions(rng, catalogue, scene_of, sessions)
    rerank = Rerank(catalogue, lambda: served)
    offered, exact = table.offered, _ranked(rerank, batch, table, len(table.clusters.size))
    found = _ranked(rerank, batch, table, offered)
    of_four = _ranked(rerank, batch, table, min(4, offered))
    arrivals_s = np.cumsum(rng.exponential(1 / PER_S, int(PER_S * seconds)))
    cpu_s = time.process_time()
    waited_s = _answered(rerank.recommend, batch, arrivals_s)
    return {
        "recall": _recall(found, exact),
        "recall_of_four_cells": _recall(of_four, exact),
        "offered_cells": float(offered),
        "cells": float(len(table.clusters.size)),
        "request_us": (time.process_time() - cpu_s) / len(arrivals_s) * 1e6,
        "p99_ms": float(np.quantile(waited_s, 0.99)) * 1e3,
        "table_s": built_s,
    }


def _million(rng: np.random.Generator, tracks: int, own: float) -> tuple[Catalogue, Factors, Ints]:
    """Return tracks whose vectors are near their artist's, which is near its scene's, and each track's scene."""
    artists, scenes = max(tracks // ARTIST_TRACKS, 1), max(tracks // SCENE_TRACKS, 2)
    artist_of, scene_of_artist = rng.integers(0, artists, tracks), rng.integers(0, scenes, artists)
    moods, years = rng.integers(0, 12, tracks), rng.integers(1960, 2026, tracks)
    columns = artist_of, scene_of_artist[artist_of] % 200, moods, years
    rows = zip(*(column.tolist() for column in columns), strict=True)
    catalogue = Catalogue(
        Track(at, str(artist), None, f"g{genre}", "x", mood=f"m{mood}", year=year)
        for at, (artist, genre, mood, year) in enumerate(rows)
    )
    of_artists = _normal(rng, scenes, SCENE)[scene_of_artist] + _normal(rng, artists, ARTIST)
    learned = {
        "ids": np.arange(tracks, dtype=np.int32),
        "tracks": _normal(rng, tracks, own),
        "artists": of_artists,
        "genres": np.zeros((1, DIMENSIONS + 1), dtype=np.float32),
        "kept": np.ones((MOST_EARLIER + 1, 2), dtype=np.float32),
        "matches": np.array([[1.0, 1.0]] * len(LABELS), dtype=np.float32),
        "told": np.zeros(2, dtype=np.float32),
    }
    factors = Factors({"artists": [str(artist) for artist in range(artists)], "genres": [""]}, learned)
    return catalogue, factors, scene_of_artist[artist_of]


def _normal(rng: np.random.Generator, rows: int, deviation: float) -> Floats:
    made = rng.standard_normal((rows, DIMENSIONS + 1), dtype=np.float32) * np.float32(deviation)
    made[:, BIAS] -= 1
    return made


def _sessions(rng: np.random.Generator, catalogue: Catalogue, scene_of: Ints, sessions: int) -> Batch:
    """Return requests of sessions that have heard tracks of one scene, most of them to the end."""
    by_scene = np.argsort(scene_of, kind="stable")
    ends = np.cumsum(np.bincount(scene_of))
    requests, states = [], []
    for at in range(sessions):
        scene = int(rng.integers(1, len(ends)))
        tracks = catalogue.tracks[by_scene[rng.integers(ends[scene - 1], ends[scene], LISTENS)]].tolist()
        fractions = np.clip(rng.normal(0.8, 0.3, LISTENS), 0.01, 1).tolist()
        state, session = UserState(), f"s{at}"
        for position, (track, fraction) in enumerate(zip(tracks, fractions, strict=True)):
            listen_id, is_last = f"{session}-{position}", False
            heard = Listen(listen_id, at, track, fraction, position, session, position, is_last, None, {}, None, None)
            state.fold(heard)
        states.append(state)
        requests.append(RecommendationRequest(f"r{at}", at, session, LISTENS - 1, tracks[-1], fractions[-1], 0, 0))
    return Batch.of(requests, states)


def _ranked(rerank: Rerank, batch: Batch, table: FactorTable, cells: int) -> Ints:
    offered, at_once = table.offered, table.sessions_at_once
    table.offered, table.sessions_at_once = cells, 1
    try:
        return rerank.rank(batch, BEST).tracks
    finally:
        table.offered, table.sessions_at_once = offered, at_once


def _recall(found: Ints, exact: Ints) -> float:
    return float(np.mean([np.isin(one, best).mean() for best, one in zip(exact, found, strict=True)]))


def _answered(answer: Callable[[Batch], object], batch: Batch, arrivals_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how long each request waits for its answer, s: CPU time of one process, after what came before it."""
    done, now_s, waited_s = 0, 0.0, np.zeros(len(arrivals_s))
    while done < len(arrivals_s):
        now_s = max(now_s, arrivals_s[done])
        until = int(np.searchsorted(arrivals_s, now_s, side="right"))
        began_s = time.process_time()
        answer(batch.select(np.arange(done, until) % len(batch)))
        now_s += time.process_time() - began_s
        waited_s[done:until] = now_s - arrivals_s[done:until]
        done = until
    return waited_s
