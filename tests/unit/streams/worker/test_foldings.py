"""Invariant: folding in columns is folding listen by listen, for any bytes, any cut into runs, and any mixture."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botify.core.kafka.config import key_of
from botify.core.kafka.layout import ANY_LEAD_MS, COPIED
from botify.core.kafka.record_columns import RecordColumns
from botify.schemas.codec import Codec, load
from botify.schemas.event_time import LEAD_MS, SIMULATED_TIME, Lead
from botify.schemas.events import Listen, Session, TrainingBatch
from botify.schemas.listen_columns import accept_listens
from botify.schemas.validation import ERASURE, Intake
from botify.streams.folds.columns import kernels
from botify.streams.folds.columns.listeners import Listeners
from botify.streams.folds.likes import LIKES_OF_USERS
from botify.streams.folds.partition import PROJECTIONS
from botify.streams.folds.projection import Changes
from botify.streams.folds.sessions import GAP_MS, OPEN_SESSIONS
from botify.streams.folds.users import HISTORY_LISTENS, USERS
from botify.streams.worker.by_columns import BY_COLUMNS
from botify.streams.worker.folding import BY_LISTEN, Folding
from tests.unit.streams.worker.records import CODEC, NOW_MS, KafkaRecord, Worker, parts

KNOWN_TRACKS = range(6)
REJECTED_BEFORE = 3
OLD = Codec([schema for schema in load() if (schema.subject, schema.version) != ("listen", 2)])
"""Writes listens of the first schema."""

FRACTIONS = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7, 1.0])
LISTENS = st.builds(
    Listen,
    event_id=st.sampled_from([f"e{number}" for number in range(40)]) | st.text(max_size=3),
    user=st.integers(40, 44) | st.integers(-1, 2**53 + 1),
    track=st.integers(0, 6),
    fraction=FRACTIONS | st.floats(),
    timestamp_ms=st.integers(-1, 10).map(lambda step: NOW_MS + step * LEAD_MS // 2)
    | st.sampled_from([-1, 0, NOW_MS - GAP_MS - 1, NOW_MS + GAP_MS, NOW_MS + 2 * GAP_MS]),
    session_id=st.sampled_from(["s", "t", "a session of a long name, of which there are few", "Ω"])
    | st.text(max_size=2),
    position=st.integers(-1, 3),
    ended_session=st.booleans(),
    recommender=st.sampled_from([None, "", "mix", "sticky", "ünknown"]),
    treatments=st.sampled_from([{}, {"E": "T1"}, {"E": "T1", "Ö": "C"}, {str(number): "C" for number in range(20)}]),
    propensity=st.sampled_from([None, 0.5]),
    latency_ms=st.sampled_from([None, 4.2]),
    policy=st.sampled_from([None, "mix", "fism/popular", "rerank"]),
    candidates=st.none() | st.integers(0, 9),
)
GOOD_LISTENS = st.builds(
    Listen._replace,
    LISTENS,
    event_id=st.sampled_from([f"e{number}" for number in range(60)]),
    user=st.integers(40, 44),
    track=st.integers(0, 5),
    fraction=FRACTIONS,
    timestamp_ms=st.integers(0, 12).map(lambda step: NOW_MS + step * LEAD_MS // 4),
    session_id=st.sampled_from(["s", "t", "u"]),
    position=st.integers(0, 3),
)


WAYS = (
    CODEC.encode,
    OLD.encode,
    # Avro's other way to write the number of a map's entries: negative, with the block's bytes
    lambda listen: CODEC.encode(listen).replace(b"\x02\x02E\x04T1\x00", b"\x01\x0c\x02E\x04T1\x00"),
    lambda listen: with_long_number(CODEC.encode(listen)),
    lambda listen: CODEC.encode(listen)[:-1],
    lambda listen: CODEC.encode(listen) + b"\0",
    lambda listen: b"",
    lambda listen: None,
)


def with_long_number(raw: bytes) -> bytes:
    """Write the last number with more bytes than it needs."""
    return raw[:-1] + bytes([raw[-1] | 0x80]) + b"\x80" * 8 + b"\x00"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    raw = bytearray(CODEC.encode(draw(GOOD_LISTENS)))
    for _ in range(draw(st.integers(1, 3))):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


@st.composite
def logs(draw: st.DrawFn, listens: st.SearchStrategy[Listen] = GOOD_LISTENS | LISTENS) -> list[KafkaRecord]:
    records, offset = [], 0
    for _ in range(draw(st.integers(1, 30))):
        offset += draw(st.sampled_from([1, 1, 1, 4]))
        listen = draw(listens)
        way = draw(st.sampled_from([*[CODEC.encode] * 8, *WAYS]))
        raw = draw(damaged()) if draw(st.integers(0, 9)) == 0 else way(listen)
        key = draw(st.sampled_from([key_of(listen.user)] * 12 + [None, b"", b"042", b"x"]))
        headers = draw(st.sampled_from([(), (), [SIMULATED_TIME], [(COPIED, b"botify.listens/0/0")], [("other", b"")]]))
        records.append(KafkaRecord(offset, key, raw, headers=headers))
    return records


def tombstone(offset: int) -> KafkaRecord:
    return KafkaRecord(offset, key_of(1), None, headers=((ERASURE, b""),))


DECLARED = ((LEAD_MS,), (None,), (ANY_LEAD_MS,), (LEAD_MS, LEAD_MS, ANY_LEAD_MS), (None, ANY_LEAD_MS))
"""What a topic declares, each time that it is asked."""


def make_worker(
    folding: Folding, projections: Sequence[str] = PROJECTIONS, declared: Sequence[int | None] = (LEAD_MS,)
) -> Worker:
    later = iter(declared)
    lead = Lead(lambda: next(later, declared[-1]))
    letters = {0: {REJECTED_BEFORE}, 5: {REJECTED_BEFORE + 1}}
    return Worker(folding, projections, intake=Intake(CODEC, KNOWN_TRACKS, lambda: None, letters, lead))


def state(worker: Worker) -> dict[str, Any]:
    """Return everything that can be told from outside; NaN, which a broken record may bring, as its bytes."""
    return {
        **worker.contents(),
        "sessions": worker.sent.of(Session),
        "training": worker.sent.of(TrainingBatch),
        "rejected": worker.sent.rejected,
        "counters": worker.counters,
        "event time": worker.partition.event_time.newest_ms,
    }


def check(records: list[KafkaRecord], cuts: Sequence[int], *options: Any) -> None:
    """Compare the foldings after every run."""
    plain, columns = make_worker(BY_LISTEN, *options), make_worker(BY_COLUMNS, *options)
    for part in parts(records, cuts):
        plain.process(part)
        columns.process(part)
        assert state(columns) == state(plain)


@settings(max_examples=60)
@given(logs(), st.lists(st.integers(1, 29)), st.sampled_from(DECLARED))
def test_both_foldings_agree_after_every_run(
    records: list[KafkaRecord], cuts: list[int], declared: Sequence[int | None]
) -> None:
    check(records, cuts, PROJECTIONS, declared)


@settings(max_examples=60)
@given(logs(), st.lists(st.integers(1, 29)), st.lists(st.booleans(), min_size=30, max_size=30))
def test_a_partition_may_change_its_folding_and_its_owner_between_runs(
    records: list[KafkaRecord], cuts: list[int], choices: list[bool]
) -> None:
    plain, mixed = make_worker(BY_LISTEN), make_worker(BY_LISTEN)
    for part, choice in zip(parts(records, cuts), choices, strict=False):
        plain.process(part)
        mixed.folding = BY_COLUMNS if choice else BY_LISTEN
        mixed.process(part)
        assert state(mixed) == state(plain)
        if choice:
            plain.claim_again()
            mixed.claim_again()


@settings(max_examples=30)
@given(logs(), st.integers(0, 40))
def test_records_before_the_position_are_left_out(records: list[KafkaRecord], first: int) -> None:
    plain, columns = make_worker(BY_LISTEN), make_worker(BY_COLUMNS)
    for one in (plain, columns):
        if done := [record for record in records if record.offset < first]:
            one.process(done)
        one.process(RecordColumns.of(records))
    assert state(columns) == state(plain)


def many(count: int, users: int = 3, session_listens: int = 7, tracks: int = 6) -> list[KafkaRecord]:
    records = []
    for at in range(count):
        user, session = at % users, f"s{at // users // session_listens}" + "x" * (at % 3 * 100)
        what = at * 7 % tracks, (at % 11) / 10, NOW_MS + at * 1000, session, 0, False
        listen = Listen(f"e{at}", user, *what, "mix", {}, 0.5, None, f"p{at % 5}")
        records.append(KafkaRecord(at, key_of(user), CODEC.encode(listen)))
    return records


@pytest.mark.parametrize("session_listens", [7, 1_000])
def test_full_histories_likes_and_sessions_agree(session_listens: int) -> None:
    """Rings that have come round, sessions of more tracks than are kept, ids of many lengths."""
    check(many(3 * (HISTORY_LISTENS + 520), session_listens=session_listens), [100, 101, 900])


@pytest.mark.parametrize("folding", [BY_LISTEN, BY_COLUMNS])
@pytest.mark.parametrize("cuts", [[], [60], [61], [59, 62]])
@pytest.mark.parametrize("remembered", [True, False])
def test_after_a_tombstone_a_listener_is_new(folding: Folding, cuts: list[int], *, remembered: bool) -> None:
    """Invariant: nothing of a listener of before is in the state, whoever had it in memory, and nothing of others went.

    The listens before are those after, so a duplicate would show what was remembered.
    """
    listens = many(60)
    again = [record._replace(offset=61 + record.offset) for record in listens]
    erasing, alone = make_worker(folding), make_worker(folding)
    for part in parts([*listens, tombstone(60), *again], cuts):
        erasing.process(part)
        if not remembered:
            erasing.claim_again()
    alone.process([record for record in again if record.key == key_of(1)])
    for name in (USERS, LIKES_OF_USERS, OPEN_SESSIONS):
        assert erasing.store.hashes[0, name][b"1"] == alone.store.hashes[0, name][b"1"]
    assert erasing.counters.duplicates == 39  # the others have all they heard; one listen is a dead letter
    assert erasing.sent.rejected_offsets() == [REJECTED_BEFORE]
    batches = erasing.sent.of(TrainingBatch)
    assert all(batch.next_offset == after.first_offset for batch, after in pairwise(batches))
    # of three sessions each time: the last ones are open, and that of before never closes
    assert sum(session.user == 1 for session in erasing.sent.of(Session)) == 2 * 2

    erasing.process([tombstone(121)])
    for name in (USERS, LIKES_OF_USERS, OPEN_SESSIONS):
        assert erasing.store.hashes[0, name].get(b"1") is None


@pytest.mark.parametrize("folding", [BY_LISTEN, BY_COLUMNS])
def test_a_record_that_only_has_no_value_erases_nobody(folding: Folding) -> None:
    worker, valueless = make_worker(folding), KafkaRecord(60, key_of(1), None)
    worker.process([*many(60), valueless, valueless._replace(offset=61, headers=[("x", b"")])])
    assert worker.store.hashes[0, USERS][b"1"] is not None
    (_, _, why), *_ = worker.sent.rejected
    assert "dead-lettered before" in why
    assert worker.sent.rejected_offsets() == [REJECTED_BEFORE, 60, 61]


@pytest.mark.parametrize("projections", [(), ("likes",), ("popularity",)])
def test_a_replay_of_some_projections_agrees(projections: Sequence[str]) -> None:
    check(many(300), [50, 200], projections)


def test_listeners_that_were_forgotten_are_read_again() -> None:
    records = many(600, users=50)
    columns, _ = accept_listens(RecordColumns.of(records), Intake(CODEC), make_worker(BY_LISTEN).partition.event_time)
    bounded, whole = Listeners(with_likes=True, most_rows=12), Listeners(with_likes=True)
    store: dict[str, dict[bytes, bytes]] = {}
    read: list[bytes] = []

    def fold(listeners: Listeners, begin: int, end: int) -> Changes:
        run = columns.of(slice(begin, end))  # type: ignore[arg-type]
        for name, fields in listeners.missing(run.users).items():
            read.extend(fields)
            listeners.load_fields(name, {field: store.get(name, {}).get(field) for field in fields})
        listens = kernels.Listens(*(getattr(run, name) for name in kernels.Listens._fields))
        listeners.fold_likes(listens, listeners.fold(listens))
        return listeners.changes()

    for begin in range(0, 600, 5):
        changes = fold(bounded, begin, begin + 5)
        assert changes == fold(whole, begin, begin + 5)
        for name, fields in changes.hashes.items():
            store.setdefault(name, {}).update({field: value for field, value in fields.items() if value is not None})
    assert len(read) > 10 * 50 * len(bounded.hashes)
