"""The batch job: reads listens, and returns the lists of neighbours and of listeners as models."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import dataset

from core.kafka.reader import TopicReader
from core.settings import Settings
from schemas.dead_letters import RejectedBefore
from schemas.events import Listen, Model
from schemas.models import model_of
from schemas.registry import codec_of
from schemas.topics import Topics
from schemas.validation import iter_valid
from services.errors import RecommenderError
from services.lists.neighbours import ListenColumns, find_neighbours, make_user_lists
from services.recommender.lists import NEIGHBOURS, USER_LISTS, Lists

COLUMNS = ("event_id", "session_id", "user", "track", "fraction", "timestamp_ms")
"""In the order of `ListenColumns.of`."""
_FIELDS = attrgetter(*COLUMNS)


def heard_of_topic(settings: Settings) -> ListenColumns:
    """Read the listens topic to its end, without copies and dead letters.

    Raises
    ------
    TopicError
        The topic is missing, or the broker stops answering.
    """
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    reader, rejected = TopicReader(settings, topic), RejectedBefore(settings, topic)
    try:
        rejected.refresh()
        return ListenColumns.join(
            _part([_FIELDS(listen) for _, listen in iter_valid(batch, Listen, codec, rejected.offsets)])
            for batch in reader.read_to_end()
        )
    finally:
        reader.close()
        rejected.close()


def _part(rows: list[Any]) -> ListenColumns:
    return ListenColumns.of(*zip(*rows, strict=True)) if rows else ListenColumns.of([], [], [], [], [], [])


def heard_of_parquet(folder: Path) -> ListenColumns:
    """Read all Parquet files of a folder, without copies, which a killed export may leave.

    Raises
    ------
    RecommenderError
        The folder holds no listens.
    """
    if not folder.is_dir():
        raise RecommenderError(f"{folder} is not a folder; `botify export --out {folder}` writes one")
    try:
        files = dataset.dataset(folder, format="parquet", partitioning="hive")
        parts = [_columns(batch) for batch in files.to_batches(columns=list(COLUMNS))]
    except (pa.ArrowInvalid, OSError) as error:
        raise RecommenderError(f"{folder} is not an export of listens ({error}); `botify export` writes one") from error
    return ListenColumns.join(parts)


def _columns(batch: pa.RecordBatch) -> ListenColumns:
    event_ids, session_ids, *numbers = (batch.column(name) for name in COLUMNS)
    return ListenColumns.of(event_ids.to_pylist(), session_ids.to_pylist(), *(column.to_numpy() for column in numbers))


def build_models(heard: ListenColumns, neighbours: int, per_user: int) -> list[Model]:
    """Build both models; the same listens, in any order, give the same bytes.

    Parameters
    ----------
    heard : ListenColumns
    neighbours : int
        Maximum number of neighbours of a track.
    per_user : int
        Maximum length of a listener's list.

    Raises
    ------
    RecommenderError
        There are no listens.
    TopicError
        A model is larger than a record of its topic may be.

    Examples
    --------
    >>> heard = ListenColumns.of("abc", "sst", [1, 1, 2], [7, 8, 7], [1.0, 0.2, 1.0], [0, 1, 2])
    >>> [(model.name, model.version, model.timestamp_ms) for model in build_models(heard, 5, 5)]
    [('neighbours', 3, 2), ('user-lists', 3, 2)]
    """
    if not len(heard.events):
        raise RecommenderError("there are no listens to build lists from; run `botify sim run` first")
    found = find_neighbours(heard.sessions, heard.tracks, heard.fractions, neighbours)
    bodies = {
        NEIGHBOURS: Lists(found.tracks, found.lists).to_bytes(),
        USER_LISTS: make_user_lists(heard, found, per_user).to_bytes(),
    }
    newest_ms = int(heard.timestamps_ms.max())
    return [model_of(name, len(heard.events), body, newest_ms) for name, body in bodies.items()]
