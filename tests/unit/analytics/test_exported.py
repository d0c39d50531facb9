"""What DuckDB computes from files is what the frames compute from memory."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.assignment import assign
from botify.analytics.data import drop_copies, listens_frame, of_run
from botify.analytics.exported import Source, arrow_schema, open_directory, open_listens, record_batch
from botify.analytics.sessions import sessions_of
from botify.schemas.events import Event
from tests.unit.analytics.listens import drawn, listen


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
    for column in expected.columns:
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
