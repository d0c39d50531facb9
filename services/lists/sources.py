"""Where the listens come from: the topic, or Parquet files that `botify export` wrote."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import dataset

from schemas.entered import entered
from schemas.events import Listen
from schemas.registry import codec_of
from schemas.rejected_before import RejectedBefore
from schemas.settings import Settings
from schemas.topic_reader import TopicReader
from schemas.topics import Topics
from services.errors import RecommenderError
from services.lists.heard import Heard

COLUMNS = ("event_id", "session_id", "user", "track", "fraction", "timestamp_ms")
"""In the order of `Heard.of`."""
_FIELDS = attrgetter(*COLUMNS)


def heard_of_topic(settings: Settings) -> Heard:
    """Read the listens topic to its end. Copies and what belongs into the dead letters are left out.

    Raises
    ------
    TopicError
        The topic is missing, or the broker stops answering.
    """
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    reader, rejected = TopicReader(settings, topic), RejectedBefore(settings, topic)
    try:
        rejected.refresh()
        return Heard.together(
            _part([_FIELDS(listen) for _, listen in entered(batch, Listen, codec, rejected.offsets)])
            for batch in reader.read_to_end()
        )
    finally:
        reader.close()
        rejected.close()


def _part(rows: list[Any]) -> Heard:
    return Heard.of(*zip(*rows, strict=True)) if rows else Heard.of([], [], [], [], [], [])


def heard_of_parquet(folder: Path) -> Heard:
    """Read all Parquet files of a folder. Copies are left out, so files of a killed export do no harm.

    Raises
    ------
    RecommenderError
        The folder holds no listens.
    """
    if not folder.is_dir():
        raise RecommenderError(f"{folder} is no folder; `botify export --out {folder}` writes one")
    try:
        files = dataset.dataset(folder, format="parquet", partitioning="hive")
        parts = [_columns(batch) for batch in files.to_batches(columns=list(COLUMNS))]
    except (pa.ArrowInvalid, OSError) as error:
        raise RecommenderError(f"{folder} is no export of listens ({error}); `botify export` writes one") from error
    return Heard.together(parts)


def _columns(batch: pa.RecordBatch) -> Heard:
    event_ids, session_ids, *numbers = (batch.column(name) for name in COLUMNS)
    return Heard.of(event_ids.to_pylist(), session_ids.to_pylist(), *(column.to_numpy() for column in numbers))
