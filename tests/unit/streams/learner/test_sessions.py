"""Invariant: each session is handed on once, whole, when it is over; and open ones are bounded."""

from __future__ import annotations

from botify.schemas.events import Listen
from botify.schemas.training import TrainingColumns, listens_of, training_batch_of
from botify.streams.learner.sessions import MOST_LISTENS, OpenSessions
from tests.support import make_listens


def columns(listens: list[Listen]) -> TrainingColumns:
    return listens_of(training_batch_of("t", 0, 0, len(listens), list(enumerate(listens))), b"")


def listen(user: int, session: str, track: int, *, ended: bool = False, timestamp_ms: int = 1_000) -> Listen:
    return Listen("e", user, track, 0.5, timestamp_ms, session, 0, ended, None, {}, None, None)


def tracks(over: list) -> list[list[int]]:
    return [session.tracks.tolist() for session in over]


def test_a_session_is_over_when_it_says_so_or_when_the_next_begins() -> None:
    sessions = OpenSessions()
    heard = [listen(1, "a", 7), listen(2, "b", 8), listen(1, "a", 9, ended=True), listen(2, "c", 7)]
    assert tracks(sessions.fold(columns(heard))) == [[7, 9], [8]]
    assert len(sessions) == 1


def test_it_is_what_a_plain_grouping_gives() -> None:
    listens = make_listens(2_000, users=30, tracks=50, seed=5)
    sessions = OpenSessions()
    over = tracks(sessions.fold(columns(listens)))
    grouped: dict[str, list[int]] = {}
    for one in listens:
        grouped.setdefault(one.session_id, []).append(one.track)
    still_open = {next(reversed([one.session_id for one in listens if one.user == user])) for user in range(30)}
    ended = {one.session_id for one in listens if one.ended_session}
    assert sorted(over) == sorted(grouped[id_] for id_ in grouped if id_ in ended or id_ not in still_open)


def test_of_a_long_session_the_first_listens_are_kept() -> None:
    sessions = OpenSessions()
    heard = [listen(1, "a", at, ended=at == 99) for at in range(100)]
    assert tracks(sessions.fold(columns(heard))) == [list(range(MOST_LISTENS))]


def test_the_oldest_end_when_there_are_too_many() -> None:
    sessions = OpenSessions(most=10)
    heard = [listen(user, "a", user, timestamp_ms=1_000 - user) for user in range(11)]
    assert sessions.fold(columns(heard[:10])) == sessions.end_oldest() == []
    assert sessions.fold(columns(heard[10:])) == []
    assert tracks(sessions.end_oldest()) == [[10], [9]]
    assert len(sessions) == 9


def test_bytes_bring_them_back() -> None:
    sessions = OpenSessions()
    sessions.fold(columns(make_listens(500, users=30, tracks=50, seed=6)))
    again = OpenSessions.from_bytes(sessions.to_bytes())
    assert again.to_bytes() == sessions.to_bytes()
    more = columns(make_listens(500, users=30, tracks=50, seed=6, first=500))
    assert tracks(again.fold(more)) == tracks(sessions.fold(more))
    assert OpenSessions.from_bytes(OpenSessions().to_bytes()).to_bytes() == OpenSessions().to_bytes()
