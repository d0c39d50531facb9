"""The batch job: reads listens, and makes the lists of neighbours and of listeners as models.

With w(s, i) the share of track i that was heard in session s, and n(i, j) the number of sessions in which both were
heard, the similarity is the cosine of the two tracks' columns, shrunk towards 0 for few sessions::

    sim(i, j) = Σ_s w(s, i) w(s, j) / (‖w(·, i)‖ ‖w(·, j)‖)  ·  (n(i, j) / (n(i, j) + λ))

Cosine: Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001; shrinkage: Bell and
Koren, "Improved neighborhood-based collaborative filtering", KDD Cup 2007.

The score of a track t for a listener u is Σ_i liked(u, i) · sim(i, t) over the tracks i of which the listener heard
half or more, with liked(u, i) the sum of the fractions. Tracks that the listener has heard are left out. If fewer
tracks than wanted have a score, the most popular ones (sum of fractions over all listeners) follow.

Fractions are counted in steps of 1 / `SHARE_STEPS`, similarities in steps of 1 / `SIMILARITY_STEPS`; less than half a
step is 0, and tracks with a similarity of 0 are no neighbours. So all sums are of whole numbers, and the lists do not
depend on the order of adding: `services/lists/sql.py` makes the same ones in DuckDB and Spark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from pyarrow import dataset
from scipy import sparse

from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.schemas.dead_letters import RejectedBefore
from botify.schemas.events import Listen, Model
from botify.schemas.models import model_of
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.schemas.validation import iter_valid
from botify.services.errors import RecommenderError
from botify.services.recommender.lists import NEIGHBOURS, NO_TRACK, USER_LISTS, Lists


class ListenColumns(NamedTuple):
    """Listens as columns of numbers, shape (n,); event and session are hashes of their ids.

    Examples
    --------
    >>> heard = ListenColumns.of(["a", "b", "a"], ["s", "s", "s"], [1, 1, 1], [7, 8, 7], [1.0, 0.5, 1.0], [0, 9, 0])
    >>> sorted(ListenColumns.join([heard, heard]).tracks.tolist())
    [7, 8]
    """

    events: NDArray[np.uint64]
    sessions: NDArray[np.uint64]
    users: NDArray[np.int64]
    tracks: NDArray[np.int64]
    fractions: NDArray[np.float64]
    timestamps_ms: NDArray[np.int64]

    @classmethod
    def of(cls, event_ids: Sequence[str], session_ids: Sequence[str], *numbers: ArrayLike) -> ListenColumns:
        """Return columns as arrays; the ids become 64-bit hashes."""
        kinds = (np.int64, np.int64, np.float64, np.int64)
        columns: Any = (np.asarray(column, dtype=kind) for column, kind in zip(numbers, kinds, strict=True))
        return cls(_hashes(event_ids), _hashes(session_ids), *columns)

    @classmethod
    def join(cls, parts: Iterable[ListenColumns]) -> ListenColumns:
        """Join parts, drop copies, and sort by event, so that the order of reading makes no difference."""
        nothing = cls.of([], [], [], [], [], [])
        columns = [np.concatenate(column) for column in zip(nothing, *parts, strict=True)]
        _, first = np.unique(columns[0], return_index=True)
        return cls._make(column[first] for column in columns)


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    return pd.util.hash_array(np.array(list(texts), dtype=object), categorize=False)


SHARE_STEPS, SIMILARITY_STEPS = 2**16, 2**24
"""Sums are exact for two billion sessions with a track, and eight million likes of a listener."""
SHRINKAGE = 2.0
MAX_SESSION_TRACKS = 100  # tracks of a session that count at most: the work grows with their square
_BLOCK = 1_000


class Neighbours(NamedTuple):
    """The most similar tracks of each track that has any; n tracks, ascending.

    `lists`, shape (n, k), have the most similar first, ties in order of the id, then `NO_TRACK`; their `similarities`
    are whole steps, and 0 where there is no track.
    """

    tracks: NDArray[np.int64]
    lists: NDArray[np.int32]
    similarities: NDArray[np.float64]


def find_neighbours(
    sessions: NDArray[np.uint64],
    tracks: NDArray[np.int64],
    fractions: NDArray[np.float64],
    count: int,
    shrinkage: float = SHRINKAGE,
) -> Neighbours:
    """Find the `count` most similar tracks of each track, from columns of listens; `shrinkage` is λ."""
    ids, heard = _session_tracks(sessions, tracks, _steps(fractions, SHARE_STEPS))
    norms = np.sqrt(np.asarray(heard.multiply(heard).sum(axis=0), dtype=np.float64).ravel())
    present = (heard > 0).astype(np.int64).tocsc()
    lists = np.full((len(ids), count), NO_TRACK, dtype=np.int32)
    similarities = np.zeros((len(ids), count))
    for start in range(0, len(ids), _BLOCK):
        block = slice(start, start + _BLOCK)
        common = (present[:, block].T @ present).tocsr()
        dots = (heard[:, block].T @ heard).tocsr()
        _take_best(dots, common, norms, shrinkage, start, ids, lists[block], similarities[block])
    some = lists[:, 0] != NO_TRACK
    return Neighbours(ids[some], lists[some], similarities[some])


def _steps(values: NDArray[np.float64], per_unit: int) -> NDArray[np.int64]:
    return np.floor(values * per_unit + 0.5).astype(np.int64)


def _session_tracks(
    sessions: NDArray[np.uint64], tracks: NDArray[np.int64], shares: NDArray[np.int64]
) -> tuple[NDArray[np.int64], sparse.csc_array]:
    """Return the track ids, and the matrix of sessions by tracks with the steps heard; of repeats the largest."""
    ids, columns = np.unique(tracks, return_inverse=True)
    _, rows = np.unique(sessions, return_inverse=True)
    order = np.lexsort((-shares, columns, rows))
    rows, columns, heard = rows[order], columns[order], shares[order]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    first &= heard > 0
    rows, columns, heard = rows[first], columns[first], heard[first]
    begins = np.searchsorted(rows, rows)
    kept = np.arange(len(rows)) - begins < MAX_SESSION_TRACKS
    shape = (int(rows.max(initial=-1)) + 1, len(ids))
    return ids, sparse.csc_array((heard[kept], (rows[kept], columns[kept])), shape=shape)


def _take_best(
    dots: sparse.csr_array,
    common: sparse.csr_array,
    norms: NDArray[np.float64],
    shrinkage: float,
    start: int,
    ids: NDArray[np.int64],
    lists: NDArray[np.int32],
    similarities: NDArray[np.float64],
) -> None:
    """Write the best neighbours of a block of rows; `lists` and `similarities` are views of that block."""
    dots.sort_indices()
    common.sort_indices()
    rows = np.repeat(np.arange(len(lists)), np.diff(dots.indptr))
    columns = dots.indices
    cosine = dots.data / (norms[rows + start] * norms[columns])
    similarity = _steps(cosine * (common.data / (common.data + shrinkage)), SIMILARITY_STEPS)
    kept = (columns != rows + start) & (similarity > 0)
    rows, columns, similarity = rows[kept], columns[kept], similarity[kept]
    order = np.lexsort((columns, -similarity, rows))
    rows, columns, similarity = rows[order], columns[order], similarity[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    best = rank < lists.shape[1]
    lists[rows[best], rank[best]] = ids[columns[best]]
    similarities[rows[best], rank[best]] = similarity[best] / SIMILARITY_STEPS


LIKED = 0.5  # fraction from which on a track counts as liked


def make_user_lists(heard: ListenColumns, neighbours: Neighbours, count: int) -> Lists:
    """Build a list of up to `count` tracks for each listener."""
    users, rows = np.unique(heard.users, return_inverse=True)
    ids = np.unique(np.concatenate([heard.tracks, neighbours.lists[neighbours.lists != NO_TRACK]]))
    columns = np.searchsorted(ids, heard.tracks)
    shape = (len(users), len(ids))
    liked, shares = heard.fractions >= LIKED, _steps(heard.fractions, SHARE_STEPS)
    likes = sparse.csr_array((shares[liked], (rows[liked], columns[liked])), shape=shape)
    scores = (likes @ _similarities(neighbours, ids)).tocsr()
    scores.eliminate_zeros()
    known = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    popular = np.argsort(-np.bincount(columns, weights=shares, minlength=len(ids)), kind="stable")
    lists = np.full((len(users), count), NO_TRACK, dtype=np.int32)
    for row in range(len(users)):
        already = known.indices[known.indptr[row] : known.indptr[row + 1]]
        scored = slice(scores.indptr[row], scores.indptr[row + 1])
        picked = _pick(scores.indices[scored], scores.data[scored], already, popular, count)
        lists[row, : len(picked)] = ids[picked]
    return Lists(users, lists)


def _similarities(neighbours: Neighbours, ids: NDArray[np.int64]) -> sparse.csr_array:
    listed = neighbours.lists != NO_TRACK
    of = np.broadcast_to(neighbours.tracks[:, None], listed.shape)[listed]
    at = np.searchsorted(ids, of), np.searchsorted(ids, neighbours.lists[listed])
    similarities = _steps(neighbours.similarities[listed], SIMILARITY_STEPS)
    return sparse.csr_array((similarities, at), shape=(len(ids), len(ids)))


def _pick(
    scored: NDArray[np.integer],
    scores: NDArray[np.int64],
    already: NDArray[np.integer],
    popular: NDArray[np.int64],
    count: int,
) -> Sequence[int]:
    best = scored[np.lexsort((scored, -scores))].tolist()
    taken = set(already.tolist())
    picked: list[int] = []
    # at most len(taken) of the popular tracks are skipped
    for track in [*best, *popular[: count + len(taken) + len(best)].tolist()]:
        if len(picked) == count:
            break
        if track not in taken:
            taken.add(track)
            picked.append(track)
    return picked


COLUMNS = ("event_id", "session_id", "user", "track", "fraction", "timestamp_ms")  # in the order of `ListenColumns.of`
_FIELDS = attrgetter(*COLUMNS)
NO_LISTENS = "there are no listens to build lists from; run `botify sim` first"


def heard_of_topic(settings: Settings) -> ListenColumns:
    """Read the listens topic to its end, without copies and dead letters; raises `TopicError`."""
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    with closing(TopicReader(settings, topic)) as reader, closing(RejectedBefore(settings, topic)) as rejected:
        rejected.refresh()
        return ListenColumns.join(
            _part([_FIELDS(listen) for _, listen in iter_valid(batch, Listen, codec, rejected.offsets)])
            for batch in reader.read_to_end()
        )


def _part(rows: list[Any]) -> ListenColumns:
    return ListenColumns.of(*zip(*rows, strict=True)) if rows else ListenColumns.of([], [], [], [], [], [])


def heard_of_parquet(folder: Path) -> ListenColumns:
    """Read all Parquet files of a folder, without copies; raises `RecommenderError` if it holds no listens."""
    with _refused(folder):
        return ListenColumns.join(_columns(batch) for batch in _dataset(folder).to_batches(columns=list(COLUMNS)))


def files_of(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder; raises `RecommenderError` if it holds no listens."""
    with _refused(folder):
        found = _dataset(folder)
        found.scanner(columns=list(COLUMNS))  # raises where a column is missing
    return [Path(file) for file in found.files]


def _dataset(folder: Path) -> dataset.FileSystemDataset:
    if not folder.is_dir():
        raise RecommenderError(f"{folder} is not a folder; `botify data export --out {folder}` writes one")
    return dataset.dataset(folder, format="parquet", partitioning="hive")


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise RecommenderError(
            f"{folder} is not an export of listens ({error}); `botify data export` writes one"
        ) from error


def _columns(batch: pa.RecordBatch) -> ListenColumns:
    event_ids, session_ids, *numbers = (batch.column(name) for name in COLUMNS)
    return ListenColumns.of(event_ids.to_pylist(), session_ids.to_pylist(), *(column.to_numpy() for column in numbers))


def build_models(heard: ListenColumns, neighbours: int, per_user: int) -> list[Model]:
    """Build both models; the same listens, in any order, give the same bytes.

    A track has at most `neighbours`, a listener's list at most `per_user` tracks. Raises `RecommenderError` without
    listens, `TopicError` if a model is larger than a record of its topic may be.
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
