from __future__ import annotations

import pytest

from botify.schemas.events import Listen
from botify.streams.folds.likes import LIKES, LIKES_OF_USERS, SESSION_LIKES, Likes
from tests.support import make_listens
from tests.unit.streams.folds import oracles
from tests.unit.streams.folds.driving import PARTITION, Driven


def listen(track: int, fraction: float, session_id: str = "s") -> Listen:
    return Listen(f"{session_id}{track}", 1, track, fraction, 0, session_id, 0, False, None, {}, None, None)


def test_a_like_keeps_the_first_track_of_its_session() -> None:
    likes = Likes()
    for track, fraction, session in [(1, 0.2, "a"), (2, 0.5, "a"), (3, 0.49, "a"), (4, 1.0, "b"), (2, 0.7, "b")]:
        likes.fold(listen(track, fraction, session))
    assert likes.all()[["track", "seed_track"]].tolist() == [(2, 1), (4, 4), (2, 4)]


def test_a_session_leaves_so_many_and_all_of_them_so_many() -> None:
    likes = Likes()
    for session in range(20):
        for track in range(30):
            likes.fold(listen(100 * session + track, 1.0, f"s{session}"))
    kept = likes.all()
    assert len(kept) == LIKES
    assert kept["track"].tolist()[-SESSION_LIKES:] == [1900 + track for track in range(SESSION_LIKES)]


def test_only_what_changes_is_said_to_have_changed() -> None:
    likes = Likes()
    assert likes.fold(listen(1, 0.1))  # a session began
    assert not likes.fold(listen(2, 0.1))
    assert likes.fold(listen(3, 0.9))


def test_a_record_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 9; this code reads version 1, replay the topic"):
        Likes.from_bytes(b"\x09" + Likes().to_bytes()[1:])


@pytest.mark.parametrize("batch", [1, 97, 3000])
def test_the_store_holds_what_a_plain_fold_gives_whatever_the_batches(batch: int) -> None:
    records = oracles.records_of(make_listens(3000, users=40, tracks=60, seed=5))
    driven = Driven()
    for at in range(0, len(records), batch):
        driven.take(records[at : at + batch])
    expected: dict[int, Likes] = {}
    for _, heard in records:
        expected.setdefault(heard.user, Likes()).fold(heard)
    assert driven.store.hashes[PARTITION, LIKES_OF_USERS] == {
        b"%d" % user: likes.to_bytes() for user, likes in expected.items()
    }
