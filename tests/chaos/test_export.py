"""Invariant: an export that is killed, however often and wherever, becomes the export that was never killed."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd

from botify.analytics import exported as files
from botify.analytics.export import export_topic
from botify.analytics.exported import read_manifest
from botify.core import files as core_files
from botify.core.kafka import reader as topic_reader
from botify.core.settings import Settings
from botify.schemas.topics import Topics
from tests.chaos.conftest import TRACKS
from tests.support import make_listens, produce

LISTENS = 40_000
COMMIT_ROWS = (4_000, 400)
"""In turn: what was half written by one export must not be written over, by luck, by the next."""

KILLS = 5
DEADLINE_S = 60.0

Write = Callable[[Path], object]

_CONTEXT = multiprocessing.get_context("forkserver")


def _export(env: Mapping[str, str], path: Path, commit_rows: int, dies_at: int | None) -> None:
    topic_reader.BATCH = commit_rows  # a commit holds whole batches
    if dies_at is not None:
        files.write_durably = _dying_at(dies_at)
    settings = Settings.from_env({**os.environ, **env})
    export_topic(settings, Topics.of(settings).listens, path, commit_rows=commit_rows)


def _dying_at(last: int) -> Callable[[Path, Write], None]:
    """Return a `write_durably` that kills this process in its last write: the content is there, its name is not."""
    writes = count(1)

    def write_durably(path: Path, write: Write) -> None:
        def write_or_die(unfinished: Path) -> None:
            write(unfinished)
            if next(writes) == last:
                os.kill(os.getpid(), signal.SIGKILL)

        core_files.write_durably(path, write_or_die)

    return write_durably


def run_export(settings: Settings, path: Path, commit_rows: int, dies_at: int | None = None) -> int | None:
    process = _CONTEXT.Process(target=_export, args=(settings.to_env(), path, commit_rows, dies_at))
    process.start()
    process.join(DEADLINE_S)
    return process.exitcode


def files_in(path: Path) -> set[str]:
    """Names of data files, finished or not, whether they count or not."""
    return {str(file.relative_to(path)) for file in path.glob("day=*/*")}


def left_behind(path: Path) -> set[str]:
    manifest = read_manifest(path)
    assert manifest is not None
    return files_in(path) - {file.path for file in manifest.files}


def rows(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).sort_values(["kafka_partition", "kafka_offset"], ignore_index=True)


def test_an_export_killed_again_and_again_equals_one_never_killed(settings: Settings, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    topics = Topics.of(settings)
    produce(settings, topics.listens.name, make_listens(LISTENS, users=300, tracks=TRACKS, seed=8))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    export_topic(settings, topics.listens, whole)

    in_the_middle = 0
    for kill in range(KILLS):
        ended = run_export(settings, killed, COMMIT_ROWS[kill % 2], dies_at=int(rng.integers(1, 9)))
        assert ended == -signal.SIGKILL
        in_the_middle += bool(left_behind(killed))
    assert in_the_middle >= KILLS // 2, "too few kills hit a commit to say anything"
    assert run_export(settings, killed, COMMIT_ROWS[1]) == 0

    assert left_behind(killed) == set()
    manifest = read_manifest(killed)
    assert manifest is not None
    assert manifest.rows == LISTENS
    pd.testing.assert_frame_equal(rows(killed), rows(whole))
