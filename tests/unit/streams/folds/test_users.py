from itertools import product

import mmh3
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botify.schemas.events import Listen
from botify.streams.folds.columns.popularity import Popularity
from botify.streams.folds.likes import LIKES, SESSION_LIKES, Likes
from botify.streams.folds.popularity import HALF_LIVES_MS, POPULARITY, top_collection
from botify.streams.folds.users import HISTORY_LISTENS, LISTEN, SESSION_TRACKS, UserState


def heard(event_id: str, session_id: str = "s", track: int = 7, fraction: float = 0.5) -> Listen:
    return Listen(event_id, 1, track, fraction, 1_000, session_id, 0, False, None, {}, None, None)


def folded(n: int, session_id: str = "s") -> UserState:
    state = UserState()
    for at in range(n):
        assert state.fold(heard(f"e{at}", session_id))
    return state


@pytest.mark.parametrize("session_id", ["s", "séance-✓", "x" * 255])
@pytest.mark.parametrize("n", [0, 1, HISTORY_LISTENS, HISTORY_LISTENS + 7, SESSION_TRACKS + 7])
def test_a_record_comes_back_equal_and_folds_on(n: int, session_id: str) -> None:
    state = folded(n, session_id)
    read = UserState.from_bytes(state.to_bytes())
    assert read == state
    assert len(read.last_listens()) == min(n, HISTORY_LISTENS)
    assert len(read.session_tracks()) == min(n, SESSION_TRACKS)
    assert read.fold(heard("next", session_id)) == state.fold(heard("next", session_id))
    assert read == state


@pytest.mark.parametrize(("kind", "version"), [(UserState, 2), (Likes, 1)])
def test_a_record_of_another_version_is_refused(kind: type[UserState | Likes], version: int) -> None:
    with pytest.raises(ValueError, match=f"version 9; this code reads version {version}, replay the topic"):
        kind.from_bytes(b"\x09" + kind().to_bytes()[1:])


def test_other_bytes_of_the_history_are_not_taken_for_an_event_id() -> None:
    """The id's hash stands in the history, but across two fields: as the timestamp, say."""
    state = folded(3)
    hash_ = mmh3.hash_bytes("new")[:8]
    at = LISTEN.itemsize + LISTEN.fields["timestamp_ms"][1]  # type: ignore[index]
    state.history = state.history[:at] + hash_ + state.history[at + 8 :]
    assert state.fold(heard("new"))
    assert not state.fold(heard("new"))
    state.history = hash_ + state.history[8:]
    assert not state.fold(heard("new"))


def test_a_like_keeps_the_first_track_of_its_session() -> None:
    likes = Likes()
    for track, fraction, session in [(1, 0.2, "a"), (2, 0.5, "a"), (3, 0.49, "a"), (4, 1.0, "b"), (2, 0.7, "b")]:
        likes.fold(heard("e", session, track, fraction))
    assert likes.all()[["track", "seed_track"]].tolist() == [(2, 1), (4, 4), (2, 4)]


def test_a_session_leaves_so_many_and_all_of_them_so_many() -> None:
    likes = Likes()
    for session, track in product(range(20), range(30)):
        likes.fold(heard("e", f"s{session}", 100 * session + track, 1.0))
    kept = likes.all()
    assert len(kept) == LIKES
    assert kept["track"].tolist()[-SESSION_LIKES:] == [1900 + track for track in range(SESSION_LIKES)]


TOP = 3
BATCH = st.lists(
    st.tuples(st.integers(0, 8), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0, 0, 0, 3_600_000, 10**9])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150)
@given(st.lists(BATCH, min_size=1, max_size=6), st.booleans())
def test_the_top_is_exact_after_every_batch(batches: list[list[tuple[int, float, int]]], restarts: bool) -> None:
    popularity = Popularity(top_tracks=TOP)
    hash_: dict[bytes, bytes | None] = {}
    tops: dict[str, dict[bytes, float]] = {top_collection(half_life): {} for half_life in HALF_LIVES_MS}
    for batch in batches:
        if restarts:
            popularity = Popularity(top_tracks=TOP)
            for name, top in tops.items():
                popularity.load_scores(name, top)
        tracks, fractions, times_ms = (np.array(column) for column in zip(*batch, strict=True))
        for fields in popularity.missing(tracks).values():
            popularity.load_fields({field: hash_.get(field) for field in fields})
        popularity.add(tracks, fractions, times_ms)
        changes = popularity.changes()
        hash_.update(changes.hashes.get(POPULARITY, {}))
        for name, members in changes.scores.items():
            for member, score in members.items():
                if score is None:
                    del tops[name][member]  # nothing is removed that was not there
                else:
                    tops[name][member] = score
        for column, half_life in enumerate(HALF_LIVES_MS):
            scores = {int(t): float(np.frombuffer(record)[column]) for t, record in hash_.items() if record}
            ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:TOP]
            assert {int(t): score for t, score in tops[top_collection(half_life)].items()} == dict(ranked)
