"""Invariant: models are a function of the listens in their order, whatever copies, overlaps and restarts there are."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.schemas.events import Feedback, Model
from botify.schemas.models import LEARNED_BODY_BYTES
from botify.schemas.training import impression_batches_of, listens_of, training_batch_of
from botify.streams.learner import learner as module
from botify.streams.learner.learner import Learner, OutdatedStateError
from botify.streams.learner.model import MODELS
from botify.streams.learner.models import factors, tables
from botify.streams.learner.models.factors import FactorModel
from botify.streams.learner.models.next_track_projection import NextTrackProjection
from tests.learning import CATALOGUE, TRACKS, batches, fold
from tests.support import BASE_MS, make_listens

LISTENS = make_listens(3_000, users=40, tracks=TRACKS, seed=3)


def learned(size: int, most_bytes: int | None = None) -> Learner:
    learner = Learner(CATALOGUE, most_bytes=most_bytes)
    fold(learner, *batches(LISTENS, size))
    return learner


def without_snapshots(learner: Learner) -> dict[bytes, bytes]:
    """The state, less what says when a snapshot was taken: that depends on how the listens are cut into batches."""
    return {name: value for name, value in learner.state().items() if name != b"progress"}


@pytest.mark.parametrize(("size", "most_bytes"), [(1, None), (7, None), (500, None), (7, 3_000)])
def test_how_listens_are_cut_into_batches_makes_no_difference(size: int, most_bytes: int | None) -> None:
    assert without_snapshots(learned(size, most_bytes)) == without_snapshots(learned(3_000, most_bytes))


def test_a_watch_hears_what_was_expected_of_each_listen_and_changes_no_model() -> None:
    heard: list[tuple[int, int]] = []
    learner = Learner(CATALOGUE, watch=lambda some, expected: heard.append((len(some), int((expected > 0).sum()))))
    fold(learner, *batches(LISTENS, 500))
    assert without_snapshots(learner) == without_snapshots(learned(500))
    listens, expected = map(sum, zip(*heard, strict=True))
    assert listens == len(LISTENS)
    assert 0 < expected < listens  # nothing is expected of a session's first


def test_nor_where_sessions_are_forgotten_because_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = without_snapshots(learned(500))
    monkeypatch.setattr(factors, "CLOSE_EVERY", factors.CHUNK)
    assert without_snapshots(learned(500)) != whole, "users without a session are forgotten"
    monkeypatch.setattr(factors, "MOST_SESSIONS", 10)
    assert without_snapshots(learned(7)) == without_snapshots(learned(500))


@pytest.mark.parametrize("most_bytes", [LEARNED_BODY_BYTES, 3_000], ids=["whole", "forgetful"])
def test_a_learner_that_restarts_after_every_batch_learns_the_same(
    most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_LEAST", 200)
    whole, restarted = (Learner(CATALOGUE, most_bytes=most_bytes) for _ in range(2))
    forgotten = Counter[str]()
    for batch in batches(LISTENS, 100):
        fold(whole, batch)
        fold(restarted, batch)
        models, evicted = whole.take_models(), whole.take_evictions()
        assert all(len(model.body) <= most_bytes for model in models)
        assert (restarted.take_models(), restarted.take_evictions()) == (models, evicted)
        forgotten += evicted.forgotten
        restarted = Learner.restore(restarted.state(), CATALOGUE, most_bytes=most_bytes)
    assert restarted.state() == whole.state()
    assert forgotten.keys() == ({"fism", "next_track"} if most_bytes == 3_000 else set())


def test_impressions_teach_the_models_that_learn_from_them_and_no_other() -> None:
    shown = [
        (at, Feedback(f"f{at}", one.user, 0, "shown", one.timestamp_ms - 1, tracks=[one.track, at % 7, 999_999]))
        for at, one in enumerate(LISTENS)
    ]
    without, whole, restarted = (Learner(CATALOGUE) for _ in range(3))
    for number, batch in enumerate(batches(LISTENS, 100)):
        part = slice(100 * number, 100 * number + 100)
        (impressions,) = impression_batches_of("feedback", 0, part.start, part.stop, shown[part])
        fold(without, batch)
        fold(whole, impressions, batch)
        fold(restarted, impressions)
        restarted = Learner.restore(restarted.state(), CATALOGUE)
        assert fold(restarted, batch, impressions) == len(listens_of(batch, b""))
    assert restarted.state() == whole.state()
    differ = {name for name, state in whole.state().items() if state != without.state()[name]}
    assert differ == {b"progress", b"model:next_track"}
    assert whole.listens == 4 * without.listens  # impressions are counted, too


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 120)), max_size=12))
def test_whatever_workers_send_again_is_dropped(again: list[tuple[int, int]]) -> None:
    """A worker that was overtaken sends any stretch again that begins at a checkpoint; the topic is never behind it."""
    listens, end = list(enumerate(LISTENS[:300])), 0
    learner, plain = Learner(CATALOGUE), Learner(CATALOGUE)
    for start, length in [*again, (0, 300)]:
        start, stop = min(start, end), min(start + length, 300)
        if stop >= start:
            new = fold(learner, training_batch_of("t", 0, start, stop, listens[start:stop]))
            assert new == max(0, stop - end)
            end = max(end, stop)
    fold(plain, *batches(LISTENS[:300], 300))
    assert without_snapshots(learner) == without_snapshots(plain)
    assert (learner.listens, learner.missed) == (300, 0)


def test_partitions_and_topics_have_offsets_of_their_own() -> None:
    learner = Learner(CATALOGUE)
    of = [(0, "t"), (1, "t"), (0, "u"), (0, "t")]
    assert [fold(learner, *batches(LISTENS[:50], 50, *one)) for one in of] == [50, 50, 50, 0]


def test_what_no_batch_has_brought_is_counted_and_left_out() -> None:
    learner = Learner(CATALOGUE)
    first, second, third, fourth = batches(LISTENS[:120], 30)
    fold(learner, second._replace(first_offset=20))  # it begins late: training was off before
    assert learner.missed == 0
    fold(learner, fourth)
    assert (learner.listens, learner.missed) == (60, 30)
    assert fold(learner, first, third) == 0


@pytest.mark.parametrize(("every_ms", "most"), [(100_000, 60), (1, 100), (-1, 60)])  # the last: a clock is set back
def test_snapshots_are_due_more_and_more_seldom_up_to_a_limit(
    every_ms: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds = {"SNAPSHOT_LEAST": 20, "SOON_LISTENS": 60, "SNAPSHOT_LISTENS": 100, "SNAPSHOT_BYTES_PER_S": 10_000}
    for name, value in bounds.items():
        monkeypatch.setattr(module, name, value)
    learner, taken = Learner(CATALOGUE), list[Model]()
    for at, batch in enumerate(batches(LISTENS, 10)):
        learner.fold(batch, listens_of(batch, b""), BASE_MS + at * every_ms)
        taken += learner.take_models()
    versions = [model.version for model in taken if model.name == "fism"]
    of_listens = [model.version for model in taken if model.name == "next_track"]  # dearer, so less often
    assert all(step < max(20, version / 4) + 10 for step, version in zip(np.diff(of_listens), of_listens, strict=False))
    assert len(of_listens) < len(versions) * 2 / 3
    steps = np.diff([0, *versions])
    assert set(steps[:10]) == {20}
    assert (np.diff(steps) >= 0).all()
    assert set(steps[-10:]) == {most}
    assert all(step < max(20, version / 10) + 10 for step, version in zip(steps[1:], versions, strict=False))


@pytest.mark.parametrize("size", [7, 100, 130, 450])
def test_snapshots_at_multiples_are_the_same_for_any_cut(size: int) -> None:
    """After each batch, the newest is that of the last multiple, with the bytes of a learner that stopped there."""
    learner, bodies = Learner(CATALOGUE, snapshot_listens=100), {}
    for batch in batches(LISTENS[:900], size):
        fold(learner, batch)
        bodies.update({(model.name, model.version): model.body for model in learner.take_models()})
        assert max((version for _, version in bodies), default=0) == learner.listens // 100 * 100
    for (name, version), body in bodies.items():
        stopped = Learner(CATALOGUE)
        fold(stopped, *batches(LISTENS[:version], version))
        assert {model.name: model.body for model in [*stopped.take_models(), *stopped.newest()]}[name] == body


@pytest.mark.parametrize("size", [100, 450])
def test_the_newest_snapshots_have_every_listen_and_leave_the_state_alone(size: int) -> None:
    learner, due = Learner(CATALOGUE), Learner(CATALOGUE)
    for batch in batches(LISTENS, size):
        fold(learner, batch)
        fold(due, batch)
        found = [(model.name, model.version) for model in [*learner.take_models(), *learner.newest()]]
        assert sorted(found) == sorted((kind.name, learner.listens) for kind in MODELS)
        assert not list(learner.newest())
        assert learner.state() == due.state()
    assert not list(Learner(CATALOGUE).newest()), "nothing was learned"


def test_large_models_are_compressed_and_those_of_earlier_versions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "COMPRESSED_BYTES", 1 << 40)
    before = learned(50).state()
    monkeypatch.setattr(tables, "COMPRESSED_BYTES", 100)
    after = learned(50).state()
    smaller = [name for name in before if len(after[name]) < len(before[name]) / 2]
    assert smaller
    assert all(name.startswith(b"model:") for name in smaller)
    assert [Learner.restore(state, CATALOGUE).state() for state in (before, after)] == [after, after]
    with pytest.raises(ValueError, match="neither packed nor compressed"):
        Learner.restore({**after, smaller[0]: b"\x78\x01 not"}, CATALOGUE)


def test_state_of_other_models_or_of_another_room_is_outdated() -> None:
    with pytest.raises(OutdatedStateError, match=r"is of .*\['fism'\]"):
        Learner.restore(Learner(CATALOGUE, [FactorModel]).state(), CATALOGUE)
    state = Learner(CATALOGUE, most_bytes=3_000).state()
    for other in (None, 4_000):
        with pytest.raises(OutdatedStateError, match="most_bytes"):
            Learner.restore(state, CATALOGUE, most_bytes=other)


@pytest.mark.parametrize("most_bytes", [18_000, 20_000])
def test_what_a_snapshot_leaves_out_is_counted(most_bytes: int) -> None:
    assert learned(3_000).take_evictions().cut == {"fism": 0, "next_track": 0}
    learner = Learner(CATALOGUE, [NextTrackProjection], most_bytes=most_bytes)
    fold(learner, *batches(LISTENS, 3_000))
    assert 0 < len(learner.take_models()[-1].body) <= most_bytes
    assert learner.take_evictions().cut["next_track"] > 0
    assert learner.take_evictions().cut == {}


class Boundless(FactorModel):
    name = "boundless"

    def make_room(self, most_bytes: int) -> int:
        return 0


def test_a_snapshot_without_room_is_left_out_and_the_others_are_not() -> None:
    learner = Learner(CATALOGUE, [Boundless, FactorModel], most_bytes=4_000)
    fold(learner, *batches(LISTENS[: 5 * factors.CHUNK], 3_000))
    assert [model.name for model in learner.take_models()] == ["fism"]
    assert learner.take_evictions().too_large == {"boundless": 1}
