"""The loops of `next_track` against what they stand for: sums over pairs of events, and gradients of two losses."""

from collections import defaultdict
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from botify.streams.learner.models import next_track_gradients as gradients
from botify.streams.learner.models import next_track_kernels as kernels
from botify.streams.learner.models import next_track_state as constants
from botify.streams.learner.models.next_track import NextTrack, NextTrackSettings

SETTINGS = NextTrackSettings(neighbours=64, lags=6, anchors=8)
USERS, TRACKS, EVENTS = 8, 30, 400  # fewer tracks than neighbours, so that none is evicted, and no decay yet


class Learned:
    """A model after `EVENTS` events, one more that is to come, and what the model is made of."""

    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        self.users, self.tracks = rng.integers(0, USERS, EVENTS), rng.zipf(1.3, EVENTS) % TRACKS
        self.values = rng.choice(np.array([0.0, 0.3, 0.8, 1.0], dtype=np.float32), EVENTS)
        self.times = np.cumsum(rng.choice([1_000, 400_000], EVENTS)) + 1
        self.model = NextTrack(SETTINGS, seed=3)
        self.model.learn(self.users, self.tracks, self.values, self.times)
        self.state, self.scratch, self.cells = self.model._state, self.model._scratch, self.model._cells()
        self.user = int(self.users[-1])
        self.now_ms = int(self.times[-1]) + 1_000
        self.row_of = {int(track): row for row, track in enumerate(self.model.arrays()["item_ids"])}

    def history(self, user: int) -> Iterator[tuple[int, float, int]]:
        """Yield rows, values and times of a user's events, newest first."""
        for at in np.flatnonzero(self.users == user)[::-1].tolist():
            yield self.row_of[int(self.tracks[at])], float(self.values[at]), int(self.times[at])

    def candidates(self, *, exclude: bool = False) -> tuple[int, int]:
        """Describe what may follow the user's history; return the length of that, and the number of candidates."""
        known = kernels._recall(self.state, self.model._users.rows_of(np.array([self.user]))[0], self.now_ms, 4096,
                                self.scratch)  # fmt: skip
        if exclude:
            kernels._exclude(self.scratch, known)
        return known, kernels._candidates(self.state, known, self.cells, self.scratch)

    def clear(self, known: int, found: int) -> None:
        kernels._clear(self.scratch, found, known)


@pytest.fixture
def learned() -> Learned:
    return Learned()


def links_of(learned: Learned) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Return the weights of each pair of rows: forward, backward, wide."""
    links: defaultdict[tuple[int, int], NDArray[np.float64]] = defaultdict(lambda: np.zeros(3))
    for at in range(EVENTS):
        item, value = learned.row_of[int(learned.tracks[at])], float(learned.values[at])
        before = np.flatnonzero(learned.users[:at] == learned.users[at])[::-1][: SETTINGS.lags]
        for lag, event in enumerate(before.tolist(), 1):
            other, both = learned.row_of[int(learned.tracks[event])], value * float(learned.values[event])
            if both > 0 and other != item:
                links[other, item] += both * np.array([lag**-SETTINGS.near_lag, 0, lag**-SETTINGS.wide_lag])
                links[item, other] += both * np.array([0, lag**-SETTINGS.near_lag, lag**-SETTINGS.wide_lag])
    return links


def test_a_link_is_the_sum_over_its_pairs_of_events(learned: Learned) -> None:
    neighbours, weights = learned.state.neighbours, learned.state.weights
    at, column = np.nonzero(neighbours >= 0)
    found = dict(zip(zip(at.tolist(), neighbours[at, column].tolist(), strict=True), weights[at, column], strict=True))
    expected = links_of(learned)
    assert found.keys() == expected.keys()
    for pair, weight in expected.items():
        np.testing.assert_allclose(found[pair], weight, rtol=1e-5)


def test_a_candidate_has_the_sums_over_the_history(learned: Learned) -> None:
    links, plays = links_of(learned), learned.state.plays
    heard = list(learned.history(learned.user))
    times, session = [learned.now_ms, *(time for _, _, time in heard)], 0
    while session < len(heard) and times[session] - times[session + 1] <= 1_800_000:
        session += 1
    liked = [(at, row, value) for at, (row, value, _) in enumerate(heard) if value > 0]
    known, found = learned.candidates()
    for place in range(found):
        item, expected = int(learned.scratch.candidates[place]), np.zeros(learned.scratch.sums.shape[1])
        for rank, (at, row, value) in enumerate(liked[: SETTINGS.anchors], 1):
            forward, backward, wide = links.get((row, item), np.zeros(3))
            if not wide:
                continue
            root = (plays[row] + 2) ** -0.5
            near_share, wide_share = value * rank**-SETTINGS.near_rank * root, value * rank**-SETTINGS.wide_rank * root
            expected[:4] += near_share * forward, near_share * backward, wide_share * wide, wide_share * root * wide
            expected[4] = max(expected[4], root * wide)
            expected[5] += 1
            expected[6] += root * forward * (rank == 1)
            expected[7] += root * (forward + backward) * (rank <= 3)
            expected[constants.SESSION] += wide_share * wide * (at < session)
        skipped = [
            (at, row, 1 - value / 0.5) for at, (row, value, _) in enumerate(heard[: SETTINGS.anchors]) if value < 0.5
        ]
        for at, row, missed in skipped:
            forward, backward, wide = links.get((row, item), np.zeros(3))
            root = missed * (plays[row] + 2) ** -0.5
            expected[constants.SKIPS_NEAR] += root * (at + 1) ** -SETTINGS.near_rank * (forward + backward)
            expected[constants.SKIPS_WIDE] += root * (at + 1) ** -SETTINGS.wide_rank * wide
        own = [(rank, at, value) for rank, (at, row, value) in enumerate(liked) if row == item]
        if own:
            expected[constants.OWN_LATE] = sum(value * 0.5 ** (at / constants.OWN_HALF_LIFE) for _, at, value in own)
            expected[constants.OWN], expected[constants.OWN_RANK] = sum(value for _, _, value in own), own[0][0]
        np.testing.assert_allclose(learned.scratch.sums[place], expected, rtol=1e-4, atol=1e-6)
    learned.clear(known, found)
    assert 0 < session < len(heard)
    assert skipped


def test_what_is_excluded_is_no_candidate(learned: Learned) -> None:
    known, found = learned.candidates(exclude=True)
    assert found
    assert not np.isin(learned.scratch.candidates[:found], learned.scratch.items[:known]).any()
    learned.clear(known, found)
    assert (learned.scratch.place_of[:-1] == -1).all()


def test_liked_items_describe_a_history_by_rank_and_alike(learned: Learned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "cells", learned.cells._replace(evenly=np.ones(3, dtype=np.float32)))
    known, found = learned.candidates()
    kernels._describe(learned.state, found, known, learned.cells, learned.scratch)
    liked = [(row, value) for row, value, _ in learned.history(learned.user) if value > 0]
    vectors = np.array([value * learned.state.inputs[row] for row, value in liked], dtype=np.float64)
    outputs = learned.state.outputs[learned.scratch.candidates[:found]].astype(np.float64)
    by_rank = np.arange(1, len(liked) + 1) ** -constants.VECTOR_RANK @ vectors
    for feature, history in (
        (constants.VECTOR, by_rank),
        (constants.LONG_VECTOR, vectors[:3].sum(axis=0) / np.sqrt(3)),
    ):
        described = learned.scratch.features[feature, :found]
        np.testing.assert_allclose(described, outputs @ history, rtol=1e-4, atol=1e-5)
    learned.clear(known, found)
    assert 3 < len(liked) < constants.VECTOR_ITEMS


def slope_of(loss: Callable[[], float], weights: NDArray[np.floating], at: tuple[int, ...], step: float) -> float:
    kept, losses = weights[at], []
    for moved in (kept + step, kept - step):
        weights[at] = moved
        losses.append(loss())
    weights[at] = kept
    return (losses[0] - losses[1]) / (2 * step)


def test_the_stacker_follows_the_gradient(learned: Learned) -> None:
    state, scratch = learned.state, learned.scratch
    target = int(learned.row_of[int(learned.tracks[0])])

    def errors() -> tuple[int, int]:
        known, found = learned.candidates()
        gradients.score(state, known, found, scratch)
        gradients.errors(scratch.place_of[target], found, 1.0, scratch)
        return known, found

    def loss() -> float:
        known, found = errors()
        chance = 1.0 + float(scratch.errors[scratch.place_of[target]])
        learned.clear(known, found)
        return -float(np.log(chance))

    chosen = {
        "stacker": [(0, 0), (0, 8), (4, 2)], "hidden": [(2, 3), (8, 5), (17, 1), (len(state.hidden) - 1, 7)],
        "output": [(2,), (9,)],
    }  # fmt: skip
    expected = {
        (name, at): slope_of(loss, getattr(state, name), at, 1e-2) for name, places in chosen.items() for at in places
    }
    before = {name: getattr(state, name).copy() for name in chosen}
    known, found = errors()
    gradients.step(state, gradients.group_of(known), found, 0.1, scratch)
    gradients.step_hidden(state, gradients.context_of(known), found, np.float32(0.1), scratch)
    learned.clear(known, found)
    assert gradients.group_of(known) == 4
    squares = {"stacker": "squares", "hidden": "hidden_squares", "output": "output_squares"}
    for (name, at), slope in expected.items():
        start = constants.ADAGRAD_START if name == "stacker" else constants.ADAGRAD_START_HIDDEN
        moved = float(before[name][at] - getattr(state, name)[at]) / 0.1
        found_slope = moved * float(np.sqrt(start + getattr(state, squares[name])[at]))
        assert found_slope == pytest.approx(slope, rel=0.05, abs=2e-3), (name, at)


def test_vectors_follow_the_gradient(learned: Learned) -> None:
    state, scratch, cells = learned.state, learned.scratch, learned.cells
    item = int(learned.row_of[int(learned.tracks[0])])
    known, found = learned.candidates()
    learned.clear(known, found)
    drawn = scratch.drawn[: gradients._draw(state, item, cells, scratch)].copy()
    positive = [(row, value) for row, value, _ in learned.history(learned.user) if value > 0][: constants.VECTOR_ITEMS]
    heard, liked = map(list, zip(*positive, strict=True))

    def loss() -> float:
        ranks = np.arange(1, len(heard) + 1) ** -constants.VECTOR_RANK * np.array(liked)
        scores = state.outputs[drawn].astype(np.float64) @ (ranks @ state.inputs[heard].astype(np.float64))
        return float(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[0])

    # of rows that are there once: a step of a row that is drawn twice comes after the other
    once = next(int(row) for row in drawn[1:] if (drawn == row).sum() == 1)
    first = next(row for row in heard if heard.count(row) == 1)
    places = [("outputs", once, 1), ("outputs", item, 0), ("inputs", first, 0)]
    expected = {place: slope_of(loss, getattr(state, place[0]), (place[1], 5), 1e-2) for place in places}
    before = {name: getattr(state, name).copy() for name in ("outputs", "inputs")}
    gradients.learn_vectors(state, item, np.float32(1.0), known, cells, scratch)
    for (name, row, _), slope in expected.items():
        sums = state.vector_squares[row, 1 if name == "outputs" else 0]
        moved = float(before[name][row, 5] - getattr(state, name)[row, 5]) / SETTINGS.vector_rate
        assert moved * float(np.sqrt(constants.VECTOR_START + sums)) == pytest.approx(slope, rel=0.02, abs=1e-4), name
    assert any(abs(slope) > 1e-3 for slope in expected.values())
