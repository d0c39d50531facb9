"""What a listener's calls become on the topics."""

from __future__ import annotations

import asyncio
import time

import pytest

from schemas.events import Listen
from services.gateway import known_tracks
from services.gateway.errors import UnavailableError, UnknownTrackError
from services.gateway.messages import Heard
from services.gateway.service import Answer, Call
from tests.support import make_tracks
from tests.unit.services.gateway.fakes import NOW_MS, POPULAR, TRACKS, FakeGateway


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


def tell(gateway: FakeGateway, *calls: tuple[str, int, int]) -> list[Answer | None]:
    """Make calls (`next` or `last`, user, track) one after the other."""

    async def one_after_the_other() -> list[Answer | None]:
        return [
            await getattr(gateway.service, name)(Heard(user, track, 0.5), Call(f"g-{number}"))
            for number, (name, user, track) in enumerate(calls)
        ]

    return asyncio.run(one_after_the_other())


def test_a_listen_is_told_with_its_request_and_answered(gateway: FakeGateway) -> None:
    assert tell(gateway, ("next", 42, 7)) == [Answer(8, fallback=False)]
    expected = Listen("g-0", 42, 7, 0.5, NOW_MS, "g-0", 0, False, None, {}, None, None)
    assert gateway.exchange.listens == [expected]
    (request,) = gateway.exchange.requests
    assert request[:7] == ("g-0", 42, "g-0", 0, 7, 0.5, NOW_MS)
    assert 0 < request.deadline_ms - time.time() * 1000 <= 1000


def test_calls_of_a_listener_are_one_session_until_the_last(gateway: FakeGateway) -> None:
    tell(gateway, ("next", 1, 7), ("next", 2, 7), ("next", 1, 8), ("last", 1, 9), ("next", 1, 7))
    told = [
        (listen.user, listen.session_id, listen.position, listen.ended_session) for listen in gateway.exchange.listens
    ]
    assert told == [
        (1, "g-0", 0, False),
        (2, "g-1", 0, False),
        (1, "g-0", 1, False),
        (1, "g-0", 2, True),
        (1, "g-4", 0, False),
    ]


def test_a_listen_says_what_led_to_it(gateway: FakeGateway) -> None:
    tell(gateway, ("next", 1, 7), ("last", 1, 8))
    last = gateway.exchange.listens[-1]
    assert (last.recommender, last.treatments, last.propensity, last.policy, last.candidates) == (
        "next",
        {"A": "T1"},
        0.5,
        "greedy",
        9,
    )
    assert last.latency_ms is not None
    assert last.latency_ms >= 0


def test_a_track_of_the_listeners_own_choice_was_led_to_by_nobody(gateway: FakeGateway) -> None:
    tell(gateway, ("next", 1, 7), ("next", 1, 3))
    assert gateway.exchange.listens[-1].recommender is None
    assert gateway.exchange.listens[-1].treatments == {}


def test_an_old_record_of_what_led_to_a_listen_is_left_out(gateway: FakeGateway) -> None:
    tell(gateway, ("next", 1, 7))
    gateway.sessions.led_by[1] = b"\0" * 8 + b"\0\xff\xff\xff\xffwritten by a newer gateway"
    tell(gateway, ("next", 1, 8))
    assert gateway.exchange.listens[-1].recommender is None


def test_without_an_answer_a_popular_track_serves_and_is_named(gateway: FakeGateway) -> None:
    gateway.exchange.silent = True
    (answer,) = tell(gateway, ("next", 1, 7))
    assert answer is not None
    assert answer.fallback
    assert answer.track in POPULAR
    tell(gateway, ("last", 1, answer.track))
    last = gateway.exchange.listens[-1]
    assert (last.recommender, last.propensity, last.treatments) == ("gateway-popular", 0.5, {"A": "C"})


def test_without_an_answer_and_anything_popular_the_client_comes_again(gateway: FakeGateway) -> None:
    gateway.exchange.silent, gateway.popular = True, []
    with pytest.raises(UnavailableError, match="nothing is popular yet"):
        tell(gateway, ("next", 1, 7))


def test_an_unknown_track_is_not_told(gateway: FakeGateway) -> None:
    with pytest.raises(UnknownTrackError, match="no track 20"):
        tell(gateway, ("next", 1, TRACKS))
    assert gateway.exchange.listens == []
    assert gateway.sessions.open == {}


def test_a_track_that_is_new_is_found(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.catalogue.added = {track.track: track for track in make_tracks(1, first=TRACKS)}
    monkeypatch.setattr(known_tracks, "LOOK_AGAIN_S", 0.0)
    tell(gateway, ("next", 1, TRACKS))
    assert gateway.exchange.listens[-1].track == TRACKS


def test_the_catalogue_is_not_read_for_each_unknown_track(gateway: FakeGateway) -> None:
    for _ in range(50):
        with pytest.raises(UnknownTrackError):
            tell(gateway, ("next", 1, TRACKS))
    assert gateway.catalogue.looks == 0


def test_a_recommendation_that_cannot_be_kept_is_given_all_the_same(gateway: FakeGateway) -> None:
    async def fail(*_: object) -> None:
        raise UnavailableError("Redis does not answer")

    gateway.sessions.remember = fail  # type: ignore[method-assign]
    assert tell(gateway, ("next", 42, 7)) == [Answer(8, fallback=False)]
