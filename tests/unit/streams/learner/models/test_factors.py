"""How the factors learn: the compiled loop against a plain statement of it in float64, and what is learned."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from botify.schemas.events import Track
from botify.schemas.track_columns import LABELS, UNKNOWN, labels_of
from botify.schemas.training import TrainingColumns
from botify.streams.learner.models import factors
from botify.streams.learner.models.factors import BIAS, MOST_EARLIER, SQUARES, FactorModel, read_factors
from botify.streams.learner.models.scoring import user_biases
from botify.streams.learner.models.tables import unpack
from tests.learning import FinishedSession, learn_sessions, random_listens, random_sessions

TRACKS, ARTISTS, GENRES = 60, 12, 4
CATALOGUE = {
    id_: Track(id_, f"a{id_ % ARTISTS}", None, f"g{id_ % GENRES}", "x", mood=f"m{id_ % 5}", year=1990 + id_ % 9)
    for id_ in range(TRACKS)
}


class Plain:
    """The rules of `factors`, as its docstring says them; rows of parts are vector, bias, sum of squares."""

    def __init__(self) -> None:
        first = {"tracks": factors._new_tracks, "artists": factors._new_artists, "genres": factors._new_genres}
        self.parts: dict[str, dict[Any, np.ndarray]] = {name: {} for name in first}
        self._first = first
        self.kept = np.tile([1.0, factors.FIRST_SQUARES], (MOST_EARLIER + 1, 1))
        self.matches = np.tile([factors.FIRST_MATCH, factors.FIRST_SQUARES], (len(LABELS), 1))
        self.told = np.zeros(2)
        self._labels = dict(zip(CATALOGUE, labels_of(CATALOGUE.values()), strict=True))
        self._open: dict[int, Any] = {}

    def learn(self, listens: TrainingColumns) -> None:
        columns = (listens.users, listens.tracks, listens.fractions, listens.sessions, listens.ended, listens.served)
        for user, track, fraction, session, ended, served in zip(*(one.tolist() for one in columns), strict=True):
            if user not in self._open or self._open[user]["id"] != session:
                self._open[user] = defaultdict(list, id=session)
            if 0 < len(self._open[user]["tracks"]) < factors.MOST_LISTENS:
                self.told += [served and fraction < 1, not served]
            self._hear(self._open[user], track, fraction)
            if ended:
                del self._open[user]

    def _rows(self, track: int) -> list[np.ndarray]:
        keys = {"tracks": track, "artists": CATALOGUE[track].artist, "genres": CATALOGUE[track].genre}
        for name, key in keys.items():
            if key not in self.parts[name]:
                self.parts[name][key] = self._first[name]([key])[0].astype(np.float64)
        return [self.parts[name][key] for name, key in keys.items()]

    def _hear(self, session: Any, track: int, fraction: float) -> None:
        n, whole = len(session["tracks"]), sum(row[:SQUARES] for row in self._rows(track))
        if n == factors.MOST_LISTENS:
            return
        session["weights"].append(self._learn(session, track, fraction, whole) - factors.INDIFFERENT if n else 1.0)
        session["tracks"].append(track)

    def _learn(self, session: Any, track: int, fraction: float, whole: np.ndarray) -> float:
        n, weights = len(session["tracks"]), np.array(session["weights"])
        vectors = [sum(row[:BIAS] for row in self._rows(other)) for other in session["tracks"]]
        taste = weights @ np.array(vectors) / n**0.5
        before, own = np.array([self._labels[other] for other in session["tracks"]]), self._labels[track]
        matches = weights @ ((before == own) & (own != UNKNOWN)) / n**0.5
        logit = whole[BIAS] + taste @ whole[:BIAS] + matches @ self.matches[:, 0]
        of_artist = sum(CATALOGUE[other].artist == CATALOGUE[track].artist for other in session["tracks"])
        earlier = min(of_artist, MOST_EARLIER)
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
        self._descend(track, error * np.append(taste, 1) + factors.DECAY * whole, 1.0)
        for other, weight in zip(session["tracks"], weights, strict=True):
            self._descend(other, np.append(error * whole[:BIAS] / n**0.5, 0), weight)
        if earlier:
            _descend_one(self.kept[earlier], error * predicted, factors.REPEAT_RATE)
            self.kept[earlier, 0] = np.clip(self.kept[earlier, 0], factors.LEAST_KEPT, 1)
        for number, match in zip(self.matches, matches, strict=True):
            _descend_one(number, error * match, factors.MATCH_RATE)
        return liking

    def _descend(self, track: int, slope: np.ndarray, weight: float) -> None:
        for row, rate in zip(self._rows(track), (factors.RATE, factors.ARTIST_RATE, factors.GENRE_RATE), strict=True):
            row[SQUARES] += weight**2 * (slope @ slope) / SQUARES
            row[:SQUARES] -= rate * weight * slope / row[SQUARES] ** 0.5


def _descend_one(number: np.ndarray, slope: float, rate: float) -> None:
    number[1] += slope**2
    number[0] -= rate * slope / number[1] ** 0.5


@pytest.mark.parametrize("ending", [True, False])
def test_the_compiled_loop_learns_what_the_rules_say(ending: bool) -> None:
    """With sessions longer than `MOST_LISTENS`, and before negative evidence is forgotten for the first time."""
    listens = random_listens(500, seed=1, users=8 if ending else 3, tracks=TRACKS)
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
    assert read_factors(model.snapshot()).by_value == pytest.approx(plain.told[0] / plain.told.sum())
    assert (arrays["kept"][1:4, 0] < 1).all()


def test_the_first_step_goes_down_the_gradient_of_the_loss() -> None:
    listens = random_listens(2, seed=3, users=1, tracks=TRACKS)
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
        slope = (old - new)[:SQUARES] * new[SQUARES] ** 0.5 / factors.RATE - at * factors.DECAY * before[1]
        for column in range(0, SQUARES, 7):
            up, down = before.copy(), before.copy()
            up[at, column] += 1e-5
            down[at, column] -= 1e-5
            assert slope[column] == pytest.approx((loss(up) - loss(down)) / 2e-5, abs=1e-5)


def test_of_too_many_open_sessions_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factors, "CLOSE_EVERY", factors.CHUNK)
    monkeypatch.setattr(factors, "MOST_SESSIONS", 80)
    model, listens = FactorModel(CATALOGUE), random_listens(factors.CHUNK, seed=2, users=200, tracks=TRACKS)
    listens.ended[:] = listens.users % 7 == 0
    model.learn_listens(listens)
    users, at = np.unique(listens.users[::-1], return_index=True)
    latest = users[np.argsort(at)].tolist()
    expected = [user for user in latest if user % 7][:70]
    _, arrays = unpack(model.to_bytes())
    assert sorted(arrays["users"][arrays["users"] >= 0].tolist()) == sorted(expected)
    assert (arrays["open_lengths"][arrays["users"] < 0] == 0).all()


@pytest.mark.parametrize("share", [0.6, 0.9, 1.0])
def test_factors_learn_what_hearing_an_artist_again_leaves(share: float) -> None:
    """Every second track of a session is by one artist, the others by artists of their own; all are liked alike."""
    catalogue = {id_: Track(id_, "one" if id_ < 50 else f"a{id_}", None, None, "x") for id_ in range(100)}
    model, rng = FactorModel(catalogue), np.random.default_rng(3)
    fractions = np.full(10, 0.8, dtype=np.float32)
    fractions[1::2] *= share ** np.arange(5)
    tracks = np.stack([rng.integers(50, 100, (60 * 32, 5)), rng.integers(0, 50, (60 * 32, 5))], axis=2)
    learn_sessions(model, [FinishedSession(row, fractions) for row in tracks.reshape(-1, 10)])
    assert read_factors(model.snapshot()).kept[:4] == pytest.approx(share ** np.arange(4), abs=0.13)


def test_factors_learn_which_tracks_go_together() -> None:
    """Sessions like tracks of the parity they began with: nothing in the catalogue says so."""
    catalogue = {id_: Track(id_, f"a{id_}", None, None, "x") for id_ in range(20)}
    model, rng = FactorModel(catalogue), np.random.default_rng(2)
    sessions = []
    for _ in range(150 * 32):
        tracks = rng.permutation(20)[:6]
        fractions = np.where(tracks % 2 == tracks[0] % 2, 0.9, 0.1).astype(np.float32)
        fractions[0] = 1.0
        sessions.append(FinishedSession(tracks, fractions))
    learn_sessions(model, sessions)
    ids, artists = np.arange(20), [f"a{id_}" for id_ in range(20)]
    vectors = read_factors(model.snapshot()).of(ids, artists, ids, [None], np.zeros(20, dtype=np.int64))
    affinities = expit(vectors[:, :BIAS] @ vectors[:, :BIAS].T + vectors[:, BIAS])
    alike = (ids[:, None] - ids) % 2 == 0
    np.fill_diagonal(alike, False)
    assert affinities[alike].mean() > 0.6
    assert affinities[(ids[:, None] - ids) % 2 == 1].mean() < 0.4


def test_a_bad_track_is_forgotten_and_a_good_one_is_not() -> None:
    """Another genre's sessions say nothing of either; only that time has passed."""
    genre_of = {1: "here", 2: "here", 3: "here", 8: "there", 9: "there"}
    model = FactorModel({track: Track(track, genre, None, genre, "") for track, genre in genre_of.items()})
    heard = FinishedSession(np.array([3, 1, 2]), np.array([1.0, 1.0, 0.0], dtype=np.float32))
    elsewhere = FinishedSession(np.array([8, 9]), np.array([1.0, 0.5], dtype=np.float32))

    def own_bias(track: int) -> float:
        _, arrays = unpack(model.to_bytes())
        return float(arrays["tracks"][arrays["ids"].tolist().index(track), BIAS])

    learn_sessions(model, [heard] * factors.CHUNK)
    good, bad = own_bias(1), own_bias(2)
    assert good > 0 > bad
    learn_sessions(model, [elsewhere] * 10 * factors.CHUNK)
    assert own_bias(1) == good
    assert own_bias(2) == pytest.approx(bad * 0.5 ** (10 * factors.CHUNK / factors.FORGET_SESSIONS), rel=1e-3)


def test_a_track_never_heard_is_what_its_artist_and_genre_are() -> None:
    catalogue = {id_: Track(id_, "a", None, "jazz", "x") for id_ in range(40)}
    model = FactorModel(catalogue)
    learn_sessions(model, random_sessions(20, seed=1, tracks=30))
    learned = read_factors(model.snapshot())

    def of(ids: list[int], artist: str, genre: str) -> np.ndarray:
        nobody = np.zeros(len(ids), dtype=np.int64)
        return learned.of(np.array(ids), [artist], nobody, [genre], nobody)

    new = of([39, 38], "a", "jazz")
    assert (new[0] == new[1]).all()
    assert not (of([4], "a", "jazz") == new[:1]).all()
    assert np.isfinite(of([39], "nobody", "polka")).all()


def test_factors_forget_tracks_of_which_little_was_learned_and_artists_without_tracks() -> None:
    catalogue = {id_: Track(id_, f"исполнитель {id_ // 4}", None, f"g{id_ % 3}", "x") for id_ in range(400)}
    model = FactorModel(catalogue)
    learn_sessions(model, [FinishedSession(np.arange(400), np.ones(400, dtype=np.float32))])
    for track in range(40):  # ten artists whose tracks were liked again and again
        pair = np.array([track, (track + 1) % 40])
        learn_sessions(model, [FinishedSession(pair, np.ones(2, dtype=np.float32))] * 30)
    before, most_bytes = read_factors(model.snapshot()), len(model.snapshot()) // 2
    assert model.make_room(most_bytes) > 150
    snapshot = model.snapshot()
    assert len(snapshot) <= most_bytes
    after, (names, arrays) = read_factors(snapshot), unpack(snapshot)
    assert set(range(40)) <= set(arrays["ids"].tolist())
    liked, artists = np.arange(40), [f"исполнитель {number}" for number in range(10)]
    arguments = (liked, artists, liked // 4, ["g0", "g1", "g2"], liked % 3)
    assert (after.of(*arguments) == before.of(*arguments)).all()
    assert set(names["artists"]) == {f"исполнитель {id_ // 4}" for id_ in arrays["ids"].tolist()}
    assert FactorModel.from_bytes(model.to_bytes(), catalogue).make_room(len(snapshot) - 1) > 0


def test_a_label_that_tells_gains_and_one_that_does_not_loses() -> None:
    rng = np.random.default_rng(4)
    catalogue = {
        id_: Track(id_, f"a{id_}", None, f"g{rng.integers(5)}", "x", mood=f"m{rng.integers(5)}") for id_ in range(400)
    }
    model, sessions = FactorModel(catalogue), []
    for _ in range(40 * 32):
        tracks = rng.choice(400, size=8, replace=False)
        liked = [catalogue[track].mood == catalogue[tracks[0]].mood for track in tracks.tolist()]
        sessions.append(FinishedSession(tracks, np.where(liked, 0.95, 0.05).astype(np.float32)))
    learn_sessions(model, sessions)
    matches = dict(zip(LABELS, read_factors(model.snapshot()).matches.tolist(), strict=True))
    assert matches["genre"] < factors.FIRST_MATCH < matches["mood"]
    assert matches["country"] == matches["period"] == factors.FIRST_MATCH
