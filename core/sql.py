"""SQL on Parquet files, in DuckDB in this process or in Spark.

One text serves both engines: DuckDB gets macros with Spark's names of functions, Spark reads `"names"` and
`$parameters` as DuckDB does. What is added up are whole numbers (fractions in steps, see `steps`), so that no order of
adding, thread or partition changes a result, and both engines return the same bits.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import duckdb
import pandas as pd
import typer

from botify.core.errors import EngineError
from botify.core.process import find_java

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MEMORY = "512MB"  # memory limit of DuckDB; beyond it, it uses the disk

_MACROS = (
    "array_size(list) AS len(list)",
    "explode(list) AS unnest(list)",
    "sequence(first, last) AS generate_series(first, last)",
    "xxhash64(text) AS hash(text)",
)
_VECTORS = "jdk.incubator.vector"
_JAVA_WAY_OUT = (
    "Install a full one (Debian's openjdk-17-jre-headless is), or set JAVA_HOME; without Spark, --engine duckdb reads "
    "the same files."
)


class EngineName(StrEnum):
    """An engine that runs SQL."""

    DUCKDB = "duckdb"
    SPARK = "spark"


EngineOption = Annotated[
    EngineName, typer.Option("--engine", help="With --data: what reads the files; spark needs `pip install pyspark`.")
]


def needs_files(engine: EngineName) -> str:
    """Return why a command refuses an engine without files."""
    return f"--engine {engine} reads files: give it --data with a folder that `botify data export` wrote"


class Engine(Protocol):
    """Runs SQL on views of Parquet files."""

    def read(self, name: str, files: Sequence[Path]) -> None:
        """Name the rows of files; a file that lacks a column of another has nulls there."""

    def view(self, name: str, query: str, /, **parameters: str) -> None:
        """Name a query."""

    def keep(self, name: str, query: str, /, **parameters: str) -> None:
        """Name the result of a query, which is computed once."""

    def frame(self, query: str, /, **parameters: str) -> pd.DataFrame:
        """Return the rows of a query."""


class DuckDb:
    """DuckDB in this process; see `Engine`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        for macro in _MACROS:
            connection.execute(f"CREATE TEMP MACRO {macro}")

    def read(self, name: str, files: Sequence[Path]) -> None:
        self._connection.read_parquet([str(file) for file in files], union_by_name=True).create_view(name)

    def view(self, name: str, query: str, /, **parameters: str) -> None:
        self._connection.sql(query, params=parameters or None).create_view(name)

    def keep(self, name: str, query: str, /, **parameters: str) -> None:
        self._connection.execute(f"CREATE TEMP TABLE {name} AS {query}", parameters or None)

    def frame(self, query: str, /, **parameters: str) -> pd.DataFrame:
        return self._connection.execute(query, parameters or None).df()

    def load(self, name: str, frame: pd.DataFrame) -> None:
        """Name the rows of a frame."""
        self._connection.register(name, frame)

    def write_json(self, query: str, path: Path) -> int:
        """Write the rows of a query as JSON, an object a line, and return their number."""
        rows = self._connection.execute(f"COPY ({query}) TO $path (FORMAT json)", {"path": str(path)}).fetchone()
        return int(rows[0]) if rows else 0


@contextmanager
def open_duckdb() -> Iterator[DuckDb]:
    """Open a DuckDB in memory that uses the disk beyond `MEMORY`."""
    with tempfile.TemporaryDirectory(prefix="botify-") as spill, duckdb.connect() as connection:
        connection.execute("SET memory_limit = $memory", {"memory": MEMORY})
        connection.execute("SET temp_directory = $folder", {"folder": spill})
        connection.execute("SET preserve_insertion_order = false")
        yield DuckDb(connection)


class Spark:
    """A session of Spark; see `Engine`."""

    def __init__(self, session: SparkSession) -> None:
        self._session = session

    def read(self, name: str, files: Sequence[Path]) -> None:
        paths = [f"file://{file.resolve()}" for file in files]
        self._session.read.option("mergeSchema", value=True).parquet(*paths).createOrReplaceTempView(name)

    def view(self, name: str, query: str, /, **parameters: str) -> None:
        self._run(query, parameters).createOrReplaceTempView(name)

    def keep(self, name: str, query: str, /, **parameters: str) -> None:
        self._run(query, parameters).persist().createOrReplaceTempView(name)

    def frame(self, query: str, /, **parameters: str) -> pd.DataFrame:
        frame: pd.DataFrame = self._run(query, parameters).toArrow().to_pandas()
        return frame

    def _run(self, query: str, parameters: dict[str, str]) -> Any:
        return self._session.sql(re.sub(r"\$(\w+)", r":\1", query), args=parameters)


@contextmanager
def open_spark() -> Iterator[Spark]:
    """Start Spark: on all cores of this machine, or where MASTER or Spark's own configuration says.

    Raises `EngineError` if PySpark is not installed, `JavaMissingError` if no Java is new enough and complete.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise EngineError(
            "Spark is not installed: `pip install 'pyspark>=4.3,<4.4'`, which is the extra `spark`, installs it; "
            "--engine duckdb reads the same files without it"
        ) from error
    os.environ["JAVA_HOME"] = str(find_java("Spark", _JAVA_WAY_OUT, _VECTORS).resolve().parents[1])
    local = {}
    if os.environ.get("MASTER", "local").startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        local["spark.sql.shuffle.partitions"] = str(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="botify-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that pandas 3 is new to PySpark; frames come by Arrow
        configured = SparkSession.builder.appName("botify")
        for key, value in {
            "spark.driver.maxResultSize": "0",  # lists of all listeners are one result
            "spark.log.level": "ERROR",
            "spark.sql.ansi.doubleQuotedIdentifiers": "true",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.warehouse.dir": folder,
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            **local,
        }.items():
            configured = configured.config(key, value)
        session = configured.getOrCreate()
        try:
            yield Spark(session)
        finally:
            session.stop()


@contextmanager
def open_engine(name: EngineName) -> Iterator[Engine]:
    """Open the engine of a name; see `open_duckdb` and `open_spark`."""
    with open_spark() if name is EngineName.SPARK else open_duckdb() as engine:
        yield engine


def steps(column: str, per_unit: int) -> str:
    """Return SQL for a column in whole steps, whose sums are exact in any order up to 2⁵³."""
    return f"floor({column} * {per_unit}e0 + 0.5e0)"
