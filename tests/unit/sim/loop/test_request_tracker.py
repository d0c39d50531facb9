"""Requests find their answers, once."""

import numpy as np
import pytest

from botify.schemas.events import Recommendation, RecommendationRequest
from botify.sim.loop import LatencyHistogram
from botify.sim.loop.request_tracker import RequestTracker
from botify.sim.simulation import FinishedListens


@pytest.fixture
def talk() -> RequestTracker:
    return RequestTracker("run", slots=4, tracks=100, timeout_s=5.0)


def heard(positions: list[int], ended: list[bool] | None = None, on: list[int] | None = None) -> FinishedListens:
    slots = np.array(on or range(len(positions)))
    return FinishedListens(
        slots=slots,
        users=slots + 10,
        ordinals=np.zeros(len(slots), dtype=np.int64),
        positions=np.array(positions),
        tracks=slots + 50,
        fractions=np.full(len(slots), 0.25),
        time_ms=np.full(len(slots), 1000),
        ended=np.array(ended or [False] * len(slots)),
    )


def answer(request: RecommendationRequest, track: int = 7) -> Recommendation:
    return Recommendation(request.request_id, request.user, track, "mix", {"A": "T1"}, 0.5, 0, 1.0, 1000, "sticky", 9)


def test_a_listen_says_what_led_to_it_and_the_first_says_that_nothing_did(talk: RequestTracker) -> None:
    listens, requests = talk.tell(heard([0, 0]), now_s=1.0)
    assert [listen.recommender for listen in listens] == [None, None]
    assert [listen.event_id for listen in listens] == ["run-10-0-0", "run-11-0-0"]
    assert [listen.session_id for listen in listens] == ["run-10-0", "run-11-0"]
    answers = talk.match([answer(requests[1])], now_s=1.5)
    assert (answers.slots.tolist(), answers.tracks.tolist(), answers.latencies_ms.tolist()) == ([1], [7], [500.0])
    (listen,), (request,) = talk.tell(heard([1], on=[1]), now_s=2.0)
    assert listen[8:] == ("mix", {"A": "T1"}, 0.5, 500.0, "sticky", 9)
    assert request.request_id == listen.event_id == "run-11-0-1"
    assert (request.track, request.fraction, request.position) == (51, 0.25, 1)


def test_whoever_goes_away_asks_for_nothing(talk: RequestTracker) -> None:
    listens, requests = talk.tell(heard([5, 5], ended=[True, False]), now_s=0.0)
    assert [listen.ended_session for listen in listens] == [True, False]
    assert [request.user for request in requests] == [11]


def test_copies_late_and_foreign_answers_are_dropped(talk: RequestTracker) -> None:
    _, requests = talk.tell(heard([0]), now_s=0.0)
    foreign = answer(requests[0])._replace(request_id="other-10-0-0")
    answers = talk.match([foreign, answer(requests[0]), answer(requests[0], track=8)], now_s=0.1)
    assert answers.tracks.tolist() == [7]
    assert talk.dropped == 2


def test_an_answer_that_is_no_track_is_counted_and_the_request_stays_open(talk: RequestTracker) -> None:
    _, requests = talk.tell(heard([0]), now_s=0.0)
    assert len(talk.match([answer(requests[0], track=100), answer(requests[0], track=-1)], now_s=0.1).slots) == 0
    assert talk.unusable == 2
    assert talk.match([answer(requests[0])], now_s=0.2).slots.tolist() == [0]


def test_a_request_is_made_once_more_under_its_own_id_and_then_given_up(talk: RequestTracker) -> None:
    _, requests = talk.tell(heard([0, 0]), now_s=0.0)
    assert talk.overdue(np.arange(2), now_s=4.9)[0] == []
    talk.match([answer(requests[0])], now_s=4.9)
    again, given_up = talk.overdue(np.array([1]), now_s=5.1)
    assert ([request.request_id for request in again], given_up.tolist()) == ([requests[1].request_id], [])
    assert talk.overdue(np.array([1]), now_s=10.0)[1].tolist() == []
    again, given_up = talk.overdue(np.array([1]), now_s=10.2)
    assert (again, given_up.tolist()) == ([], [1])
    assert len(talk.match([answer(requests[1])], now_s=10.3).slots) == 0  # too late
    assert talk.dropped == 1


def test_the_second_request_of_a_listener_may_be_made_again_too(talk: RequestTracker) -> None:
    for position in (0, 1):
        _, requests = talk.tell(heard([position]), now_s=position * 100.0)
        again, given_up = talk.overdue(np.array([0]), now_s=position * 100.0 + 6)
        assert (len(again), len(given_up)) == (1, 0)
        talk.match([answer(requests[0])], now_s=position * 100.0 + 7)


def test_percentiles_are_exact_to_one_percent() -> None:
    latencies = np.random.default_rng(1).lognormal(2.0, 1.0, size=10_000)
    histogram = LatencyHistogram()
    for batch in np.split(latencies, 10):
        histogram.update(batch)
    for q in (1, 50, 90, 99, 99.9):
        exact = np.sort(latencies)[round(100 * q) - 1]
        assert histogram.percentile(q) == pytest.approx(exact, rel=0.01)
    assert histogram.count == 10_000
    assert LatencyHistogram().percentile(50) == 0.0
