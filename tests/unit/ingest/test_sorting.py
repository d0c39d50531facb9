"""Invariant: what is counted of events while they pass does not depend on how they are cut into batches."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from botify.ingest.model import SESSION_GAP_MS
from botify.ingest.sorting import Tally

listens = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8).map(lambda k: k * SESSION_GAP_MS // 3)), min_size=1)


@given(listens=listens.map(lambda found: sorted(found, key=lambda one: one[1])), size=st.integers(1, 60))
def test_sessions_end_after_the_gap(listens: list[tuple[int, int]], size: int) -> None:
    tally, last, sessions, ties = Tally(4, has_time=True), {}, [], 0
    for position, (user, time_ms) in enumerate(listens):
        before, session = last.get(user, (None, position))
        ties += before == time_ms
        begins = before is None or time_ms - before > SESSION_GAP_MS
        last[user] = time_ms, position if begins else session
        sessions.append(last[user][1])
    users, times_ms = np.array(listens).T
    found = [
        tally.pass_events(users[at : at + size], times_ms[at : at + size], None, users[at : at + size]).tolist()
        for at in range(0, len(listens), size)
    ]
    assert [session for batch in found for session in batch] == sessions
    assert (tally.ties, tally.events) == (ties, len(listens))
    assert (tally.start_ms, tally.end_ms) == (listens[0][1], listens[-1][1])


def test_sessions_of_the_source_are_kept() -> None:
    tally = Tally(2, has_time=True)
    given_sessions = np.array([5, 7, 5])
    assert tally.pass_events(np.array([0, 1, 0]), np.array([0, 1, 9_999_999]), given_sessions, np.zeros(3, int)) is (
        given_sessions
    )
    assert tally.sessions_given
