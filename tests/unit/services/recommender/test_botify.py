"""Invariant: `botify` answers a session by one head, as often as the listens tell, and says with what probability."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from botify.services.recommender.botify import Botify
from botify.services.recommender.protocol import NO_ANSWER, Answers, Batch, Ranking
from tests.unit.services.recommender.recommending import batch_of_listeners

VALUE, CHOICE = 10, 30  # the tracks of the two heads


class Head:
    """Always the same track, with a propensity of a half; none for listeners of an even number if it `misses` them."""

    fallback = None

    def __init__(self, name: str, track: int, *, misses: bool = False) -> None:
        self.name, self._track, self._misses = name, track, misses

    def _tracks(self, batch: Batch) -> np.ndarray:
        users = np.array([request.user for request in batch.requests])
        return np.where(self._misses & (users % 2 == 0), NO_ANSWER, self._track)

    def recommend(self, batch: Batch) -> Answers:
        tracks = self._tracks(batch)
        return Answers(tracks, np.where(tracks == NO_ANSWER, 0.0, 0.5), np.full(len(batch), 7))

    def rank(self, batch: Batch, k: int) -> Ranking:
        return Ranking(np.tile(self._tracks(batch)[:, None], (1, k)), np.full((len(batch), k), float(self._track)))

    def because(self, batch: Batch, tracks: np.ndarray) -> np.ndarray:
        return np.full(len(tracks), self._track)


def botify(by_value: float, *, misses: bool = False) -> Botify:
    factors: Any = SimpleNamespace(by_value=by_value)
    heads = [Head("rerank", VALUE), Head("next_track", CHOICE, misses=misses)]
    return Botify({head.name: head for head in heads}, lambda: factors)


def test_a_session_keeps_its_head_and_the_propensity_is_that_of_both_draws() -> None:
    requests = batch_of_listeners(2_000).requests
    again = [request._replace(request_id=f"another {request.request_id}") for request in requests]
    answers = botify(0.25).recommend(Batch.of([*requests, *again], [None] * 4_000))
    assert answers.tracks[:2_000].tolist() == answers.tracks[2_000:].tolist()
    by_value = answers.tracks == VALUE
    assert by_value.mean() == pytest.approx(0.25, abs=0.04)
    assert answers.propensities == pytest.approx(np.where(by_value, 0.125, 0.375))
    assert answers.candidates is not None
    assert set(answers.candidates.tolist()) == {7}


@pytest.mark.parametrize(("by_value", "track"), [(1.0, VALUE), (0.0, CHOICE)])
def test_where_all_listens_tell_the_same_the_other_head_is_not_asked(by_value: float, track: int) -> None:
    answers = botify(by_value).recommend(batch_of_listeners(500))
    assert set(answers.tracks.tolist()) == {track}
    assert set(answers.propensities.tolist()) == {0.5}


@pytest.mark.parametrize("factors", [None, SimpleNamespace(by_value=None)])
def test_while_listens_tell_nothing_a_track_is_chosen_by_value_and_a_list_by_choice(factors: Any) -> None:
    heads = {head.name: head for head in (Head("rerank", VALUE), Head("next_track", CHOICE))}
    recommender, batch = Botify(heads, lambda: factors), batch_of_listeners(50)
    assert set(recommender.recommend(batch).tracks.tolist()) == {VALUE}
    assert set(recommender.rank(batch, 2).tracks[:, 0].tolist()) == {CHOICE}
    assert recommender.because(batch, np.array([1])).tolist() == [CHOICE]


def test_where_the_head_of_choice_has_no_answer_the_other_one_has() -> None:
    recommender, batch = botify(0.25, misses=True), batch_of_listeners(400)
    answers, ranking = recommender.recommend(batch), recommender.rank(batch, 3)
    by_choice = botify(0.25).recommend(batch).tracks == CHOICE
    even = np.arange(400) % 2 == 0
    assert answers.tracks.tolist() == np.where(by_choice & ~even, CHOICE, VALUE).tolist()
    assert answers.propensities == pytest.approx(np.where(by_choice, 0.375, 0.125))
    assert (ranking.tracks == answers.tracks[:, None]).all()
    assert (ranking.scores == answers.tracks[:, None]).all()


def test_the_head_of_the_session_says_why() -> None:
    batch, recommender = batch_of_listeners(40), botify(0.5)
    for row, track in enumerate(recommender.recommend(batch).tracks.tolist()):
        assert recommender.because(batch.select(np.array([row])), np.array([1, 2])).tolist() == [track, track]
