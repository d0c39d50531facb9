"""Invariant: whatever is killed, each record is in exactly one of the files that the manifest names.

What DuckDB computes from the files is what the frames compute from memory.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.assignment import assign
from botify.analytics.data import drop_copies, listens_frame, of_run
from botify.analytics.export import TIME_COLUMNS, check_reachable
from botify.analytics.exported import (
    ExportedFile,
    ExportError,
    Source,
    arrow_schema,
    open_directory,
    open_listens,
    read_manifest,
    record_batch,
)
from botify.analytics.sessions import sessions_of
from botify.core.kafka.admin import TopicState
from botify.schemas.events import Event, Listen, Recommendation, Slate
from tests.unit.analytics.listens import drawn, listen

SOURCE = Source("botify.listens", "an-id", "Listen")
DAY_MS = 24 * 60 * 60 * 1000
TOPIC = TopicState("t", "an-id", start={0: 5, 1: 0}, end={0: 50, 1: 0})


def table(first: int, count: int) -> pa.Table:
    """Listens with these offsets in partition 0, ten a day."""
    offsets = range(first, first + count)
    events = [listen("r-1-0", offset, timestamp_ms=offset // 10 * DAY_MS) for offset in offsets]
    return pa.Table.from_batches([record_batch(arrow_schema(Listen), events, [0] * count, offsets)])


def export(path: Path, first: int, count: int, rejected: int = 0) -> None:
    with open_directory(path, SOURCE, {0: 0}) as directory:
        directory.commit(table(first, count), {0: first + count + rejected}, rejected=rejected)


def offsets_in(path: Path) -> list[int]:
    return sorted(pd.read_parquet(path)["kafka_offset"])


def test_rows_lie_in_the_folders_of_their_days(tmp_path: Path) -> None:
    with open_directory(tmp_path, SOURCE, {0: 0}) as export:
        export.commit(table(0, 15), {0: 15}, rejected=0)
        export.commit(table(15, 5), {0: 20}, rejected=2)
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()) == [
        "_lock",
        "_manifest.json",
        "day=1970-01-01/part-000000.parquet",
        "day=1970-01-02/part-000000.parquet",
        "day=1970-01-02/part-000001.parquet",
    ]
    manifest = read_manifest(tmp_path)
    assert (manifest.rows, manifest.rejected, manifest.next_offsets) == (20, 2, {0: 20})
    assert manifest.files[1] == ExportedFile("day=1970-01-02/part-000000.parquet", 5, {0: (10, 14)})
    assert offsets_in(tmp_path) == list(range(20))


def test_a_day_is_a_day_in_the_years_that_only_numpy_knows(tmp_path: Path) -> None:
    far = table(0, 1).set_column(4, arrow_schema(Listen).field("timestamp_ms"), pa.array([2**52]))
    with open_directory(tmp_path, SOURCE, {0: 0}) as export:
        export.commit(far, {0: 1}, rejected=0)
    assert export.manifest.files[0].path == "day=144683-05-23/part-000000.parquet"


def test_what_a_killed_export_left_is_removed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(tmp_path, 0, 15)
    with monkeypatch.context() as patch:
        patch.setattr("botify.analytics.exported.write_manifest", Mock(side_effect=OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            export(tmp_path, 15, 10)
    day = tmp_path / "day=1970-01-01"
    (day / ".part-000002.parquet.unfinished").write_bytes(b"half of a fi")
    (day / "_notes.txt").write_text("not ours")
    assert offsets_in(tmp_path) == list(range(25))  # a file is there that does not count
    with open_directory(tmp_path, SOURCE, {0: 0}) as directory:
        assert directory.manifest.next_offsets == {0: 15}
        assert offsets_in(tmp_path) == list(range(15))
        assert not list(tmp_path.rglob("*.unfinished"))
        assert (day / "_notes.txt").exists()
        directory.commit(table(15, 10), {0: 25}, rejected=0)
    assert offsets_in(tmp_path) == list(range(25))


def test_records_that_are_all_rejected_still_move_the_export_on(tmp_path: Path) -> None:
    export(tmp_path, 0, 0, rejected=7)
    manifest = read_manifest(tmp_path)
    assert (manifest.files, manifest.next_offsets) == ((), {0: 7})


def test_two_do_not_write_at_once_and_another_topic_of_the_same_name_is_refused(tmp_path: Path) -> None:
    with open_directory(tmp_path, SOURCE, {0: 0}), pytest.raises(ExportError, match="another export is writing"):
        open_directory(tmp_path, SOURCE, {0: 0}).__enter__()
    with pytest.raises(ExportError, match="recreated topic"):
        open_directory(tmp_path, replace(SOURCE, topic_id="b"), {0: 0}).__enter__()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", "mine", r"not an export and is not empty \(there is notes.txt\)"),
        ("_manifest.json", "{", "not a manifest of format 1"),
        ("_manifest.json", '{"format": 99}', "not a manifest of format 1"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ExportError, match=message):
        open_directory(tmp_path, SOURCE, {0: 0}).__enter__()
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("event", list(TIME_COLUMNS))
def test_what_can_be_exported_has_the_column_that_decides_its_day(event: type[Event]) -> None:
    assert arrow_schema(event).field(TIME_COLUMNS[event]).type == pa.int64()


def test_rows_are_the_events() -> None:
    listens = [listen(treatments={"demo": "C", "other": "T2"}), *drawn(20, np.random.default_rng(1))]
    batch = record_batch(arrow_schema(Listen), listens, [3] * len(listens), range(len(listens)))
    batch.validate(full=True)
    for offset, (row, event) in enumerate(zip(batch.to_pylist(maps_as_pydicts="strict"), listens, strict=True)):
        assert row == {**event._asdict(), "kafka_partition": 3, "kafka_offset": offset}


def test_an_empty_slate_has_no_track() -> None:
    """The record says -1, which would be counted as a track."""
    slate = Slate(tracks=[], propensities=[], scores=[], sources=[], because=[], versions={})
    empty = Recommendation("r", 42, -1, "", {}, 1.0, 0, 1.0, 1000, slate=slate)
    batch = record_batch(arrow_schema(Recommendation), [empty, empty._replace(track=0, slate=None)], [0, 0], [1, 2])
    batch.validate(full=True)
    assert batch["track"].to_pylist() == [None, 0]


@pytest.mark.parametrize("next_offset", [4, 51])
def test_records_that_are_gone_are_not_passed_over_in_silence(next_offset: int) -> None:
    for there in (5, 30, 50):
        check_reachable(TOPIC, {0: there, 1: 0})
    with pytest.raises(ExportError, match=rf"t\[0\]: the export resumes at offset {next_offset}, but .* only 5 to 49"):
        check_reachable(TOPIC, {0: next_offset})


def write(folder: Path, events: Sequence[Event], event: str = "Listen") -> Path:
    with open_directory(folder, Source("t", "an-id", event), {0: 0}) as export:
        for first in range(0, len(events), 100):
            part = events[first : first + 100]
            batch = record_batch(arrow_schema(type(part[0])), part, [0] * len(part), range(first, first + len(part)))
            export.commit(pa.Table.from_batches([batch]), {0: first + len(part)}, rejected=0)
    return folder


def in_order(sessions: pd.DataFrame) -> pd.DataFrame:
    sessions = sessions.drop(columns="session_id", errors="ignore")
    return sessions.sort_values(["user", "started_ms", "ended_ms"], ignore_index=True)


@pytest.mark.parametrize("run_id", [None, "r", "other-run"])
def test_sessions_and_treatments_are_those_of_the_frames(tmp_path: Path, run_id: str | None) -> None:
    rng = np.random.default_rng(4)
    listens = drawn(80, rng, uplift=2.0)
    elsewhere = [e._replace(event_id=f"o{e.event_id}", session_id=f"other-run{e.session_id[1:]}") for e in listens[:60]]
    copies = [listens[i] for i in rng.integers(len(listens), size=40)]
    mixed = [listen("r-1000-0", at, treatments={"demo": arm}) for at, arm in enumerate(("C", "T1"), start=1)]
    everything = [*listens, *elsewhere, *copies, *mixed]
    frame = drop_copies(listens_frame(everything))
    expected = frame if run_id is None else of_run(frame, run_id)
    with open_listens(write(tmp_path, everything), run_id) as exported:
        sessions, assignment = exported.sessions(), exported.assignment("demo")
    pd.testing.assert_frame_equal(in_order(sessions), in_order(sessions_of(expected)), check_dtype=False, rtol=1e-12)
    plain = assign(expected, "demo")
    assert plain.mixed == (run_id != "other-run")
    pd.testing.assert_frame_equal(assignment.users, plain.users, check_dtype=False)
    assert assignment[1:] == plain[1:]


def test_the_listens_come_back_as_they_were(tmp_path: Path) -> None:
    listens = drawn(20, np.random.default_rng(6))
    with open_listens(write(tmp_path, [*listens, listens[3]])) as exported:
        frame = exported.frame().sort_values("event_id", ignore_index=True)
    expected = listens_frame(listens).sort_values("event_id", ignore_index=True)
    for column in Listen._fields:
        read = json.loads if column == "treatments" else str  # JSON either way
        one, other = (table[column].astype(object).fillna("none").map(read).tolist() for table in (frame, expected))
        assert one == other


def test_a_file_that_the_manifest_does_not_name_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, [listen("r-1-0")])
    (file,) = tmp_path.glob("day=*/*.parquet")
    file.with_name("part-000001.parquet").write_bytes(b"left by an export that was killed")
    with open_listens(tmp_path) as exported:
        assert len(exported.sessions()) == 1


def test_what_is_no_export_of_listens_is_refused(tmp_path: Path) -> None:
    for folder, message in (
        (tmp_path, "is not an export of listens; `botify data export"),
        (write(tmp_path / "empty", []), "no listens yet"),
        (write(tmp_path / "other", [listen()], event="Session"), "is not an export of listens"),
    ):
        with pytest.raises(AnalyticsError, match=message), open_listens(folder):
            pass
