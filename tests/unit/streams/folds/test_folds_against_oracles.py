"""Invariant: after every single event, each projection says what a look at all listens so far says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botify.schemas.events import Listen, Session
from botify.streams.folds.likes import LIKES_OF_USERS, Likes
from botify.streams.folds.popularity import HALF_LIVES_MS, POPULARITY, top_collection
from botify.streams.folds.projection import Record
from botify.streams.folds.sessions import OPEN_SESSIONS, WATERMARK, OpenSession
from botify.streams.folds.users import USERS, UserState
from tests.support import make_listens
from tests.unit.strategies import listen_sequences
from tests.unit.streams.folds import oracles
from tests.unit.streams.folds.oracles import PARTITION, Driven, drive, records_of
from tests.unit.streams.worker.records import listen, parts


def check(driven: Driven, kept: list[Record]) -> None:
    check_users(driven, kept)
    check_popularity(driven, kept)
    check_sessions(driven, kept)


def check_users(driven: Driven, kept: list[Record]) -> None:
    found = driven.store.hashes[PARTITION, USERS]
    assert found.keys() == {b"%d" % listen.user for _, listen in kept}
    for user, record in found.items():
        state = UserState.from_bytes(record)
        expected = oracles.user_state(int(user), kept)
        assert state.session_tracks().tolist() == expected.pop("session_tracks")
        assert [tuple(one)[1:] for one in state.last_listens().tolist()] == expected.pop("history")
        assert {name: getattr(state, name) for name in expected} == expected


def check_popularity(driven: Driven, kept: list[Record]) -> None:
    found = driven.store.hashes[PARTITION, POPULARITY]
    for column, half_life in enumerate(HALF_LIVES_MS):
        expected = oracles.popularity_scores(kept, half_life)
        scores = {int(track): float(np.frombuffer(record)[column]) for track, record in found.items()}
        assert scores.keys() == expected.keys()
        for track, score in scores.items():
            assert math.isclose(2.0 ** (score - expected[track]), 1.0, rel_tol=1e-9)
        top = driven.store.scores[PARTITION, top_collection(half_life)]
        assert {int(track): score for track, score in top.items()} == scores  # fewer tracks than the top has places


def check_sessions(driven: Driven, kept: list[Record]) -> None:
    closed, still_open = oracles.sessions(PARTITION, kept)
    assert driven.sent.of(Session) == closed
    found = dict(driven.store.hashes[PARTITION, OPEN_SESSIONS])
    assert int(found.pop(WATERMARK)) == max(listen.timestamp_ms for _, listen in kept)
    assert found.keys() == {b"%d" % user for user in still_open}
    for user, record in found.items():
        session, listens = OpenSession.from_bytes(record), still_open[int(user)]
        assert (session.session_id, session.first_offset) == (listens[0][1].session_id, listens[0][0])
        assert session.tracks == len(listens)
        assert session.last_ms == max(listen.timestamp_ms for _, listen in listens)
        assert session.started_ms == listens[0][1].timestamp_ms


@settings(max_examples=40)
@given(listen_sequences(max_size=30))
def test_after_every_event_the_state_is_the_oracles(listens: list[Listen]) -> None:
    driven, records = Driven(), records_of(listens)
    for at in range(1, len(records) + 1):
        driven.take(records[at - 1 : at])
        kept = oracles.without_duplicates(records[:at])
        assert driven.counters.duplicates == at - len(kept)
        check(driven, kept)


def test_a_long_stream_ends_where_the_oracle_ends() -> None:
    listens = make_listens(3000, users=40, tracks=60, seed=5)
    records = records_of([*listens, *listens[-200:], *listens[:10]])
    driven, kept = drive(parts(records, range(0, len(records), 97))), oracles.without_duplicates(records)
    assert {session.closed_by for session in driven.sent.of(Session)} == {"end", "gap", "next"}
    check(driven, kept)
    likes: dict[bytes, Likes] = {}
    for _, one in kept:
        likes.setdefault(b"%d" % one.user, Likes()).fold(one)
    found = driven.store.hashes[PARTITION, LIKES_OF_USERS]
    assert found == {user: of_user.to_bytes() for user, of_user in likes.items()}


def test_a_duplicate_older_than_the_history_is_not_recognised() -> None:
    listens = [listen(f"e{at}") for at in range(51)]
    driven = drive([records_of([*listens, listens[1]])])
    assert driven.counters.duplicates == 1
    driven.take([(900, listens[0])])
    assert driven.counters.duplicates == 1


@pytest.mark.parametrize("fraction", [0.0, 5e-324, 1.0])
@pytest.mark.parametrize("timestamp_ms", [0, 2**52])
def test_no_score_overflows(fraction: float, timestamp_ms: int) -> None:
    first = listen("e", timestamp_ms=timestamp_ms)._replace(fraction=fraction)
    driven = drive([[(0, first)], [(1, listen("f", timestamp_ms=0)._replace(fraction=1.0))]])
    for half_life in HALF_LIVES_MS:
        (score,) = driven.store.scores[PARTITION, top_collection(half_life)].values()
        assert math.isfinite(score)


@settings(max_examples=60)
@given(listen_sequences(), st.lists(st.integers(0, 60), max_size=12), st.booleans())
def test_any_batches_give_the_same_bytes(listens: list[Listen], cuts: list[int], restarts: bool) -> None:
    records = records_of(listens)
    whole, cut = drive([records]), drive(parts(records, cuts), restarts=restarts)
    assert cut.contents() == whole.contents()
    assert cut.sent.of(Session) == whole.sent.of(Session)
    assert cut.counters.duplicates == whole.counters.duplicates


@pytest.mark.parametrize(("cache_size", "batch"), [(1, 1), (3, 50)])
def test_a_cache_that_is_too_small_changes_nothing(cache_size: int, batch: int) -> None:
    records = records_of(make_listens(600, users=40, tracks=20, seed=2))
    bounded = drive(parts(records, range(0, len(records), batch)), cache_size=cache_size)
    assert bounded.contents() == drive([records]).contents()
