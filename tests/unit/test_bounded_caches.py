"""Invariant: a cache that is filled far beyond its bound keeps the bytes that it states."""

import gc
import tracemalloc
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import product

import numpy as np
import pytest

from botify.core.kafka.config import consumer_config, partition_of, producer_config
from botify.core.settings import Settings
from botify.schemas.events import Listen, RecommendationRequest, Track
from botify.schemas.training import TrainingColumns
from botify.schemas.validation import MAX_ID_BYTES
from botify.services.experiments import Experiments, assignment
from botify.services.experiments.assignment import Experiment, Treatment
from botify.services.gateway.middleware import RateLimit
from botify.services.recommender import filters, sessions
from botify.services.recommender.filters import Filters
from botify.services.recommender.sessions import PendingListens
from botify.streams.folds.columns.listeners import ROW_BYTES, Listeners
from botify.streams.folds.users import HISTORY_LISTENS, SESSION_TRACKS, USERS, UserRecords, UserState
from botify.streams.learner.models import factors

MANY = 500
"""Entries that a cache may have here; five times as many come."""
SLACK_BYTES = 50_000
LONG = "é" * (MAX_ID_BYTES // 2 - 8)


def listen_of(user: int, at: int, session: str = LONG, *, ended: bool = False) -> Listen:
    id_, session_id, treatments = f"{user}:{at}", f"{session}{user % 10**8}", {"A": f"T{at % 2}"}
    return Listen(id_, user, at, 0.123 + at, 10**12 + at, session_id, at, ended, "mix", treatments, 0.1, 2.0)


def longest_state() -> bytes:
    state = UserState()
    for at in range(SESSION_TRACKS + HISTORY_LISTENS):
        state.fold(listen_of(1, at))
    return state.to_bytes()


def fill_assignments(monkeypatch: pytest.MonkeyPatch) -> tuple[object, int]:
    monkeypatch.setattr(assignment, "MOST_LISTENERS", 4 * MANY)
    arms = tuple(Treatment(name, "random") for name in ("C", "T1", "T2"))
    experiments = Experiments(tuple(Experiment(f"E{n}", f"E{n}", arms) for n in range(4)), "random")
    for user in range(20 * MANY):
        experiments.assign(10**9 + user)
    return experiments, 200 * 4 * MANY + 1_024 * 3**4


def fill_partitions(monkeypatch: pytest.MonkeyPatch) -> tuple[object, int]:
    cached = lru_cache(MANY)(partition_of.__wrapped__)
    for user in range(5 * MANY):
        cached(10**9 + user, 16)
    return cached, 250 * MANY


def fill_pending(monkeypatch: pytest.MonkeyPatch, listeners: int, requests: int) -> tuple[object, int]:
    monkeypatch.setattr(sessions, "PENDING_BYTES", 300_000)
    pending, behind = PendingListens(), UserState()
    for user, at in product(range(listeners), range(requests)):
        name = f"{LONG}{user}"
        behind.session_id, behind.session_listens = name, at
        request = RecommendationRequest(f"r{user}-{at}", 10**9 + user, name, at, at, 0.5, 10**12 + at, 10**12)
        pending.completed([request], [behind])
    return pending, 300_000


def fill_users(monkeypatch: pytest.MonkeyPatch) -> tuple[object, int]:
    states, record = UserRecords(USERS, UserState, UserState.from_bytes, cache_size=200), longest_state()
    for user in range(2_000):
        states.missing([(0, listen_of(user, 0))])
        states.load_fields({b"%d" % user: record + b""})
        states.take_batch()
    return states, 2 * 200 * 4_096


def fill_open_sessions(monkeypatch: pytest.MonkeyPatch) -> tuple[object, int]:
    monkeypatch.setattr(factors, "MOST_SESSIONS", MANY)
    monkeypatch.setattr(factors, "CLOSE_EVERY", factors.CHUNK)
    model, users = factors.FactorModel({7: Track(7, "a", None, None, "x")}), 5 * MANY
    everybody, nobody = np.arange(users) + 10**9, np.zeros(users, dtype=np.bool_)
    sevens, third, times = np.full(users, 7, np.int32), np.full(users, 0.3, np.float32), np.arange(users) + 10**12
    listens = TrainingColumns(
        everybody.astype(np.uint32), everybody, sevens, third, times, times.astype(np.uint64), nobody, nobody, nobody
    )
    for _ in range(factors.MOST_LISTENS):
        model.learn_listens(listens)
    row_bytes = sum(array[:1].nbytes for array in factors.OpenSessions.empty().with_room(1))
    return model, 2 * (MANY + factors.CHUNK) * (row_bytes + 300)


def fill_rates(monkeypatch: pytest.MonkeyPatch) -> tuple[object, int]:
    limit = RateLimit(rate_per_s=2.0, clients=MANY)
    for client in range(5 * MANY):
        limit.wait_s(f"2001:db8:85a3:8d3:1319:8a2e:370:{client:04x}", now_s=client / 7)
    return limit, 400 * MANY


CACHES: dict[str, Callable[[pytest.MonkeyPatch], tuple[object, int]]] = {
    "assignments": fill_assignments,
    "partitions of users": fill_partitions,
    "pending listens, many listeners": partial(fill_pending, listeners=3_000, requests=1),
    "pending listens, long sessions": partial(fill_pending, listeners=500, requests=40),
    "states": fill_users,
    "open sessions of the learner": fill_open_sessions,
    "rates of clients": fill_rates,
}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_stays_within_its_bytes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = CACHES[name]
    fill(monkeypatch)  # compiled code, which it loads the first time, is no part of a cache
    gc.collect()
    tracemalloc.start()
    try:
        kept, bound = fill(monkeypatch)
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used <= bound + SLACK_BYTES, f"{used:,} of {bound:,} bytes"
    assert kept is not None


def test_rows_of_listeners_with_long_sessions_are_fewer() -> None:
    listeners, record = Listeners(with_likes=True, most_rows=4 * MANY), longest_state()
    for first in range(0, 20 * MANY, 50):
        fields = listeners.missing(np.arange(first, first + 50))
        listeners.load_fields(USERS, dict.fromkeys(fields[USERS], record))
        listeners.changes()
    row_bytes = sum(column[0].nbytes for table in (listeners._users, listeners._likes) for column in table)
    assert row_bytes > ROW_BYTES
    assert MANY < listeners._row_of.count <= 4 * MANY * ROW_BYTES // row_bytes


def test_filters_of_a_large_catalogue_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "KEPT_BYTES", 100_000)
    tracks = [Track(track, f"artist {track}", None, None, "title") for track in range(1_000)]
    kept = Filters(len(tracks), lambda: tracks)
    masks = [kept.mask([f"artist:artist {track}"]) for track in range(200)]
    assert all(mask.nonzero()[0].tolist() == [track] for track, mask in enumerate(masks))
    assert masks[0].nbytes * kept._rows.cache_info().currsize <= 100_000


def test_clients_of_kafka_queue_bytes_not_only_records() -> None:
    assert producer_config(Settings())["queue.buffering.max.kbytes"] == 64 * 1024
    assert consumer_config(Settings(), "group")["queued.max.messages.kbytes"] == 16 * 1024
