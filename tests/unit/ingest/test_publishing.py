"""Invariant: what a resumed publisher sends again, a worker recognises."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from botify.core.kafka.config import key_of
from botify.ingest.model import Events
from botify.ingest.publishing import OF_A_USER, WINDOW, DatasetListens
from botify.schemas.validation import check
from botify.streams.folds.users import HISTORY_LISTENS


def events_of(users: list[int], sessions: list[int] | None = None) -> Events:
    n = len(users)
    return Events(
        np.array(users, dtype=np.int32),
        np.arange(n, dtype=np.int32),
        np.full(n, 0.5, dtype=np.float32),
        np.arange(n, dtype=np.int64),
        np.array(sessions or users, dtype=np.int64),
        np.zeros(n, dtype=np.uint8),
        np.array([-1, 0, 1] * n, dtype=np.int8)[:n],
    )


def test_a_worker_remembers_more_than_is_sent_again() -> None:
    assert 2 * OF_A_USER <= HISTORY_LISTENS


@given(users=st.lists(st.integers(0, 3), min_size=1, max_size=300), row=st.integers(0, 299))
def test_a_window_is_as_long_as_it_may_be(users: list[int], row: int) -> None:
    row = min(row, len(users) - 1)
    end = DatasetListens(events_of(users), "ab" * 32, "csv").window_end(row)
    assert row < end <= row + WINDOW
    assert max(Counter(users[row:end]).values()) <= OF_A_USER
    assert end == len(users) or max(Counter(users[row : end + 1]).values()) > OF_A_USER


@given(sessions=st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_listens_know_their_place_in_their_session(sessions: list[int]) -> None:
    listens = DatasetListens(events_of(sessions), "ab" * 32, "csv")
    found = [listens.listen(row) for row in range(len(listens))]
    seen: Counter[int] = Counter()
    for row, (listen, session) in enumerate(zip(found, sessions, strict=True)):
        assert listen.position == seen[session]
        assert listen.ended_session == (session not in sessions[row + 1 :])
        seen[session] += 1
        check(listen, key_of(listen.user), b"")
    assert len({listen.event_id for listen in found}) == len(found)


def test_what_was_recommended_names_the_source() -> None:
    listens = DatasetListens(events_of([1, 1, 1]), "ab" * 32, "yambda")
    assert [listens.listen(row).recommender for row in range(3)] == [None, "yambda", None]
