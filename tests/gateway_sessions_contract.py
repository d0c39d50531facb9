"""What sessions at the gateways promise. Test classes derive from `SessionsContract` and bring a fixture `sessions`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from services.gateway.messages import Place
from services.gateway.sessions import Sessions


class SessionsContract:
    """Invariant: a session's places are 0, 1, 2 …, each given once, whichever gateway asks."""

    @pytest.fixture
    def loop(self) -> Any:
        """One event loop a test: a client of Redis belongs to one."""
        with asyncio.Runner() as runner:
            yield runner

    @pytest.fixture
    def run(self, loop: asyncio.Runner) -> Any:
        def run(call: Coroutine[Any, Any, Any]) -> Any:
            return loop.run(call)

        return run

    def test_places_follow_one_another_until_the_end(self, run: Any, sessions: Sessions) -> None:
        places = [run(sessions.take(1, new_id, ends=new_id == "c")) for new_id in "abcd"]
        assert places == [Place("a", 0, None), Place("a", 1, None), Place("a", 2, None), Place("d", 0, None)]

    def test_listeners_have_sessions_of_their_own(self, run: Any, sessions: Sessions) -> None:
        assert run(sessions.take(1, "a", ends=False)) == Place("a", 0, None)
        assert run(sessions.take(2, "b", ends=False)) == Place("b", 0, None)

    def test_no_place_is_given_twice_at_the_same_time(self, run: Any, sessions: Sessions) -> None:
        async def at_once() -> list[Place]:
            return await asyncio.gather(*(sessions.take(1, f"s{n}", ends=False) for n in range(50)))

        places = run(at_once())
        assert {place.session_id for place in places} == {places[0].session_id}
        assert sorted(place.position for place in places) == list(range(50))

    def test_the_last_recommendation_comes_with_the_next_places(self, run: Any, sessions: Sessions) -> None:
        run(sessions.take(1, "a", ends=False))
        run(sessions.remember(1, "a", b"first"))
        assert run(sessions.take(1, "b", ends=False)) == Place("a", 1, b"first")
        run(sessions.remember(1, "a", b"\0second"))
        assert run(sessions.take(1, "c", ends=True)) == Place("a", 2, b"\0second")
        assert run(sessions.take(1, "d", ends=False)) == Place("d", 0, None)

    def test_a_recommendation_for_a_session_that_is_over_is_forgotten(self, run: Any, sessions: Sessions) -> None:
        run(sessions.take(1, "a", ends=True))
        run(sessions.remember(1, "a", b"late"))
        assert run(sessions.take(1, "b", ends=False)) == Place("b", 0, None)
        run(sessions.remember(1, "a", b"later"))
        assert run(sessions.take(1, "c", ends=False)) == Place("b", 1, None)
