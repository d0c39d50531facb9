"""Invariant: from the files of an export Spark returns what DuckDB does, bit for bit."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from botify.analytics.data import CATEGORIES
from botify.analytics.experiment import Analysis, analyse
from botify.analytics.exported import (
    ExportedListens,
    Source,
    arrow_schema,
    exported_slates,
    open_directory,
    open_listens,
    record_batch,
)
from botify.core.sql import EngineName, open_engine
from botify.schemas.events import Event, Listen, Recommendation, Slate
from botify.services.lists.build import build_models_in, files_of
from tests.support import make_listens

SMALL = """
spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
spark.sql.adaptive.enabled false
spark.sql.codegen.factoryMode NO_CODEGEN
spark.sql.codegen.wholeStage false
"""
"""Spark compiles nothing for a few thousand rows: a third of the time."""


@pytest.fixture(autouse=True)
def spark(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("PySpark (490 MB) is not installed: pip install -e '.[spark]', as .ci/run does")
    conf = tmp_path_factory.mktemp("spark")
    (conf / "spark-defaults.conf").write_text(SMALL)
    monkeypatch.setenv("SPARK_CONF_DIR", str(conf))
    monkeypatch.setenv("MASTER", "local[1]")


def write(folder: Path, events: Sequence[Event]) -> Path:
    event, time = type(events[0]), "timestamp_ms"
    with open_directory(folder, Source("t", "an-id", event.__name__), {0: 0}, time) as export:
        for first in range(0, len(events), 1000):
            part = events[first : first + 1000]
            batch = record_batch(arrow_schema(event), part, [0] * len(part), range(first, first + len(part)))
            export.commit(pa.Table.from_batches([batch]), {0: first + len(part)}, rejected=0)
    return folder


def log(seed: int) -> list[Listen]:
    """A day of listens in two runs and an experiment, every twentieth sent twice."""
    rng = np.random.default_rng(seed)
    listens = [
        listen._replace(
            session_id=f"{'ab'[listen.user % 3 % 2]}-{listen.user}-{listen.session_id.split('-')[-1]}",
            fraction=float(rng.choice([0.0, 1.0, rng.random()])),
            **(
                {"treatments": {"demo": "T1" if listen.user % 2 else "C"}, "latency_ms": float(rng.exponential(5.0))}
                | {"recommender": "random", "propensity": float(rng.random())}
                if listen.position
                else {}
            ),
        )
        for listen in make_listens(4000, users=150, tracks=120, seed=seed)
    ]
    return [*listens, *listens[::20]]


def everything(listens: ExportedListens) -> list[pd.DataFrame]:
    sessions, assignment = listens.sessions(), listens.assignment("demo")
    effects, _ = analyse("demo", sessions, assignment, Analysis("C", cuped=True, holm=True))
    return [
        sessions.sort_values(list(sessions.columns), ignore_index=True),
        assignment.users,
        pd.DataFrame([effect._asdict() for effect in effects.effects]),
        listens.frame().astype(dict.fromkeys(CATEGORIES, "str")).sort_values("event_id"),
        listens.chosen_tracks().astype({"recommender": "str"}).sort_values(["user", "track"]),
        pd.DataFrame({"count": [listens.count()], "experiments": [listens.experiments()]}),
    ]


def test_sessions_treatments_and_the_table_are_those_of_duckdb(tmp_path: Path) -> None:
    folder = write(tmp_path, log(1))
    found = []
    for engine in EngineName.DUCKDB, EngineName.SPARK:
        with open_listens(folder, "a", engine) as listens:
            found.append(everything(listens))
    for one, other in zip(*found, strict=True):
        pd.testing.assert_frame_equal(
            one.reset_index(drop=True), other.reset_index(drop=True), check_exact=True, check_dtype=False
        )
    assert len(found[0][3]) == found[0][-1]["count"][0] > 1000


def test_slates_are_those_of_duckdb(tmp_path: Path) -> None:
    def answer(request: str, user: int, at_ms: int, tracks: list[int] | None) -> Recommendation:
        of = [0.0] * len(tracks or ())
        slate = Slate(tracks=tracks or [], propensities=of, scores=of, sources=["a"] * len(of), because=[], versions={})
        slate = None if tracks is None else slate
        return Recommendation(request, user, -1 if tracks == [] else 3, "a", {}, 0.25, 0, 1.0, at_ms, slate=slate)

    answers = [answer("a", 2, 9, [3, 4]), answer("b", 1, 7, [4]), answer("a", 2, 9, [8, 9])]
    folder = write(tmp_path, [*answers, answer("c", 1, 8, None), answer("d", 1, 8, [])])
    expected, found = (exported_slates(folder, engine) for engine in EngineName)
    assert len(expected) == 2
    assert [list(map(str, row)) for row in found.to_numpy()] == [list(map(str, row)) for row in expected.to_numpy()]


def test_the_lists_are_those_of_duckdb(tmp_path: Path) -> None:
    folder = write(tmp_path, log(2))
    found = []
    for name in EngineName.DUCKDB, EngineName.SPARK:
        with open_engine(name) as engine:
            found.append(build_models_in(engine, files_of(folder), 10, 30))
    assert found[0] == found[1]
