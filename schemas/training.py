"""Training batches, listens and impressions as columns, and the shards that learn from them.

Columns have a tenth of Avro's cost a listen, and models need arrays.

A shard is a partition of the training topic. The batches of a partition of the listens go to one shard, so all listens
of a listener are learned by one; so do those of the partition of the feedback of the same number. Each shard trains
models of its own; what serves is merged from their snapshots, which are published under names of their own, such as
`fism@0of2`. A lone shard has the plain name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import mmh3
import numpy as np
from numpy.typing import ArrayLike, NDArray

from botify.core.errors import ValidationError
from botify.schemas.events import SHOWN, Feedback, Listen, TrainingBatch
from botify.schemas.validation import MAX_TRACK, MAX_USER

if TYPE_CHECKING:  # at run time it would load numba
    from botify.schemas.listen_columns import ListenColumns

_DTYPES: dict[str, np.dtype[Any]] = {
    "offsets": np.dtype("<u4"),
    "users": np.dtype("<i8"),
    "tracks": np.dtype("<i4"),
    "fractions": np.dtype("<f4"),
    "timestamps_ms": np.dtype("<i8"),
    "sessions": np.dtype("<u8"),
    "ended": np.dtype("?"),
    "served": np.dtype("?"),
    "shown": np.dtype("?"),
}
_LATER = ("served", "shown")  # columns that batches of earlier versions lack, and `shown` all batches of listens
# batches are kept for ever, and those of earlier versions may contain a listen of the year 100,000
_HIGHEST = {"users": MAX_USER, "tracks": MAX_TRACK, "fractions": 1, "timestamps_ms": 2**52}


@dataclass(frozen=True, slots=True)
class TrainingColumns:
    """Listens or impressions of one stretch of a partition, in order, as columns of shape (n,)."""

    offsets: NDArray[np.uint32]  # relative to the stretch's first offset
    users: NDArray[np.int64]
    tracks: NDArray[np.int32]
    fractions: NDArray[np.float32]
    timestamps_ms: NDArray[np.int64]
    sessions: NDArray[np.uint64]  # hash of the session id
    ended: NDArray[np.bool_]  # whether the listen ended its session
    served: NDArray[np.bool_]  # whether a recommender chose the track; false where that is not known
    shown: NDArray[np.bool_]  # whether the track was on the screen: no listen; those of one record share its offset

    def __len__(self) -> int:
        return len(self.offsets)

    def since(self, first: int) -> Self:
        """Return the listens whose `offsets` are `first` or more."""
        start = int(np.searchsorted(self.offsets, first))
        return self.rows(slice(start, None))

    def split(self, row: int) -> tuple[Self, Self]:
        """Return the listens before a row, and the others; none before a row of 0 or less."""
        row = max(row, 0)
        return self.rows(slice(row)), self.rows(slice(row, None))

    def listens(self) -> Self:
        """Return the rows without impressions."""
        return self.rows(~self.shown) if self.shown.any() else self

    def without(self, offsets: NDArray[np.int64]) -> Self:
        return self.rows(~np.isin(self.offsets, offsets))

    def rows(self, rows: slice | NDArray[np.bool_]) -> Self:
        return type(self)(*[getattr(self, name)[rows] for name in _DTYPES])

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of all parts, one after another; their offsets stay relative to their own stretches."""
        if len(parts) == 1:
            return parts[0]
        return cls(*[np.concatenate([getattr(part, name) for part in parts]) for name in _DTYPES])


BATCH_LISTENS = 16_000  # 38 bytes a listen: the record stays below the brokers' limit of 1 MB


def training_batches_of(
    source_topic_id: str,
    source_partition: int,
    first_offset: int,
    next_offset: int,
    records: Sequence[tuple[int, Listen]],
) -> list[TrainingBatch]:
    """Return the batches of a stretch, each of at most `BATCH_LISTENS`; they cover it without a gap."""
    begins = range(0, len(records) or 1, BATCH_LISTENS)
    bounds = [first_offset, *(records[begin][0] for begin in begins[1:]), next_offset]
    return [
        training_batch_of(source_topic_id, source_partition, first, after, records[begin : begin + BATCH_LISTENS])
        for begin, (first, after) in zip(begins, pairwise(bounds), strict=True)
    ]


def training_batches_of_columns(
    source_topic_id: str, source_partition: int, first_offset: int, next_offset: int, listens: "ListenColumns"
) -> list[TrainingBatch]:
    """Return the batches of a stretch whose listens are columns; see `training_batches_of`."""
    begins = range(0, len(listens) or 1, BATCH_LISTENS)
    bounds = [first_offset, *listens.offsets[list(begins[1:])].tolist(), next_offset]
    batches = []
    for begin, (first, after) in zip(begins, pairwise(bounds), strict=True):
        rows = slice(begin, begin + BATCH_LISTENS)
        columns: dict[str, NDArray[Any]] = {
            "offsets": listens.offsets[rows] - first,
            **{name: getattr(listens, name)[rows] for name in _DTYPES if name not in ("offsets", "shown")},
        }
        batches.append(TrainingBatch(source_topic_id, source_partition, first, after, **_raw(columns)))
    return batches


def training_batch_of(
    source_topic_id: str,
    source_partition: int,
    first_offset: int,
    next_offset: int,
    records: Sequence[tuple[int, Listen]],
) -> TrainingBatch:
    """Return the batch of the records of a stretch, in order, that models may learn from; about 0.4 µs a listen."""
    listens = [listen for _, listen in records]
    columns: dict[str, list[Any]] = {
        "offsets": [offset - first_offset for offset, _ in records],
        "users": [listen.user for listen in listens],
        "tracks": [listen.track for listen in listens],
        "fractions": [listen.fraction for listen in listens],
        "timestamps_ms": [listen.timestamp_ms for listen in listens],
        "ended": [listen.ended_session for listen in listens],
        "served": [listen.recommender is not None for listen in listens],
    }
    sessions = b"".join([mmh3.hash_bytes(listen.session_id)[:8] for listen in listens])
    return TrainingBatch(
        source_topic_id, source_partition, first_offset, next_offset, sessions=sessions, **_raw(columns)
    )


def _raw(columns: Mapping[str, ArrayLike]) -> dict[str, bytes]:
    """Return columns as batches have them."""
    return {name: np.asarray(column, dtype=_DTYPES[name]).tobytes() for name, column in columns.items()}


def impression_batches_of(
    source_topic_id: str,
    source_partition: int,
    first_offset: int,
    next_offset: int,
    records: Sequence[tuple[int, Feedback]],
) -> list[TrainingBatch]:
    """Return the batches of the impressions in a stretch of the feedback, each of at most `BATCH_LISTENS` and a record.

    They cover it without a gap.
    """
    batches, rows = [], list[tuple[int, int, int, int]]()
    for offset, one in records:
        if len(rows) >= BATCH_LISTENS:
            batches.append(_impressions(source_topic_id, source_partition, first_offset, offset, rows))
            first_offset, rows = offset, []
        if one.kind == SHOWN:
            rows += [(offset - first_offset, one.user, track, one.timestamp_ms) for track in one.tracks or ()]
    return [*batches, _impressions(source_topic_id, source_partition, first_offset, next_offset, rows)]


def _impressions(
    topic_id: str, partition: int, first_offset: int, next_offset: int, rows: Sequence[tuple[int, int, int, int]]
) -> TrainingBatch:
    columns: dict[str, ArrayLike] = dict.fromkeys(_DTYPES, np.zeros(len(rows)))
    told = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    columns |= dict(zip(("offsets", "users", "tracks", "timestamps_ms"), told, strict=True))
    columns["shown"] = np.ones(len(rows))
    return TrainingBatch(topic_id, partition, first_offset, next_offset, **_raw(columns))


def listens_of(batch: TrainingBatch, raw: bytes, left_out: NDArray[np.int64] | None = None) -> TrainingColumns:
    """Validate the columns, and return them as arrays; raises `ValidationError`, with the message's value `raw`.

    `left_out`, shape (m,), are ascending offsets of the source partition: listens that became dead letters after the
    batch was written. They are removed before values are checked.
    """
    count = len(batch.ended)
    columns: dict[str, Any] = {}
    for name, dtype in _DTYPES.items():
        column: bytes = getattr(batch, name)
        if name in _LATER and not column:
            column = bytes(count)
        if len(column) != count * dtype.itemsize:
            raise ValidationError(f"column {name} has {len(column)} bytes, not those of {count} listens", raw)
        columns[name] = np.frombuffer(column, dtype)
    listens = TrainingColumns(**columns)
    stretch = batch.next_offset - batch.first_offset
    if batch.source_partition < 0 or batch.first_offset < 0 or stretch < 0:
        raise ValidationError(
            f"partition {batch.source_partition}, offsets {batch.first_offset} to {batch.next_offset} are no stretch",
            raw,
        )
    before, after = listens.offsets[:-1], listens.offsets[1:]
    rises = (after > before) | (listens.shown[1:] & (after == before))  # impressions of one record share its offset
    if not rises.all() or (count and listens.offsets[-1] >= stretch):
        raise ValidationError(f"offsets do not rise within the stretch of {stretch}", raw)
    if left_out is not None:
        first, last = np.searchsorted(left_out, [batch.first_offset, batch.next_offset])
        if first < last:
            listens = listens.without(left_out[first:last] - batch.first_offset)
    for name, highest in _HIGHEST.items():
        values = getattr(listens, name)
        if not ((values >= 0) & (values <= highest)).all():
            raise ValidationError(f"column {name} has a value that is not between 0 and {highest}", raw)
    return listens


_NAME = re.compile(r"(?P<name>.+)@(?P<number>\d+)of(?P<count>\d+)", re.DOTALL)


class Shard(NamedTuple):
    """One of several shards."""

    number: int
    of: int

    def name_of(self, model: str) -> str:
        """Return the name under which the shard publishes its snapshots of a model, such as `fism@1of2`."""
        return model if self.of == 1 else f"{model}@{self.number}of{self.of}"


ALONE = Shard(0, 1)


def model_and_shard(name: str) -> tuple[str, Shard]:
    """Return the model and the shard of which a snapshot has this name; the inverse of `Shard.name_of`."""
    found = _NAME.fullmatch(name)
    if found is None or int(found["number"]) >= int(found["count"]) or int(found["count"]) < 2:
        return name, ALONE
    return found["name"], Shard(int(found["number"]), int(found["count"]))


def shard_of(source_partition: int, shards: int) -> int:
    """Return the partition of the training topic that gets the batches of a partition of the listens.

    If the number of shards divides that of the partitions, before and after listens are moved to more partitions, a
    listener stays in their shard.
    """
    return source_partition % shards
