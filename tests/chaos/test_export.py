"""Invariant: an export that is killed, however often and wherever, becomes the export that was never killed.

The kills are drawn from a seed: each comes when so many files were written, so most of them hit a commit whose files
are there, all or some, and whose manifest is not.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pandas as pd

from analytics.export.files import read_manifest
from analytics.export.run import export_topic
from core.kafka import reader as topic_reader
from core.settings import Settings
from schemas.topics import Topics
from tests.chaos.conftest import TRACKS
from tests.support import make_listens, produce

LISTENS = 40_000
COMMIT_ROWS = (4_000, 400)
"""In turn: what was half written by one export must not be written over, by luck, by the next."""

KILLS = 10
DEADLINE_S = 60.0

_CONTEXT = multiprocessing.get_context("forkserver")


def _export(env: Mapping[str, str], path: Path, commit_rows: int) -> None:
    topic_reader.BATCH = commit_rows  # a commit holds whole batches
    settings = Settings.from_env({**os.environ, **env})
    export_topic(settings, Topics.of(settings).listens, path, commit_rows=commit_rows)


def start(settings: Settings, path: Path, commit_rows: int) -> ForkServerProcess:
    process = _CONTEXT.Process(target=_export, args=(settings.to_env(), path, commit_rows))
    process.start()
    return process


def files_in(path: Path) -> dict[str, int]:
    """Names of data files, finished or not, whether they count or not, and when each was last written."""
    found = {}
    for file in path.glob("day=*/*"):
        with suppress(FileNotFoundError):  # renamed meanwhile
            found[str(file.relative_to(path))] = file.stat().st_mtime_ns
    return found


def kill_after(process: ForkServerProcess, path: Path, files: int) -> None:
    """Kill the export as soon as it has begun so many files."""
    before = files_in(path).items()
    give_up = time.monotonic() + DEADLINE_S
    while len(files_in(path).items() - before) < files:
        assert process.is_alive(), "it finished before it could be killed: it needs more listens"
        assert time.monotonic() < give_up, "it writes no files"
        time.sleep(0.001)
    process.kill()
    process.join(DEADLINE_S)


def left_behind(path: Path) -> set[str]:
    manifest = read_manifest(path)
    assert manifest is not None
    return files_in(path).keys() - {file.path for file in manifest.files}


def rows(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).sort_values(["kafka_partition", "kafka_offset"], ignore_index=True)


def test_an_export_killed_ten_times_equals_one_never_killed(settings: Settings, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    topics = Topics.of(settings)
    produce(settings, topics.listens.name, make_listens(LISTENS, users=300, tracks=TRACKS, seed=8))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    export_topic(settings, topics.listens, whole)

    in_the_middle = 0
    for kill in range(KILLS):
        process = start(settings, killed, COMMIT_ROWS[kill % 2])
        kill_after(process, killed, files=int(rng.integers(1, 9)))
        in_the_middle += bool(left_behind(killed))
    assert in_the_middle >= KILLS // 2, "too few kills hit a commit to say anything"
    last = start(settings, killed, COMMIT_ROWS[1])
    last.join(DEADLINE_S)
    assert last.exitcode == 0

    assert left_behind(killed) == set()
    manifest = read_manifest(killed)
    assert manifest is not None
    assert manifest.rows == LISTENS
    pd.testing.assert_frame_equal(rows(killed), rows(whole))
