"""What DuckDB computes from files is what the frames compute from memory."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from botify.analytics import AnalyticsError
from botify.analytics.assignment import assign
from botify.analytics.botify_log import WrittenLog, write_log
from botify.analytics.data import drop_copies, listens_frame, of_run
from botify.analytics.experiment import Effect, experiment_results
from botify.analytics.export_files import Source, arrow_schema, open_directory, record_batch
from botify.analytics.exported import open_listens
from botify.analytics.sessions import sessions_of
from botify.schemas.events import Listen
from tests.unit.analytics.listens import drawn, listen


def write(folder: Path, listens: Sequence[Listen], event: str = "Listen") -> Path:
    schema = arrow_schema(Listen)
    with open_directory(folder, Source("t", "an-id", event), {0: 0}) as export:
        for first in range(0, len(listens), 100):
            part = listens[first : first + 100]
            batch = record_batch(schema, part, [0] * len(part), range(first, first + len(part)))
            export.commit(pa.Table.from_batches([batch]), {0: first + len(part)}, rejected=0)
    return folder


def in_order(sessions: pd.DataFrame) -> pd.DataFrame:
    columns = [column for column in sessions.columns if column != "session_id"]
    return sessions.sort_values(["user", "started_ms", "ended_ms"], ignore_index=True)[columns]


@pytest.mark.parametrize("run_id", [None, "r", "other-run"])
def test_sessions_and_treatments_are_those_of_the_frames(tmp_path: Path, run_id: str | None) -> None:
    rng = np.random.default_rng(4)
    listens = drawn(80, rng, uplift=2.0)
    elsewhere = [e._replace(event_id=f"o{e.event_id}", session_id=f"other-run{e.session_id[1:]}") for e in listens[:60]]
    copies = [listens[i] for i in rng.integers(len(listens), size=40)]
    everything = [*listens, *elsewhere, *copies]
    frame = drop_copies(listens_frame(everything))
    expected = frame if run_id is None else of_run(frame, run_id)
    with open_listens(write(tmp_path, everything), run_id) as exported:
        sessions, assignment = exported.sessions(), exported.assignment("demo")
    pd.testing.assert_frame_equal(in_order(sessions), in_order(sessions_of(expected)), check_dtype=False, rtol=1e-12)
    plain = assign(expected, "demo")
    pd.testing.assert_frame_equal(assignment.users, plain.users, check_dtype=False)
    assert assignment[1:] == plain[1:]


def test_the_listens_come_back_as_they_were(tmp_path: Path) -> None:
    listens = drawn(20, np.random.default_rng(6))
    with open_listens(write(tmp_path, [*listens, listens[3]])) as exported:
        frame = exported.frame().sort_values("event_id", ignore_index=True)
    expected = listens_frame(listens).sort_values("event_id", ignore_index=True)
    for column in expected.columns:
        read = json.loads if column == "treatments" else str  # JSON either way
        one, other = (
            [read(value) for value in table[column].astype(object).fillna("none")] for table in (frame, expected)
        )
        assert one == other


def test_who_was_seen_in_two_treatments_is_counted(tmp_path: Path) -> None:
    other = listen("r-1-0", 2, treatments={"demo": "T1"})
    with open_listens(write(tmp_path, [listen("r-1-0", 1), other, listen("r-2-0", 1)])) as exported:
        assignment = exported.assignment("demo")
    assert (assignment.users.index.tolist(), assignment.mixed) == ([2], 1)


def test_a_file_that_the_manifest_does_not_name_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, [listen("r-1-0")])
    (file,) = tmp_path.glob("day=*/*.parquet")
    file.with_name("part-000001.parquet").write_bytes(b"left by an export that was killed")
    with open_listens(tmp_path) as exported:
        assert len(exported.sessions()) == 1


def test_what_is_no_export_of_listens_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(AnalyticsError, match="is not an export of listens; `botify data export"),
        open_listens(tmp_path),
    ):
        pass
    write(tmp_path / "empty", [])
    with pytest.raises(AnalyticsError, match="no listens yet"), open_listens(tmp_path / "empty"):
        pass
    write(tmp_path / "other", [listen()], event="Session")
    with pytest.raises(AnalyticsError, match="is not an export of listens"), open_listens(tmp_path / "other"):
        pass


METRICS = ["time", "sessions", "mean_request_latency", "mean_tracks_per_session", "mean_time_per_session"]


def notebook(log: Path, experiment: str) -> pd.DataFrame:
    """What the notebook computes, step by step: a row for each treatment and metric."""
    data = pd.read_json(log, lines=True)
    data["treatment"] = [experiments[experiment] for experiments in data["experiments"]]

    sessions = []
    for (user, treatment), lines in data.groupby(["user", "treatment"]):
        tracks, heard, latency = 0, 0.0, 0.0
        for line in lines.sort_values("timestamp", kind="stable").itertuples():
            tracks, heard, latency = tracks + 1, heard + line.time, latency + line.latency * 1000
            if line.message == "last":
                sessions.append((user, treatment, tracks, heard, latency))
                tracks, heard, latency = 0, 0.0, 0.0

    frame = pd.DataFrame(sessions, columns=["user", "treatment", "tracks", "time", "latency"])
    users = frame.groupby(["user", "treatment"]).agg(
        sessions=("tracks", "count"), tracks=("tracks", "sum"), time=("time", "sum"), latency=("latency", "sum")
    )
    users["mean_request_latency"] = users["latency"] / users["tracks"]
    users["mean_tracks_per_session"] = users["tracks"] / users["sessions"]
    users["mean_time_per_session"] = users["time"] / users["sessions"]

    arms = users.groupby("treatment")[METRICS].agg(["count", "mean", "var"])
    rows = []
    for treatment in arms.index.drop("C"):
        for metric in METRICS:
            (n_0, mean_0, var_0), (n_1, mean_1, var_1) = arms.loc["C", metric], arms.loc[treatment, metric]
            squared = var_0 / n_0 + var_1 / n_1
            freedom = squared**2 / ((var_0 / n_0) ** 2 / (n_0 - 1) + (var_1 / n_1) ** 2 / (n_1 - 1))
            half = stats.t.ppf(0.975, freedom) * np.sqrt(squared)
            percents = [
                100 * value / mean_0 for value in (mean_1 - mean_0, mean_1 - mean_0 - half, mean_1 - mean_0 + half)
            ]
            rows.append((treatment, metric, int(n_0), int(n_1), mean_0, mean_1, *percents))
    return pd.DataFrame(rows, columns=Effect._fields[:9]).set_index(["treatment", "metric"])


def assert_as_in_the_notebook(log: Path, listens: pd.DataFrame, experiment: str) -> None:
    ours = experiment_results(listens, experiment).table.set_index(["treatment", "metric"])
    theirs = notebook(log, experiment)
    assert sorted(theirs.index) == sorted(ours.index)
    pd.testing.assert_frame_equal(theirs, ours.loc[theirs.index, theirs.columns], rtol=1e-9)


def test_all_metrics_are_those_of_the_table(tmp_path: Path) -> None:
    """Sessions of one listen, sessions cut off, listeners without a recommendation, and copies are among them."""
    rng = np.random.default_rng(12)
    listens = drawn(200, rng, uplift=2.0)
    at_ms = listens[-1].timestamp_ms
    alone = [listen(f"r-{user}-{9}", ended_session=True, timestamp_ms=at_ms - user) for user in range(0, 40, 3)]
    before = [listen(f"r-{user}-{8}", ended_session=user % 2 == 0, timestamp_ms=-user) for user in range(1, 30, 4)]
    strangers = [listen(f"r-{user}-0", ended_session=user % 2 == 0, timestamp_ms=user) for user in range(500, 510)]
    after = [listen(f"r-{user}-7", timestamp_ms=at_ms + user + 1) for user in range(3)]
    cut_off = [one for one in listens if one.user % 5 or one.position < 2 or not one.ended_session]
    everything = [*cut_off, *alone, *before, *strangers, *after, *cut_off[:50]]

    log = tmp_path / "log.json"
    kept = drop_copies(listens_frame(everything))
    written = write_log(write(tmp_path / "export", everything), log)
    left_out = len(before) + len(strangers) + len(after)
    assert written == WrittenLog(len(kept) - left_out, left_out)
    assert_as_in_the_notebook(log, kept, "demo")
