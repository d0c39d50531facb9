"""Invariant: a recommender is one file and one registry entry, and the entry says what it really draws from."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from botify.core import keyed_random
from botify.core.keyed_random import Keys, integers
from botify.services.experiments import load_experiments
from botify.services.recommender.baselines import RandomTracks
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import Guards, answer, check_chains
from botify.services.recommender.factors import ServedFactors
from botify.services.recommender.lists import Lists
from botify.services.recommender.protocol import Answers, Batch, RandomStream
from botify.services.recommender.registry import RECOMMENDERS, Parts, RegistryEntry, with_installed
from botify.streams.learner.model import MODELS
from botify.streams.learner.models.factors import FactorModel, read_factors
from botify.streams.learner.models.next_track import NextTrack
from tests.support import make_tracks
from tests.unit.services.recommender.recommending import NO_INPUTS, batch_of_listeners, recommenders_of

TRACKS = make_tracks(50)
CATALOGUE = Catalogue(TRACKS)
LISTS = Lists(np.arange(50), (np.arange(50)[:, None] + [1, 2]) % 50)
FACTORS = ServedFactors(read_factors(FactorModel({track.track: track for track in TRACKS}).snapshot()))
NEXT_TRACK = NextTrack()
NEXT_TRACK.learn([1, 1, 1], [7, 8, 9], [1, 1, 1], [1, 2, 3])
INPUTS = replace(
    NO_INPUTS,
    top=lambda: np.arange(3),
    neighbours=lambda: LISTS,
    user_lists=lambda: LISTS,
    factors=lambda: FACTORS,
    next_track=lambda: NEXT_TRACK,
)


class LowIds:
    """Any of the first tracks."""

    name, fallback = "low_ids", "random"

    def __init__(self, catalogue: Catalogue, stream: int) -> None:
        self._catalogue, self._stream = catalogue, stream

    def recommend(self, batch: Batch) -> Answers:
        some = self._catalogue.tracks[:5]
        return Answers(some[integers(batch.keys, self._stream, len(some))], np.full(len(batch), 1 / len(some)))


def test_one_entry_adds_a_recommender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = RegistryEntry(LowIds, lambda of: LowIds(of.catalogue, *of.random_streams), random_streams=(16,))
    monkeypatch.setitem(RECOMMENDERS, entry.name, entry)
    recommenders = recommenders_of(CATALOGUE, INPUTS, Guards())
    check_chains(recommenders)
    answered = answer(batch_of_listeners(200), ["low_ids"] * 200, recommenders)
    assert answered.recommenders == ["low_ids"] * 200
    assert set(answered.tracks.tolist()) == set(range(5))
    declared = tmp_path / "experiments.toml"
    declared.write_text('default = "low_ids"\n', encoding="utf-8")
    assert load_experiments(declared, RECOMMENDERS).assign(1).recommender == "low_ids"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[int, Keys]:
    """The keys of the first draw from each random stream."""
    first, mix = dict[int, Keys](), keyed_random.mix

    def recording(key: Keys, *parts: int) -> Keys:
        for part in parts:
            first.setdefault(part, key)
        return mix(key, *parts)

    monkeypatch.setattr(keyed_random, "mix", recording)
    return first


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_a_recommender_draws_from_the_streams_of_its_entry(name: str, drawn: dict[int, Keys]) -> None:
    recommenders_of(CATALOGUE, INPUTS, Guards())[name].recommend(batch_of_listeners(400))
    assert drawn.keys() == set(RECOMMENDERS[name].random_streams)


def test_entries_name_models_that_are_learned() -> None:
    assert {name for entry in RECOMMENDERS.values() for name in entry.models} == {kind.name for kind in MODELS}


def test_random_streams_keep_their_numbers() -> None:
    assert [f"{stream.name} {int(stream)}" for stream in RandomStream] == [
        "RANDOM 0", "TOPPOP 1", "STICKY_ARTIST 2", "CONTEXTUAL 3", "INDEXED 4", "STICKY_ARTIST_MIXED 5", "I2I 6",
        "SIMILAR_USERS 7", "SLATE_EXPLORE 8", "SLATE_TRACK 9", "EXPLORE 10", "EXPLORED_TRACK 11", "STICKY_NOREPEAT 12",
        "HEAD 15",
    ]  # fmt: skip


class Installed(NamedTuple):
    name: str
    value: str
    found: Any

    def load(self) -> Any:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


class Own(RandomTracks):
    name, fallback = "own", "random"


def test_an_installed_recommender_is_an_entry_like_ours(caplog: pytest.LogCaptureFixture) -> None:
    points = [
        Installed("own", "own:Own", Own),
        Installed("again", "own:Own", Own),
        Installed("broken", "broken:X", ImportError("no module named broken")),
        Installed("thing", "own:thing", 7),
        Installed("lost", "own:Lost", type("Lost", (Own,), {"name": "lost", "fallback": "nothing"})),
    ]
    found = with_installed([RECOMMENDERS["random"]], points)
    assert list(found) == ["random", "own"]
    own = found["own"].factory(Parts(CATALOGUE, INPUTS, {}, ()))
    assert own.recommend(batch_of_listeners(3)).tracks.shape == (3,)
    for why in ("already", "no module named broken", "neither a RegistryEntry", "fallback 'nothing'"):
        assert why in caplog.text
