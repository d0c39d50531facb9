"""Sessions in a real Redis keep the same promises, and expire."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from botify.core.settings import Settings
from botify.services.gateway import sessions as module
from botify.services.gateway.scripts import ScriptBatcher
from botify.services.gateway.sessions import SessionPosition, SessionStore
from botify.streams.folds.sessions import GAP_MS
from botify.streams.store.connect import connect, connect_async
from botify.streams.store.keys import gateway_session
from tests.gateway_sessions_contract import SessionsContract, call
from tests.support import eventually


class TestRedisSessions(SessionsContract):
    @pytest.fixture
    def sessions(self, settings: Settings, loop: asyncio.Runner) -> Iterator[SessionStore]:
        batcher = ScriptBatcher(connect_async(settings))
        yield SessionStore(batcher, settings.topic_prefix)
        loop.run(batcher.close())

    def test_a_session_expires_after_the_gap_that_the_worker_uses(
        self, run: Any, sessions: SessionStore, settings: Settings
    ) -> None:
        run(sessions.next_position(1, call("a")))
        run(sessions.store_answer(1, "a", b"chosen"))
        redis = connect(settings)
        left_ms = redis.pttl(gateway_session(settings.topic_prefix, 1))
        redis.close()
        assert GAP_MS - 60_000 < left_ms <= GAP_MS

    def test_after_the_gap_a_new_session_starts(
        self, run: Any, sessions: SessionStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "GAP_MS", 50)
        run(sessions.next_position(1, call("a")))
        redis = connect(settings)
        eventually(lambda: not redis.exists(gateway_session(settings.topic_prefix, 1)), 5)
        redis.close()
        run(sessions.store_answer(1, "a", b"late"))
        assert run(sessions.next_position(1, call("b"))) == SessionPosition("b", 0, None, "b")

    def test_an_ended_session_is_kept_only_for_a_retry(
        self, run: Any, sessions: SessionStore, settings: Settings
    ) -> None:
        run(sessions.next_position(1, call("a", ends=True)))
        redis = connect(settings)
        left_ms = redis.pttl(gateway_session(settings.topic_prefix, 1))
        redis.close()
        assert 0 < left_ms <= module.ENDED_MS
