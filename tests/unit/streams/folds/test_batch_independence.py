"""Invariant: the state is a function of the topic. Batches, restarts and workers leave no trace in it."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from botify.schemas.events import Listen
from botify.streams.folds.projection import Record
from botify.streams.folds.reference import ReferenceFold
from botify.streams.folds.users import USERS
from tests.support import make_listens
from tests.unit.strategies import listen_sequences
from tests.unit.streams.folds.driving import drive
from tests.unit.streams.folds.oracles import records_of


def split(records: Sequence[Record], cuts: Sequence[int]) -> list[Sequence[Record]]:
    ends = [*sorted(cuts), len(records)]
    return [records[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@settings(max_examples=60, deadline=None)
@given(listen_sequences(), st.lists(st.integers(0, 60), max_size=12), st.booleans())
def test_any_batches_give_the_same_bytes(listens: list[Listen], cuts: list[int], restarts: bool) -> None:
    records = records_of(listens)
    whole = drive([records])
    cut = drive(split(records, [cut for cut in cuts if cut < len(records)]), restarts=restarts)
    assert cut.contents() == whole.contents()
    assert cut.sessions == whole.sessions
    assert cut.duplicates == whole.duplicates


def test_a_cache_that_is_too_small_changes_nothing() -> None:
    records = records_of(make_listens(600, users=40, tracks=20, seed=2))

    def final_states(cache_size: int, batch: int) -> dict[bytes, bytes | None]:
        fold, stored = ReferenceFold(0, (), cache_size=cache_size), dict[bytes, bytes | None]()
        for at in range(0, len(records), batch):
            for name, fields in fold.missing(records[at : at + batch]).items():
                fold.load_fields(name, {field: stored.get(field) for field in fields})
            fold.fold(records[at : at + batch])
            stored.update(fold.take_changes().hashes[USERS])
        return stored

    expected = final_states(cache_size=1000, batch=1)
    assert final_states(cache_size=1, batch=1) == expected
    assert final_states(cache_size=3, batch=50) == expected
