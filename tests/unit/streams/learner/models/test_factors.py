"""How the factors learn: the compiled loop against a plain statement of it, one listen at a time in float64."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from botify.schemas.events import Track
from botify.schemas.track_columns import LABELS, UNKNOWN, labels_of
from botify.schemas.training import TrainingColumns
from botify.streams.learner.models import factors
from botify.streams.learner.models.factors import (
    ARTIST_RATE,
    BIAS,
    DECAY,
    FIRST_SQUARES,
    GENRE_RATE,
    LEAST_KEPT,
    MATCH_RATE,
    MOST_LISTENS,
    RATE,
    REPEAT_RATE,
    SQUARES,
    FactorModel,
)
from botify.streams.learner.models.tables import unpack
from botify.streams.learner.models.taste import INDIFFERENT, MOST_EARLIER, user_biases

TRACKS, ARTISTS, GENRES = 60, 12, 4
CATALOGUE = {
    id_: Track(id_, f"a{id_ % ARTISTS}", None, f"g{id_ % GENRES}", "x", mood=f"m{id_ % 5}", year=1990 + id_ % 9)
    for id_ in range(TRACKS)
}


def listens_of(count: int, seed: int, users: int = 8) -> TrainingColumns:
    rng = np.random.default_rng(seed)
    ended = rng.random(count) < 0.1
    sessions = np.cumsum(rng.random(count) < 0.02).astype(np.uint64)  # some begin without an end
    numbers = np.arange(count)
    tracks, fractions = rng.integers(0, TRACKS, count).astype(np.int32), rng.random(count, dtype=np.float32)
    whose, served = rng.integers(0, users, count), rng.random(count) < 0.5
    fractions[rng.random(count) < 0.2] = 1
    return TrainingColumns(numbers.astype(np.uint32), whose, tracks, fractions, numbers, sessions, ended, served)


class Plain:
    """The rules of `factors`, as its docstring says them; rows of parts are vector, bias, sum of squares."""

    def __init__(self) -> None:
        first = {"tracks": factors._new_tracks, "artists": factors._new_artists, "genres": factors._new_genres}
        self.parts: dict[str, dict[Any, np.ndarray]] = {name: {} for name in first}
        self._first = first
        self.kept = np.tile([1.0, FIRST_SQUARES], (MOST_EARLIER + 1, 1))
        self.matches = np.tile([factors.FIRST_MATCH, FIRST_SQUARES], (len(LABELS), 1))
        self.told = np.zeros(2)
        self._labels = dict(zip(CATALOGUE, labels_of(CATALOGUE.values()), strict=True))
        self._open: dict[int, Any] = {}

    def learn(self, listens: TrainingColumns) -> None:
        names = ("users", "tracks", "fractions", "sessions", "ended", "served")
        for user, track, fraction, session, ended, served in zip(
            *(getattr(listens, name).tolist() for name in names), strict=True
        ):
            if user not in self._open or self._open[user]["id"] != session:
                self._open[user] = defaultdict(list, id=session)
            if 0 < len(self._open[user]["tracks"]) < MOST_LISTENS:
                self.told += [served and fraction < 1, not served]
            self._hear(self._open[user], track, fraction)
            if ended:
                del self._open[user]

    def _rows(self, track: int) -> list[np.ndarray]:
        of = CATALOGUE[track]
        rows = []
        for name, key in (("tracks", track), ("artists", of.artist), ("genres", of.genre)):
            if key not in self.parts[name]:
                self.parts[name][key] = self._first[name]([key])[0].astype(np.float64)
            rows.append(self.parts[name][key])
        return rows

    def _hear(self, session: Any, track: int, fraction: float) -> None:
        n, whole = len(session["tracks"]), sum(row[:SQUARES] for row in self._rows(track))
        if n == MOST_LISTENS:
            return
        weight = 1.0
        if n:
            weight = self._learn(session, track, fraction, whole) - INDIFFERENT
        session["tracks"].append(track)
        session["weights"].append(weight)

    def _learn(self, session: Any, track: int, fraction: float, whole: np.ndarray) -> float:
        n, weights = len(session["tracks"]), np.array(session["weights"])
        vectors = [sum(row[:BIAS] for row in self._rows(other)) for other in session["tracks"]]
        taste = weights @ np.array(vectors) / n**0.5
        before, own = np.array([self._labels[other] for other in session["tracks"]]), self._labels[track]
        matches = weights @ ((before == own) & (own != UNKNOWN)) / n**0.5
        logit = whole[BIAS] + taste @ whole[:BIAS] + matches @ self.matches[:, 0]
        earlier = min(
            sum(CATALOGUE[other].artist == CATALOGUE[track].artist for other in session["tracks"]), MOST_EARLIER
        )
        kept = self.kept[earlier, 0]
        liking = min(fraction / kept, 1.0)
        bias = 0.0
        if session["logits"]:
            evidence = np.array(session["kept"])[None]
            bias = user_biases(np.array(session["logits"])[None], np.array(session["likings"])[None], evidence)[0, -1]
        predicted = expit(logit + bias)
        error = kept * (predicted - liking)
        for name, value in (("logits", logit), ("likings", liking), ("kept", kept)):
            session[name].append(value)
        self._descend(track, error * np.append(taste, 1) + DECAY * whole, 1.0)
        for other, weight in zip(session["tracks"], weights, strict=True):
            self._descend(other, np.append(error * whole[:BIAS] / n**0.5, 0), weight)
        if earlier:
            _descend_one(self.kept[earlier], error * predicted, REPEAT_RATE)
            self.kept[earlier, 0] = np.clip(self.kept[earlier, 0], LEAST_KEPT, 1)
        for number, match in zip(self.matches, matches, strict=True):
            _descend_one(number, error * match, MATCH_RATE)
        return liking

    def _descend(self, track: int, slope: np.ndarray, weight: float) -> None:
        for row, rate in zip(self._rows(track), (RATE, ARTIST_RATE, GENRE_RATE), strict=True):
            row[SQUARES] += weight**2 * (slope @ slope) / SQUARES
            row[:SQUARES] -= rate * weight * slope / row[SQUARES] ** 0.5


def _descend_one(number: np.ndarray, slope: float, rate: float) -> None:
    number[1] += slope**2
    number[0] -= rate * slope / number[1] ** 0.5


@pytest.mark.parametrize("ending", [True, False])
def test_the_compiled_loop_learns_what_the_rules_say(ending: bool) -> None:
    """With sessions longer than `MOST_LISTENS`, and before negative evidence is forgotten for the first time."""
    listens = listens_of(500, seed=1, users=8 if ending else 3)
    if not ending:
        listens.ended[:] = False
        listens.sessions[:] = 7
    model, plain = FactorModel(CATALOGUE), Plain()
    model.learn_listens(listens)
    plain.learn(listens)
    about, arrays = unpack(model.to_bytes())
    for name, keys in (("tracks", arrays["ids"].tolist()), ("artists", about["artists"]), ("genres", about["genres"])):
        assert keys == list(plain.parts[name])
        expected = np.array(list(plain.parts[name].values()))
        assert arrays[name] == pytest.approx(expected, abs=2e-4)
        assert np.abs(arrays[name] - [getattr(factors, f"_new_{name}")([key])[0] for key in keys]).max() > 0.05
    assert arrays["kept"] == pytest.approx(plain.kept, abs=1e-4)
    assert arrays["matches"] == pytest.approx(plain.matches, abs=1e-3)
    assert arrays["told"].tolist() == plain.told.tolist()
    assert factors.read_factors(model.snapshot()).by_value == pytest.approx(plain.told[0] / plain.told.sum())
    assert (arrays["kept"][1:4, 0] < 1).all()


def test_the_first_step_goes_down_the_gradient_of_the_loss() -> None:
    listens = listens_of(2, seed=3, users=1)
    listens.ended[:], listens.sessions[:] = False, 1
    first, second = listens.tracks.tolist()
    model = Plain()
    before = np.array([sum(row[:SQUARES] for row in model._rows(track)) for track in (first, second)])
    matches = (model._labels[first] == model._labels[second]) & (model._labels[first] != UNKNOWN)
    liking = listens.fractions[1]

    def loss(parts: np.ndarray) -> float:
        expected = expit(parts[1, BIAS] + parts[0, :BIAS] @ parts[1, :BIAS] + matches.sum())
        return -float(liking * np.log(expected) + (1 - liking) * np.log(1 - expected))

    rows = [row.copy() for row in (model._rows(first)[0], model._rows(second)[0])]
    model.learn(listens)
    for at, (old, new) in enumerate(zip(rows, (model._rows(first)[0], model._rows(second)[0]), strict=True)):
        slope = (old - new)[:SQUARES] * new[SQUARES] ** 0.5 / RATE - at * DECAY * before[1]
        for column in range(0, SQUARES, 7):
            up, down = before.copy(), before.copy()
            up[at, column] += 1e-5
            down[at, column] -= 1e-5
            assert slope[column] == pytest.approx((loss(up) - loss(down)) / 2e-5, abs=1e-5)


def test_of_too_many_open_sessions_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factors, "CLOSE_EVERY", factors.CHUNK)
    monkeypatch.setattr(factors, "MOST_SESSIONS", 80)
    model, listens = FactorModel(CATALOGUE), listens_of(factors.CHUNK, seed=2, users=200)
    listens.ended[:] = listens.users % 7 == 0
    model.learn_listens(listens)
    users, at = np.unique(listens.users[::-1], return_index=True)
    latest = users[np.argsort(at)].tolist()
    expected = [user for user in latest if user % 7][:70]
    _, arrays = unpack(model.to_bytes())
    assert sorted(arrays["users"][arrays["users"] >= 0].tolist()) == sorted(expected)
    assert (arrays["open_lengths"][arrays["users"] < 0] == 0).all()
