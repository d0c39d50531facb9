"""The sessions that other tests are served from keep the promises of the real ones."""

from __future__ import annotations

import pytest

from tests.gateway_sessions_contract import SessionsContract
from tests.unit.services.gateway.fakes import MemorySessionStore


class TestMemorySessions(SessionsContract):
    @pytest.fixture
    def sessions(self) -> MemorySessionStore:
        return MemorySessionStore()
