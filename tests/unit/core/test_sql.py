"""Invariant: an engine that is missing is named with the way out, before anything is started."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from pyarrow import parquet

from botify.core.errors import EngineError, JavaMissingError
from botify.core.sql import EngineName, open_duckdb, open_engine


def test_spark_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(EngineError, match=r"`pip install 'pyspark>=4.3,<4.4'`.*--engine duckdb"):
        open_engine(EngineName.SPARK).__enter__()


def test_a_java_without_the_vectors_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "pyspark.sql", SimpleNamespace(SparkSession=None))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaMissingError, match=r"Spark needs .*without jdk.incubator.vector.*JAVA_HOME"):
        open_engine(EngineName.SPARK).__enter__()


def test_files_of_different_schemas_are_one_view_and_parameters_are_values(tmp_path: Path) -> None:
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    parquet.write_table(pa.table({"user": [1]}), files[0])
    parquet.write_table(pa.table({"user": [2], "name": ["it's"]}), files[1])
    with open_duckdb() as engine:
        engine.read("files", files)
        engine.view("named", "SELECT * FROM files WHERE name = $name", name="it's")
        engine.keep("users", 'SELECT "user" FROM named')
        assert engine.frame("SELECT * FROM users").to_numpy().tolist() == [[2]]
        assert engine.frame("SELECT count(*) AS rows FROM files")["rows"].tolist() == [2]
