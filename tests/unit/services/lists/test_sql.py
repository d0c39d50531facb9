"""Invariant: SQL on files makes the lists that numpy makes in memory, byte for byte, whatever the files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from botify.core.sql import open_duckdb
from botify.services.errors import RecommenderError
from botify.services.lists import build
from botify.services.lists.build import COLUMNS, build_models, files_of, heard_of_parquet
from botify.services.lists.sql import build_models_in

Row = tuple[int, int, int, float]
"""(session, user, track, fraction)."""


def write(folder: Path, rows: list[Row]) -> Path:
    """Write listens as two files of two days, the last ten of the first a second time in the second."""
    folder.mkdir(exist_ok=True)
    listens = [(f"e{at}", f"s{s}", user, track, fraction, at) for at, (s, user, track, fraction) in enumerate(rows)]
    half = (len(listens) + 1) // 2
    for day, part in ("2026-01-01", listens[:half]), ("2026-01-02", listens[max(0, half - 10) :]):
        (folder / f"day={day}").mkdir(exist_ok=True)
        table = pa.table(dict(zip(COLUMNS, map(list, zip(*part, strict=True)), strict=True)))
        parquet.write_table(table, folder / f"day={day}" / "part-000000.parquet")
    return folder


fractions = st.sampled_from([0.0, 1e-6, 0.1, 1 / 3, 0.4999, 0.5, 0.9, 1.0])
rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 9), fractions), min_size=2, max_size=60)


@settings(deadline=None, max_examples=60)
@given(rows, st.integers(1, 4), st.integers(1, 6))
def test_the_lists_are_those_of_numpy(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], neighbours: int, per_user: int
) -> None:
    folder = write(tmp_path_factory.mktemp("export"), rows)
    expected = build_models(heard_of_parquet(folder), neighbours, per_user)
    with open_duckdb() as engine:
        assert build_models_in(engine, files_of(folder), neighbours, per_user) == expected


def test_long_sessions_are_cut_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, [(at % 2, 1, at // 2 % 109, 1.0) for at in range(320)])
    assert build.MAX_SESSION_TRACKS == 100  # a session here has 109 tracks
    expected = build_models(heard_of_parquet(folder), 120, 120)
    with open_duckdb() as engine:
        assert build_models_in(engine, files_of(folder), 120, 120) == expected
    monkeypatch.setattr(build, "MAX_SESSION_TRACKS", 109)
    assert build_models(heard_of_parquet(folder), 120, 120) != expected


def test_a_folder_without_listens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecommenderError, match="is not a folder"):
        files_of(tmp_path / "none")
    with pytest.raises(RecommenderError, match="is not an export of listens"):
        files_of(tmp_path)
    folder = write(tmp_path / "empty", [(0, 0, 0, 1.0)])
    for file in files_of(folder):
        parquet.write_table(parquet.read_table(file)[:0], file)
    with open_duckdb() as engine, pytest.raises(RecommenderError, match="there are no listens"):
        build_models_in(engine, files_of(folder), 5, 5)
    (tmp_path / "other").mkdir()
    parquet.write_table(pa.table({"user": [1]}), tmp_path / "other" / "users.parquet")
    with pytest.raises(RecommenderError, match="is not an export of listens"):
        files_of(tmp_path / "other")
