"""Invariant: what is merged from shards is the model that has learned everything, where sums make it so."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from botify.streams.learner.model import MODELS, OnlineModel
from botify.streams.learner.models.factors import FIRST_SQUARES, FactorModel, read_factors
from botify.streams.learner.models.next_track import CHUNK, NextTrack
from botify.streams.learner.models.next_track_projection import NextTrackProjection, _heaviest_links, model_of_snapshot
from botify.streams.learner.models.next_track_state import WIDE, NextTrackSettings
from botify.streams.learner.models.tables import Arrays, pack, unpack
from tests.learning import FinishedSession, learn_sessions, random_sessions
from tests.support import make_tracks

TRACKS = 40
CATALOGUE = {track.track: track for track in make_tracks(TRACKS)}


def trained(kind: type[OnlineModel], some: Sequence[FinishedSession]) -> OnlineModel:
    model = kind(CATALOGUE)
    learn_sessions(model, some)
    return model


def shards_of(kind: type[OnlineModel], some: Sequence[FinishedSession], shards: int) -> list[bytes]:
    return [trained(kind, some[number::shards]).snapshot(to_merge=True) for number in range(shards)]


@pytest.mark.parametrize(
    ("kind", "ids", "table", "evidence_of", "atol"),
    [
        (FactorModel, "ids", "tracks", lambda arrays: arrays["tracks_squares"] - FIRST_SQUARES, 2e-3),
        (NextTrackProjection, "item_ids", "inputs", lambda arrays: arrays["vector_squares"][:, 0], 1e-5),
        (NextTrackProjection, "item_ids", "outputs", lambda arrays: arrays["vector_squares"][:, 1], 1e-5),
    ],
)
def test_vectors_are_means_by_what_each_shard_learned(
    kind: type[OnlineModel], ids: str, table: str, evidence_of: Callable[[Arrays], np.ndarray], atol: float
) -> None:
    shards = shards_of(kind, random_sessions(400, seed=3), 2)
    merged, of_shards = unpack(kind.merged(shards))[1], [unpack(shard)[1] for shard in shards]
    for row, track in enumerate(merged[ids].tolist()):
        rows = [int(np.flatnonzero(arrays[ids] == track)[0]) for arrays in of_shards]
        learned = [float(evidence_of(arrays)[at]) for arrays, at in zip(of_shards, rows, strict=True)]
        values = [arrays[table][at].astype(np.float64) for arrays, at in zip(of_shards, rows, strict=True)]
        mean = np.average(values, axis=0, weights=learned)
        np.testing.assert_allclose(merged[table][row], mean, rtol=1e-3, atol=atol)
    assert merged[table].any()


def test_what_one_shard_alone_has_met_is_taken_as_it_is() -> None:
    ones = np.ones(4, dtype=np.float32)
    one = trained(FactorModel, [FinishedSession(np.arange(4), ones)] * 20).snapshot(to_merge=True)
    other = trained(FactorModel, [FinishedSession(np.arange(10, 14), ones)] * 5).snapshot(to_merge=True)
    merged = unpack(FactorModel.merged([one, other]))[1]
    assert merged["ids"].tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    assert np.array_equal(merged["tracks"], np.concatenate([unpack(body)[1]["tracks"] for body in (one, other)]))
    read_factors(FactorModel.merged([one, other]))  # serves


def graph_of(model: NextTrack) -> dict[tuple[int, int], list[float]]:
    arrays = model.arrays()
    at, column = np.nonzero(arrays["neighbours"] >= 0)
    chunk = model.events - model.events % CHUNK
    ids, growth = arrays["item_ids"], 2.0 ** ((chunk - arrays["clock"][2]) / NextTrackSettings().half_life)
    pairs = zip(ids[at].tolist(), ids[arrays["neighbours"][at, column]].tolist(), strict=True)
    return dict(zip(pairs, (arrays["weights"][at, column] / growth).tolist(), strict=True))


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_the_graph_of_next_track_is_the_sum(shards: int) -> None:
    some, whole = random_sessions(400, seed=3), NextTrackProjection({})
    learn_sessions(whole, some)
    model = model_of_snapshot(NextTrackProjection.merged(shards_of(NextTrackProjection, some, shards)))
    expected, found = graph_of(whole.model), graph_of(model)
    assert found.keys() == expected.keys()
    # decay counts the events of the shard, so weights differ a little
    for pair, weights in expected.items():
        assert found[pair] == pytest.approx(weights, rel=0.02, abs=1e-4)
    assert model.events == whole.model.events
    assert model.rank_histories([1, 2], [1.0, 1.0], [2], 5)[0].shape == (1, 5)


def test_each_item_keeps_its_heaviest_links() -> None:
    rng = np.random.default_rng(7)
    links = np.unique(rng.integers(0, 6, 200) << 32 | rng.integers(0, 40, 200))
    weights = rng.integers(0, 5, (len(links), 3)).astype(np.float32)  # many are equal: then the first
    kept, of_kept = _heaviest_links(links, weights, 16)
    expected: list[int] = []
    for item in range(6):
        own = np.flatnonzero(links >> 32 == item).tolist()
        expected += sorted(sorted(own, key=lambda at: (-weights[at, WIDE], at))[:16])
    assert kept.tolist() == links[expected].tolist()
    assert np.array_equal(of_kept, weights[expected])
    assert len(kept) < len(links)


def test_next_track_forgets_no_item_and_keeps_no_freed_row() -> None:
    snapshots = shards_of(NextTrackProjection, random_sessions(100, seed=4), 2)
    about, arrays = unpack(snapshots[0])
    ends = {"item_ids": -1, "counts": 0, "plays": 0, "recent": 0, "damped": 0}
    freed = dict(arrays) | {name: np.append(arrays[name], arrays[name].dtype.type(end)) for name, end in ends.items()}
    assert NextTrackProjection.merged([pack(about, freed), snapshots[1]]) == NextTrackProjection.merged(snapshots)


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.name)
def test_other_bytes_are_refused(kind: type[OnlineModel]) -> None:
    good = trained(kind, random_sessions(50, seed=5)).snapshot(to_merge=True)
    for bad in (b"rubbish", good[:-1], pack({}, {})):
        with pytest.raises(ValueError, match=r"."):
            kind.merged([good, bad])


def test_a_snapshot_of_no_shard_is_refused() -> None:
    with pytest.raises(ValueError, match="was not made to be merged"):
        FactorModel.merged([trained(FactorModel, random_sessions(5, seed=5)).snapshot()])


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.name)
def test_merging_gives_the_same_bytes_and_a_shard_without_listens_adds_nothing(kind: type[OnlineModel]) -> None:
    shards = shards_of(kind, random_sessions(60, seed=6), 2)
    assert kind.merged(shards) == kind.merged(shards)
    assert len(kind.merged([*shards, kind({}).snapshot(to_merge=True)])) == len(kind.merged(shards))
