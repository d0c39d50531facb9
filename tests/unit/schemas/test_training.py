"""Invariant: what a worker writes as columns a learner reads as the same listens, and nothing that cannot be true."""

import mmh3
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.core.errors import ValidationError
from botify.schemas import training
from botify.schemas.codec import Codec
from botify.schemas.events import Feedback, Listen, TrainingBatch
from botify.schemas.training import BATCH_LISTENS, impression_batches_of, listens_of, training_batch_of
from botify.schemas.validation import MAX_TIMESTAMP_MS, MAX_TRACK, MAX_USER
from tests.unit.strategies import EVENTS

FIRST = 1_000
CODEC = Codec()
TRUE_LISTENS = st.builds(
    Listen._replace,
    EVENTS[Listen],
    user=st.integers(0, MAX_USER),
    track=st.integers(0, MAX_TRACK),
    fraction=st.floats(0, 1),
    timestamp_ms=st.integers(0, MAX_TIMESTAMP_MS),
)


def listen(user: int = 42, track: int = 7, fraction: float = 0.5) -> Listen:
    return Listen("a:0", user, track, fraction, 1_000, "a", 0, False, None, {}, None, None)


def batch_of(*offsets: int, stretch: int = 10) -> TrainingBatch:
    return training_batch_of("id", 3, FIRST, FIRST + stretch, [(FIRST + offset, listen()) for offset in offsets])


@given(st.lists(TRUE_LISTENS, max_size=20))
def test_a_batch_holds_its_listens(listens: list[Listen]) -> None:
    batch = training_batch_of("id", 3, FIRST, FIRST + 40, [(FIRST + 2 * i, one) for i, one in enumerate(listens)])
    decoded = CODEC.decode(CODEC.encode(batch), TrainingBatch)
    assert decoded == batch
    found = listens_of(decoded, b"")
    assert len(found) == len(listens)
    for at, one in enumerate(listens):
        row = (found.users[at], found.tracks[at], found.timestamps_ms[at], found.ended[at], found.offsets[at])
        assert row == (one.user, one.track, one.timestamp_ms, one.ended_session, 2 * at)
        assert found.fractions[at] == np.float32(one.fraction)
        assert found.served[at] == (one.recommender is not None)
        assert found.sessions[at] == mmh3.hash64(one.session_id, signed=False)[0]


def test_a_batch_of_version_1_does_not_say_what_was_served() -> None:
    batch = batch_of(2, 3)._replace(served=b"")
    assert listens_of(CODEC.decode(CODEC.encode(batch), TrainingBatch), b"").served.tolist() == [False, False]


def shown(*tracks: int, user: int = 42, kind: str = "shown") -> Feedback:
    return Feedback("f", user, tracks[0], kind, 2_000, tracks=list(tracks))


def test_batches_of_feedback_have_its_impressions_and_cover_all_of_it() -> None:
    records = [(FIRST + 1, shown(7, 8)), (FIRST + 3, shown(9, kind="like")), (FIRST + 4, shown(8, user=43))]
    (batch,) = impression_batches_of("id", 3, FIRST, FIRST + 6, records)
    found = listens_of(CODEC.decode(CODEC.encode(batch), TrainingBatch), b"")
    rows = zip(found.offsets.tolist(), found.users.tolist(), found.tracks.tolist(), strict=True)
    assert list(rows) == [(1, 42, 7), (1, 42, 8), (4, 43, 8)]
    assert (batch.first_offset, batch.next_offset, len(found.listens())) == (FIRST, FIRST + 6, 0)
    assert found.shown.all()
    (empty,) = impression_batches_of("id", 3, FIRST, FIRST + 1, [])
    assert not len(listens_of(empty, b""))


def test_a_record_of_impressions_is_not_cut() -> None:
    cut, last = BATCH_LISTENS // 100, 2 * BATCH_LISTENS // 100 + 1
    a_hundred = [(FIRST + at, shown(*range(100))) for at in range(last)]
    batches = impression_batches_of("id", 3, FIRST, FIRST + last, a_hundred)
    bounds = [(one.first_offset - FIRST, one.next_offset - FIRST) for one in batches]
    assert bounds == [(0, cut), (cut, 2 * cut), (2 * cut, last)]
    assert sum(len(listens_of(one, b"")) for one in batches) == 100 * last


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tracks": b""}, "column tracks has 0 bytes, not those of 2 listens"),
        ({"ended": b"\0"}, "column offsets has 8 bytes"),
        ({"served": b"\0"}, "column served has 1 bytes, not those of 2 listens"),
        ({"next_offset": FIRST + 3}, "offsets do not rise within the stretch of 3"),
        ({"offsets": np.array([3, 3], "<u4").tobytes()}, "offsets do not rise"),
        ({"next_offset": FIRST - 1}, "are no stretch"),
        ({"first_offset": -1}, "are no stretch"),
        ({"fractions": np.array([0.5, np.nan], "<f4").tobytes()}, "column fractions has a value that is not between"),
        ({"users": np.array([-1, 7], "<i8").tobytes()}, "column users"),
    ],
)
def test_what_cannot_be_true_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why) as refused:
        listens_of(batch_of(2, 3)._replace(**changes), b"raw")
    assert refused.value.raw == b"raw"


def test_listens_that_became_dead_letters_are_taken_away_before_values_are_checked() -> None:
    batch = batch_of(2, 3, 5)._replace(timestamps_ms=np.array([1, 2**60, 3], "<i8").tobytes())
    with pytest.raises(ValidationError, match="column timestamps_ms"):
        listens_of(batch, b"", np.array([FIRST + 2, FIRST + 500]))
    found = listens_of(batch, b"", np.array([3, FIRST + 3, FIRST + 4, FIRST + 500]))
    assert (found.offsets.tolist(), found.timestamps_ms.tolist()) == ([2, 5], [1, 3])
    assert listens_of(batch_of(2, 3), b"", np.array([FIRST - 1, FIRST + 10])).offsets.tolist() == [2, 3]


@pytest.mark.parametrize("count", [0, 1, BATCH_LISTENS, BATCH_LISTENS + 1, 3 * BATCH_LISTENS - 1])
def test_a_long_stretch_is_cut_into_records_that_a_broker_takes(count: int) -> None:
    records = [(FIRST + 2 * at, listen(user=at)) for at in range(count)]
    batches = training.training_batches_of("id", 3, FIRST - 5, FIRST + 2 * count + 7, records)
    assert batches[0].first_offset == FIRST - 5
    assert batches[-1].next_offset == FIRST + 2 * count + 7
    assert [batch.first_offset for batch in batches[1:]] == [batch.next_offset for batch in batches[:-1]]
    assert max(len(CODEC.encode(batch)) for batch in batches) < 1_000_000  # brokers take a little more by default
    assert np.concatenate([listens_of(batch, b"").users for batch in batches]).tolist() == list(range(count))
