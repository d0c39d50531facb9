"""The batch job: reads listens, and returns the lists of neighbours and of listeners as models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import dataset

from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.schemas.dead_letters import RejectedBefore
from botify.schemas.events import Listen, Model
from botify.schemas.models import model_of
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.schemas.validation import iter_valid
from botify.services.errors import RecommenderError
from botify.services.lists.neighbours import ListenColumns, find_neighbours, make_user_lists
from botify.services.recommender.lists import NEIGHBOURS, USER_LISTS, Lists

COLUMNS = ("event_id", "session_id", "user", "track", "fraction", "timestamp_ms")
"""In the order of `ListenColumns.of`."""
_FIELDS = attrgetter(*COLUMNS)
NO_LISTENS = "there are no listens to build lists from; run `botify sim run` first"


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
    with _refused(folder):
        return ListenColumns.join(_columns(batch) for batch in _dataset(folder).to_batches(columns=list(COLUMNS)))


def files_of(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder.

    Raises
    ------
    RecommenderError
        The folder holds no listens.
    """
    with _refused(folder):
        found = _dataset(folder)
        found.scanner(columns=list(COLUMNS))  # raises where a column is missing
    return [Path(file) for file in found.files]


def _dataset(folder: Path) -> dataset.FileSystemDataset:
    if not folder.is_dir():
        raise RecommenderError(f"{folder} is not a folder; `botify export --out {folder}` writes one")
    return dataset.dataset(folder, format="parquet", partitioning="hive")


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise RecommenderError(f"{folder} is not an export of listens ({error}); `botify export` writes one") from error


def _columns(batch: pa.RecordBatch) -> ListenColumns:
    event_ids, session_ids, *numbers = (batch.column(name) for name in COLUMNS)
    return ListenColumns.of(event_ids.to_pylist(), session_ids.to_pylist(), *(column.to_numpy() for column in numbers))


def build_models(heard: ListenColumns, neighbours: int, per_user: int) -> list[Model]:
    """Build both models; the same listens, in any order, give the same bytes.

    Parameters
    ----------
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
        raise RecommenderError(NO_LISTENS)
    found = find_neighbours(heard.sessions, heard.tracks, heard.fractions, neighbours)
    lists = Lists(found.tracks, found.lists), make_user_lists(heard, found, per_user)
    return models_of(len(heard.events), int(heard.timestamps_ms.max()), *lists)


def models_of(listens: int, newest_ms: int, neighbours: Lists, user_lists: Lists) -> list[Model]:
    """Return both lists as models, whose version is the number of listens."""
    bodies = {NEIGHBOURS: neighbours.to_bytes(), USER_LISTS: user_lists.to_bytes()}
    return [model_of(name, listens, body, newest_ms) for name, body in bodies.items()]
