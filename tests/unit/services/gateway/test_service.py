"""Calls of listeners, and their records on the topics."""

import asyncio
from typing import Any

import pytest

from botify.services.errors import UnavailableError, UnknownTrackError
from botify.services.gateway.service import Answer
from botify.services.gateway.sessions import ListenReport, RequestId
from tests.gateway_sessions_contract import SessionsContract
from tests.support import make_tracks
from tests.unit.services.gateway.fakes import TRACKS, FakeGateway, MemorySessionStore


def call(gateway: FakeGateway, name: str, id_: str, track: int, key: str | None = None) -> Any:
    """Make a call (`next` or `last`) of listener 1."""
    return asyncio.run(getattr(gateway.service, name)(ListenReport(1, track, 0.5), RequestId(id_, None, key)))


def test_an_attribution_of_an_unknown_version_is_left_out(gateway: FakeGateway) -> None:
    call(gateway, "next", "g-0", track=7)
    gateway.sessions.of_users[1].attribution = b"\0" * 8 + b"\0\xff\xff\xff\xffwritten by a newer gateway"
    call(gateway, "next", "g-1", track=8)
    assert gateway.rpc.listens[-1].recommender is None


async def errors_of_unknown(gateway: FakeGateway, calls: int) -> list[type]:
    """Ask for an unknown track several times at once, and return what is raised."""
    asked = (gateway.service.track(TRACKS) for _ in range(calls))
    return [type(error) for error in await asyncio.gather(*asked, return_exceptions=True)]


async def test_a_new_track_is_found_and_the_catalogue_is_not_read_for_each_unknown_one(gateway: FakeGateway) -> None:
    assert await errors_of_unknown(gateway, 500) == [UnknownTrackError] * 500
    assert gateway.catalogue.looks <= 2
    (gateway.catalogue.added[TRACKS],) = make_tracks(1, first=TRACKS)
    found = await gateway.service.track(TRACKS)  # however short ago the topic was read
    assert found == gateway.catalogue.added[TRACKS]


async def test_while_the_catalogue_cannot_be_read_no_track_is_unknown(gateway: FakeGateway) -> None:
    gateway.catalogue.fails = True
    assert await errors_of_unknown(gateway, 2) == [UnavailableError] * 2


def test_a_recommendation_that_cannot_be_stored_is_still_given(gateway: FakeGateway) -> None:
    async def fail(*_: object) -> None:
        raise UnavailableError("Redis does not answer")

    gateway.sessions.store_answer = fail  # type: ignore[method-assign]
    assert call(gateway, "next", "g-0", track=7) == Answer(8, fallback=False, event_id="g-0")


def told(gateway: FakeGateway) -> list[tuple[str, str, int]]:
    return [(listen.event_id, listen.session_id, listen.position) for listen in gateway.rpc.listens]


@pytest.mark.parametrize("name", ["next", "last"])
def test_a_retry_of_an_unanswered_call_is_the_same_listen(gateway: FakeGateway, name: str) -> None:
    """Invariant: the worker drops the copy, by its id."""
    call(gateway, "next", "g-0", track=6)
    gateway.rpc.unacknowledged = True
    for number in (1, 2):
        with pytest.raises(UnavailableError):
            call(gateway, name, f"g-{number}", track=7)
    gateway.rpc.unacknowledged = False
    call(gateway, name, "g-3", track=7)
    assert told(gateway) == [("g-0", "g-0", 0)] + [("g-1", "g-0", 1)] * 3
    call(gateway, name, "g-4", track=7)
    assert told(gateway)[-1] == (("g-4", "g-0", 2) if name == "next" else ("g-4", "g-4", 0)), "a genuine repeat"


def test_with_a_key_a_retry_gets_the_answer_again(gateway: FakeGateway) -> None:
    first, again = (call(gateway, "next", id_, track=7, key="mine") for id_ in ("g-1", "g-2"))
    assert first == again == Answer(8, fallback=False, event_id=gateway.rpc.listens[0].event_id)
    assert len(gateway.rpc.listens) == 1
    call(gateway, "next", "g-3", track=7, key="another")
    call(gateway, "last", "g-4", track=7, key="last")
    call(gateway, "last", "g-5", track=7, key="last")
    assert [position for _, _, position in told(gateway)] == [0, 1, 2]
    gateway.sessions.of_users.clear()
    call(gateway, "last", "g-6", track=7, key="last")
    assert gateway.rpc.listens[-1].event_id == gateway.rpc.listens[-2].event_id, "wherever the session went"


def test_a_key_that_is_reused_with_another_track_is_no_retry(gateway: FakeGateway) -> None:
    for track in (7, 8):
        call(gateway, "next", f"g-{track}", track=track, key="always the same")
    assert len({event_id for event_id, _, _ in told(gateway)}) == 2


class TestMemorySessions(SessionsContract):
    """The sessions that other tests are served from keep the promises of the real ones."""

    @pytest.fixture
    def sessions(self) -> MemorySessionStore:
        return MemorySessionStore()
