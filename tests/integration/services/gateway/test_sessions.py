"""Sessions in a real Redis keep the same promises, and expire."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from core.settings import Settings
from services.gateway import sessions as module
from services.gateway.messages import SessionPosition
from services.gateway.sessions import Batching, RedisSessionStore
from streams.folds.sessions import GAP_MS
from streams.store.connect import connect, connect_async
from streams.store.keys import gateway_session
from tests.gateway_sessions_contract import SessionsContract, said
from tests.support import eventually


class TestRedisSessions(SessionsContract):
    @pytest.fixture
    def sessions(self, settings: Settings, loop: asyncio.Runner) -> Iterator[RedisSessionStore]:
        batching = Batching(connect_async(settings))
        yield RedisSessionStore(batching, settings.topic_prefix)
        loop.run(batching.close())

    def test_a_session_expires_after_the_gap_that_the_worker_uses(
        self, run: Any, sessions: RedisSessionStore, settings: Settings
    ) -> None:
        run(sessions.take(1, said("a")))
        run(sessions.remember(1, "a", b"chosen"))
        redis = connect(settings)
        left_ms = redis.pttl(gateway_session(settings.topic_prefix, 1))
        redis.close()
        assert GAP_MS - 60_000 < left_ms <= GAP_MS

    def test_after_the_gap_another_session_begins(
        self, run: Any, sessions: RedisSessionStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "GAP_MS", 50)
        run(sessions.take(1, said("a")))
        redis = connect(settings)
        eventually(lambda: not redis.exists(gateway_session(settings.topic_prefix, 1)), 5)
        redis.close()
        run(sessions.remember(1, "a", b"late"))
        assert run(sessions.take(1, said("b"))) == SessionPosition("b", 0, None, "b")

    def test_a_session_that_ended_is_kept_for_a_retry_only(
        self, run: Any, sessions: RedisSessionStore, settings: Settings
    ) -> None:
        run(sessions.take(1, said("a", ends=True)))
        redis = connect(settings)
        left_ms = redis.pttl(gateway_session(settings.topic_prefix, 1))
        redis.close()
        assert 0 < left_ms <= module.ENDED_MS
