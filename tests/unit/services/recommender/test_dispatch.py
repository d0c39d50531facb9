"""Invariant: a recommender that raises costs nobody an answer but itself."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from botify.core.keyed_random import integers
from botify.schemas.codec import Codec
from botify.schemas.track_table import TrackTable
from botify.services.errors import RecommenderError
from botify.services.recommender import dispatch
from botify.services.recommender.baselines import RandomTracks, TopPop
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import (
    FAILURES_IN_A_ROW,
    LEFT_OUT_S,
    LOG_EVERY_S,
    Guards,
    LiveRecommenders,
    answer,
    asked_policy,
    check_chains,
)
from botify.services.recommender.protocol import NO_ANSWER, Answers, Batch, RandomStream, Recommender, rank
from tests.support import Clock, make_tracks
from tests.unit.services.recommender.recommending import (
    NO_INPUTS,
    batch_of,
    batch_of_listeners,
    recommenders_of,
    request_of,
)

CATALOGUE = Catalogue(make_tracks(50))
SOURCES = replace(NO_INPUTS, top=lambda: np.arange(3))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guards(clock: Clock) -> Guards:
    return Guards(clock)


def made(guards: Guards) -> dict[str, Recommender]:
    return recommenders_of(CATALOGUE, SOURCES, guards)


def who_answers_for_toppop(recommenders: dict[str, Recommender]) -> str:
    one, other = answer(batch_of_listeners(2), ["toppop"] * 2, recommenders).recommenders
    assert one == other
    return one


def broken(*_: object) -> Answers:
    raise AttributeError("'NoneType' object has no attribute 'tracks'")


def test_who_raises_is_stood_in_for_and_all_others_answer_themselves(
    guards: Guards, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TopPop, "recommend", broken)
    wanted = ["toppop", "sticky_artist"] * 10
    answered = answer(batch_of_listeners(20), wanted, made(guards))
    assert answered.recommenders == ["random", "sticky_artist"] * 10
    assert answered.asked(wanted) == [("toppop", True), ("sticky_artist", False)] * 10
    assert {name: one.failures for name, one in guards.breakers.items() if one.failures} == {"toppop": 1}


def test_one_that_mixes_several_is_named_with_its_choice(guards: Guards) -> None:
    wanted, batch = ["sticky_artist_mixed"] * 20, batch_of_listeners(20)
    bored = [one._replace(fraction=0.1 if at % 2 else 1.0) for at, one in enumerate(batch.requests)]
    answered = answer(replace(batch, requests=bored), wanted, made(guards))
    assert answered.policies == ["sticky_artist", "random"] * 10
    assert answered.asked(wanted) == [(f"sticky_artist_mixed/{policy}", False) for policy in answered.policies]


def test_a_choice_that_another_one_substituted_for_is_named_by_what_was_chosen() -> None:
    assert asked_policy("mine", "mine", "rerank/random") == ("mine/rerank", True)


@pytest.mark.parametrize(
    "answers",
    [
        Answers(np.arange(3), np.ones(4)),
        Answers(np.arange(4), np.ones(3)),
        Answers(np.arange(4.0), np.ones(4)),
        Answers(np.arange(4), np.full(4, np.nan)),
        Answers(np.arange(4), np.ones(4), policies=["a"]),
        None,
    ],
)
def test_answers_that_do_not_fit_the_requests_are_a_failure(
    guards: Guards, monkeypatch: pytest.MonkeyPatch, answers: Answers
) -> None:
    monkeypatch.setattr(TopPop, "recommend", lambda *_: answers)
    assert answer(batch_of_listeners(4), ["toppop"] * 4, made(guards)).recommenders == ["random"] * 4
    assert guards.breakers["toppop"].failures == 1


def test_who_goes_on_raising_is_left_out_for_a_while_and_tried_again(
    guards: Guards, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    with monkeypatch.context() as patched:
        patched.setattr(TopPop, "recommend", lambda *_: calls.append(clock.now_s) or broken())
        for _ in range(3 * FAILURES_IN_A_ROW):
            recommenders = made(guards)  # a catalogue that grows forgives nothing
            assert who_answers_for_toppop(recommenders) == "random"
        assert len(calls) == FAILURES_IN_A_ROW
        clock.now_s = LEFT_OUT_S
        assert [who_answers_for_toppop(recommenders) for _ in range(2)] == ["random"] * 2
        assert len(calls) == FAILURES_IN_A_ROW + 1  # one call was tried
    clock.now_s += LEFT_OUT_S
    assert not guards.breakers["toppop"].left_out
    assert who_answers_for_toppop(recommenders) == "toppop"


def test_now_and_then_a_failure_leaves_nobody_out(guards: Guards, monkeypatch: pytest.MonkeyPatch) -> None:
    recommenders = made(guards)
    for _ in range(2 * FAILURES_IN_A_ROW):
        with monkeypatch.context() as patched:
            patched.setattr(TopPop, "recommend", broken)
            assert who_answers_for_toppop(recommenders) == "random"
        assert who_answers_for_toppop(recommenders) == "toppop"


def test_the_traceback_is_logged_once_a_minute(
    guards: Guards, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(TopPop, "recommend", broken)
    with caplog.at_level(logging.ERROR):
        for clock.now_s in (0.0, 1.0, 2.0, LOG_EVERY_S + 1):
            who_answers_for_toppop(made(guards))
    assert [record.getMessage().partition(" (")[2][:7] for record in caplog.records] == ["1 times", "3 times"]
    assert all(record.exc_info[0] is AttributeError for record in caplog.records)


def test_a_list_is_the_recommenders_own_or_that_of_the_first_fallback_that_has_one(guards: Guards) -> None:
    wanted, batch = ["toppop", "sticky_artist", "toppop", "random", "toppop"], batch_of_listeners(5)
    sizes = zip(batch.requests, [2, 4, None, 60, 5], strict=True)
    requests = [one._replace(list_size=size) for one, size in sizes]
    answered = answer(replace(batch, requests=requests), wanted, made(guards))
    lists = answered.rankings
    assert (lists[0], lists[2], lists[4]) == ([0, 1], None, [0, 1, 2])
    assert [len(lists[row] or ()) for row in (1, 3)] == [4, 50], "an artist has five tracks, and the catalogue 50"
    assert answered.recommenders == wanted
    assert [answered.tracks[row] for row in (0, 1, 3, 4)] == [lists[row][0] for row in (0, 1, 3, 4)]
    assert answered.propensities[[0, 1, 3, 4]].tolist() == [1.0] * 4


def test_the_list_of_one_that_only_draws_is_its_different_draws() -> None:
    def drawn(k: int) -> list[int]:
        ranking = rank(Drawing(), batch_of_listeners(1), k)
        assert np.isneginf(ranking.scores).tolist() == (ranking.tracks == NO_ANSWER).tolist()
        return ranking.tracks[0].tolist()

    class Drawing:
        name, fallback = "drawing", None

        def recommend(self, batch: Batch) -> Answers:
            drawn = 10 + integers(batch.keys, RandomStream.RANDOM, 6)
            return Answers(np.where(drawn == 15, NO_ANSWER, drawn), np.full(len(batch), 1 / 6))

    listed = drawn(60)
    assert sorted(listed) == [NO_ANSWER] * 55 + [10, 11, 12, 13, 14]
    assert drawn(60) == listed, "the same request gets the same list"
    assert rank(Drawing(), batch_of_listeners(1), 1).tracks[0, 0] in {listed[0], NO_ANSWER}


class Fixed:
    """Answers requests for some tracks, always with one track."""

    def __init__(self, name: str, fallback: str | None, track: int, knows: set[int]) -> None:
        self.name, self.fallback, self._track, self._knows = name, fallback, track, knows
        self.batches: list[int] = []

    def recommend(self, batch: Batch) -> Answers:
        self.batches.append(len(batch))
        known = np.array([track in self._knows for track in batch.tracks.tolist()], dtype=bool)
        policies = [f"{self.name}'s" if here else "" for here in known.tolist()] if self.name == "first" else None
        candidates = np.full(len(batch), self._track) if self.name != "third" else None
        return Answers(np.where(known, self._track, NO_ANSWER), np.where(known, 0.5, 0.0), candidates, policies)


def test_who_cannot_answer_hands_on_along_the_chain() -> None:
    first, second = Fixed("first", "second", 1, {10}), Fixed("second", "third", 2, {10, 20})
    third, other = Fixed("third", None, 3, {10, 20, 30}), Fixed("other", None, 4, {10, 20, 30})
    answered = answer(
        Batch.of([request_of(track) for track in (30, 10, 20, 40, 10)], [None] * 5),
        [*["first"] * 4, "other"],
        {recommender.name: recommender for recommender in (first, second, third, other)},
    )
    assert answered.tracks.tolist() == [3, 1, 2, NO_ANSWER, 4]
    assert answered.recommenders == ["third", "first", "second", "", "other"]
    assert answered.propensities.tolist() == [0.5, 0.5, 0.5, 0.0, 0.5]
    assert answered.policies == [None, "first's", None, None, None]
    assert answered.candidates == [None, 1, 2, None, 4]
    assert [one.batches for one in (first, second, third, other)] == [[4], [3], [2], [1]]


@pytest.mark.parametrize(
    ("fallbacks", "chain"),
    [({"a": "b", "b": "a"}, "a → b → a"), ({"a": "a"}, "a → a"), ({"a": None, "b": "nobody"}, "b → nobody")],
)
def test_chains_that_do_not_end_are_named(fallbacks: dict[str, str | None], chain: str) -> None:
    recommenders = {name: Fixed(name, fallback, 1, set()) for name, fallback in fallbacks.items()}
    with pytest.raises(RecommenderError, match=f"the fallback chain {chain} does not end"):
        check_chains(recommenders)


CODEC = Codec()
TRACKS = make_tracks(10)


class World:
    """A clock, the catalogue's topic, and recommenders that take their time."""

    def __init__(self, build_s: float = 0.0) -> None:
        self.now_s, self.build_s = 0.0, build_s
        self.tracks = TrackTable(CODEC)
        self.arriving, self.built, self.is_broken = list(TRACKS), 0, False

    def take_arrived(self) -> int:
        some, self.arriving = self.arriving, []
        self.tracks.add(some, [CODEC.encode(track) for track in some])
        return len(some)

    refresh = take_arrived

    def build(self, catalogue: Catalogue) -> list[Any]:
        self.built += 1
        self.now_s += self.build_s
        if self.is_broken:
            raise ValueError("broken")
        return [TopPop(lambda: np.array([3, 4])), RandomTracks(catalogue)]

    def answers(self, live: LiveRecommenders) -> set[int]:
        return set(live.answer(batch_of(200, 1, 1.0), ["toppop"] * 200).tracks.tolist())

    def ranking(self, live: LiveRecommenders) -> list[int] | None:
        return live.answer(Batch.of([request_of(1, list_size=2)], [None]), ["toppop"]).rankings[0]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> World:
    made = World(getattr(request, "param", 0.0))
    monkeypatch.setattr(dispatch.time, "monotonic", lambda: made.now_s)
    return made


@pytest.mark.parametrize("world", [0.0, 5.0], indirect=True)
def test_a_deleted_track_is_not_answered_two_seconds_later(world: World) -> None:
    live = LiveRecommenders(world, world.build, lambda *_: None)  # type: ignore[arg-type]
    world.now_s += 2
    assert (world.answers(live), world.ranking(live)) == ({3, 4}, [3, 4])
    world.arriving = [TRACKS[3]._replace(deleted=True), TRACKS[3]._replace(track=99)]
    world.now_s += 2
    answers = world.answers(live)
    assert {4, 5, 9} < answers, "popularity still names it, so its fallback answers"
    assert (3 in answers, world.ranking(live)) == (False, [4])
    world.arriving = [TRACKS[3]]  # is put again
    world.now_s += 2
    assert 3 in world.answers(live)


@pytest.mark.parametrize("world", [1.0], indirect=True)
def test_a_large_catalogue_that_keeps_changing_is_rebuilt_in_a_tenth_of_the_time(world: World) -> None:
    live = LiveRecommenders(world, world.build, lambda *_: None)  # type: ignore[arg-type]
    for number in range(100, 200):
        world.now_s += 1.01
        world.arriving = make_tracks(1, first=number)
        world.answers(live)
    assert 10 <= world.built <= 13
    assert len(live.catalogue) > 90
    world.arriving, before = make_tracks(1, first=200), world.built
    world.now_s += 0.3
    live.answer(batch_of(1, 200, 1.0), ["random"])
    assert world.built == before + 1, "a track that is missed is served at once"


def test_a_catalogue_for_which_nothing_can_be_built_is_tried_again_later(world: World) -> None:
    live = LiveRecommenders(world, world.build, lambda *_: None)  # type: ignore[arg-type]
    world.is_broken, world.arriving = True, make_tracks(1, first=100)
    for _ in range(19):
        world.now_s += 1.01
        assert world.answers(live) == {3, 4}
    assert world.built == 3
    world.is_broken = False
    world.now_s += 10
    world.answers(live)
    assert len(live.catalogue) == 11
