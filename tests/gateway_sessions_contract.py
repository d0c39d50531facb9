"""What sessions at the gateways promise. Test classes derive from `SessionsContract` and bring a fixture `sessions`."""

import asyncio
from typing import Any

import pytest

from botify.services.gateway.sessions import Fingerprint, SessionPosition, SessionStore


def call(event_id: str, text: str | None = None, *, keyed: bool = False, ends: bool = False) -> Fingerprint:
    return Fingerprint(event_id, text or f"heard {event_id}", keyed, ends)


class SessionsContract:
    """Invariant: a session's places are 0, 1, 2 …, each given once and to the retries of its call."""

    def test_positions_are_consecutive_until_the_end(self, run: Any, sessions: SessionStore) -> None:
        places = [run(sessions.next_position(1, call(event_id, ends=event_id == "c"))) for event_id in "abcd"]
        assert places == [
            SessionPosition("a", 0, None, "a"),
            SessionPosition("a", 1, None, "b"),
            SessionPosition("a", 2, None, "c"),
            SessionPosition("d", 0, None, "d"),
        ]

    def test_listeners_have_sessions_of_their_own(self, run: Any, sessions: SessionStore) -> None:
        assert run(sessions.next_position(1, call("a"))) == SessionPosition("a", 0, None, "a")
        assert run(sessions.next_position(2, call("b", "heard a"))) == SessionPosition("b", 0, None, "b")

    def test_no_position_is_given_twice_concurrently(self, run: Any, sessions: SessionStore) -> None:
        async def at_once() -> list[SessionPosition]:
            return await asyncio.gather(*(sessions.next_position(1, call(f"s{n}")) for n in range(50)))

        places = run(at_once())
        assert {place.session_id for place in places} == {places[0].session_id}
        assert sorted(place.position for place in places) == list(range(50))

    def test_the_last_recommendation_is_returned_with_the_next_position(self, run: Any, sessions: SessionStore) -> None:
        run(sessions.next_position(1, call("a")))
        run(sessions.store_answer(1, "a", b"first"))
        assert run(sessions.next_position(1, call("b"))) == SessionPosition("a", 1, b"first", "b")
        run(sessions.store_answer(1, "b", b"\0second"))
        assert run(sessions.next_position(1, call("c", ends=True))) == SessionPosition("a", 2, b"\0second", "c")
        run(sessions.store_answer(1, "c"))
        assert run(sessions.next_position(1, call("d"))) == SessionPosition("d", 0, None, "d")

    def test_a_late_recommendation_is_ignored(self, run: Any, sessions: SessionStore) -> None:
        run(sessions.next_position(1, call("a")))
        run(sessions.next_position(1, call("b", ends=True)))
        run(sessions.store_answer(1, "a", b"late"))
        assert run(sessions.next_position(1, call("c"))) == SessionPosition("c", 0, None, "c")
        run(sessions.store_answer(1, "b", b"later"))
        assert run(sessions.next_position(1, call("d"))) == SessionPosition("c", 1, None, "d")

    @pytest.mark.parametrize("ends", [False, True])
    @pytest.mark.parametrize("keyed", [False, True])
    def test_an_unanswered_call_keeps_its_position(
        self, run: Any, sessions: SessionStore, keyed: bool, ends: bool
    ) -> None:
        run(sessions.next_position(1, call("a")))
        run(sessions.store_answer(1, "a", b"first"))
        retry = (call(event_id, "the same", keyed=keyed, ends=ends) for event_id in "bcd")
        tries = [run(sessions.next_position(1, one)) for one in retry]
        assert tries == [SessionPosition("a", 1, b"first", "b")] * 3

    def test_an_answered_call_without_a_key_is_a_new_listen_when_repeated(
        self, run: Any, sessions: SessionStore
    ) -> None:
        run(sessions.next_position(1, call("a", "the same")))
        run(sessions.store_answer(1, "a", b"first"))
        assert run(sessions.next_position(1, call("b", "the same"))) == SessionPosition("a", 1, b"first", "b")

    def test_a_repeated_call_with_a_key_is_a_retry_even_if_answered(self, run: Any, sessions: SessionStore) -> None:
        run(sessions.next_position(1, call("a", "the same", keyed=True)))
        run(sessions.store_answer(1, "a", b"first"))
        again = run(sessions.next_position(1, call("a", "the same", keyed=True)))
        assert again == SessionPosition("a", 0, b"first", "a", answered=True)

    def test_a_different_listen_is_no_retry(self, run: Any, sessions: SessionStore) -> None:
        run(sessions.next_position(1, call("a")))
        assert run(sessions.next_position(1, call("b"))) == SessionPosition("a", 1, None, "b")
        assert run(sessions.next_position(1, call("c", "heard a"))) == SessionPosition("a", 2, None, "c")
