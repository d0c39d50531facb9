from __future__ import annotations

import mmh3
import pytest

from botify.schemas.events import Listen
from botify.streams.folds.users import HISTORY_LISTENS, LISTEN, SESSION_TRACKS, UserState


def listen(event_id: str, session_id: str = "s") -> Listen:
    return Listen(event_id, 1, 7, 0.5, 1_000, session_id, 0, False, None, {}, None, None)


def folded(n: int, session_id: str = "s") -> UserState:
    state = UserState()
    for at in range(n):
        assert state.fold(listen(f"e{at}", session_id))
    return state


@pytest.mark.parametrize("session_id", ["s", "séance-✓", "x" * 255])
@pytest.mark.parametrize("n", [0, 1, HISTORY_LISTENS, HISTORY_LISTENS + 7, SESSION_TRACKS + 7])
def test_a_record_comes_back_equal_and_folds_on(n: int, session_id: str) -> None:
    state = folded(n, session_id)
    read = UserState.from_bytes(state.to_bytes())
    assert read == state
    assert len(read.last_listens()) == min(n, HISTORY_LISTENS)
    assert len(read.session_tracks()) == min(n, SESSION_TRACKS)
    assert read.fold(listen("next", session_id)) == state.fold(listen("next", session_id))
    assert read == state


def test_a_record_of_another_version_is_refused() -> None:
    record = bytearray(folded(1).to_bytes())
    record[0] = 1
    with pytest.raises(ValueError, match="version 1; this code reads version 2, replay the topic"):
        UserState.from_bytes(bytes(record))


def test_other_bytes_of_the_history_are_not_taken_for_an_event_id() -> None:
    """The id's hash stands in the history, but across two fields: as the timestamp, say."""
    state = folded(3)
    hash_ = mmh3.hash_bytes("new")[:8]
    at = LISTEN.itemsize + LISTEN.fields["timestamp_ms"][1]  # type: ignore[index]
    state.history = state.history[:at] + hash_ + state.history[at + 8 :]
    assert state.fold(listen("new"))
    assert not state.fold(listen("new"))
    state.history = hash_ + state.history[8:]
    assert not state.fold(listen("new"))


def test_a_duplicate_changes_nothing() -> None:
    state = folded(5)
    before = state.to_bytes()
    assert not state.fold(listen("e2", session_id="another"))
    assert state.to_bytes() == before
