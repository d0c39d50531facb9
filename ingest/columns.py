"""Columns of texts to columns of events: what can be an event, and why the rest cannot."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from botify.core.keyed_random import keys_of_texts
from botify.core.times import iso_ms
from botify.ingest.dataset import (
    DISLIKE,
    EVENT_SCHEMA,
    LIKE,
    PLAY,
    RATING,
    REJECTED_SCHEMA,
    SKIP,
    SKIP_BELOW,
    UNDISLIKE,
    UNLIKE,
)
from botify.ingest.inputs import Rows
from botify.schemas.sketches import MOST_COMPONENTS, sketch_of
from botify.schemas.validation import MAX_ID_BYTES, MAX_TIMESTAMP_MS

MAX_RAW = 500  # characters that are kept of a rejected row
STAGED_SCHEMA = pa.schema(
    [("ordinal", pa.int64()), ("user", pa.string()), ("item", pa.string()), *list(EVENT_SCHEMA)[2:]]
)
"""The columns of `EVENT_SCHEMA`, but with the source's own ids."""
ABOUT = ("title", "artist", "genre", "release", "mood", "year", "country", "vector")  # genres with | between
ABOUT_SCHEMA = pa.schema([("item", pa.string()), *((name, pa.string()) for name in ABOUT), ("ordinal", pa.int64())])

VALUES: Mapping[str, tuple[int, float]] = {
    **dict.fromkeys(("play", "listen", "scrobble", "stream"), (PLAY, 1.0)),
    "skip": (SKIP, 0.0),
    **dict.fromkeys(("like", "love", "favorite"), (LIKE, 1.0)),
    **dict.fromkeys(("unlike", "unlove"), (UNLIKE, 0.25)),
    **dict.fromkeys(("dislike", "hate", "ban"), (DISLIKE, 0.0)),
    "undislike": (UNDISLIKE, 0.5),
}
"""What an event is called, to its kind and, where nothing says how much was heard, its value."""

UNITS, NS = ((1e11, 1e3), (1e14, 1.0), (1e17, 1e-3)), 1e-6
"""Sizes below which a time is a number of s, ms or µs since 1970, and how many ms each has; larger ones are of ns."""

Mask = NDArray[np.bool_]
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"


class Chunk(NamedTuple):
    """What became of some rows."""

    events: pa.Table  # of `STAGED_SCHEMA`
    items: pa.Table  # of `ABOUT_SCHEMA`: what the rows say about items, each statement once
    rejected: pa.Table  # of `REJECTED_SCHEMA`
    accepted: int  # rows that are not rejected


def convert(rows: Rows, first: int, scale: tuple[float, float]) -> Chunk:
    """Convert rows; `first` is the number of the first row that is accepted here, which orders events of one time."""
    verdict = _Verdict(len(rows.numbers))
    fields = {role: _plain(values) for role, values in rows.fields.items()}
    item = _id("item", fields["item"], verdict)
    if "vector" in fields:
        fields["vector"] = _sketches(fields["vector"], verdict)
    columns: dict[str, Any] = {"item": item}
    if not rows.about_items:
        columns["user"] = user = _id("user", fields["user"], verdict)
        columns["time_ms"] = _times(fields.get("time"), verdict)
        columns["fraction"], columns["kind"] = _values(fields, scale, verdict)
        columns["session"] = _sessions(user, fields.get("session"))
        columns["organic"] = _organic(fields.get("organic"), verdict)
    good = np.flatnonzero(verdict.codes == 0)
    ordinals = pa.array(np.arange(first, first + len(good), dtype=np.int64))
    arrays = {name: pa.array(of) if isinstance(of, np.ndarray) else of for name, of in columns.items()}
    kept = {name: values.take(pa.array(good)) for name, values in arrays.items()}
    events = STAGED_SCHEMA.empty_table()
    if not rows.about_items:
        events = pa.table({**kept, "ordinal": ordinals}).select(STAGED_SCHEMA.names).cast(STAGED_SCHEMA)
    return Chunk(events, _about(kept["item"], ordinals, fields, good), _rejected(rows, verdict), len(good))


class _Verdict:
    """Why each row cannot be an event: the first reason counts."""

    def __init__(self, rows: int) -> None:
        self.codes = np.zeros(rows, dtype=np.int16)
        self.reasons = [""]

    def refuse(self, bad: Mask, reason: str) -> None:
        fresh = bad & (self.codes == 0)
        if fresh.any():
            self.codes[fresh] = len(self.reasons)
            self.reasons.append(reason)


def _rejected(rows: Rows, verdict: _Verdict) -> pa.Table:
    bad = np.flatnonzero(verdict.codes)
    reasons = [verdict.reasons[code] for code in verdict.codes[bad].tolist()]
    found = sorted([*rows.broken, *zip(rows.numbers[bad].tolist(), reasons, rows.raw(bad), strict=True)])
    columns = [[rows.file] * len(found), *(list(column) for column in zip(*found, strict=True))] if found else [[]] * 4
    columns[3] = [text[:MAX_RAW] for text in columns[3]]
    return pa.table(dict(zip(REJECTED_SCHEMA.names, columns, strict=True)), schema=REJECTED_SCHEMA)


def _about(item: pa.Array, ordinals: pa.Array, fields: Mapping[str, pa.Array], good: NDArray[np.int64]) -> pa.Table:
    """Return what rows say about their items, the first of equal statements."""
    if not any(name in fields for name in ABOUT):
        return ABOUT_SCHEMA.empty_table()
    nothing = pa.nulls(len(good), pa.string())
    said = {name: _text(fields[name].take(pa.array(good))) if name in fields else nothing for name in ABOUT}
    table = pa.table({"item": item, **said, "ordinal": ordinals})
    grouped = table.group_by(["item", *ABOUT], use_threads=False).aggregate([("ordinal", "min")])
    return grouped.rename_columns(ABOUT_SCHEMA.names).cast(ABOUT_SCHEMA)


def _sketches(values: pa.Array, verdict: _Verdict) -> pa.Array:
    """Return the sketches of vectors, in hexadecimal: of lists, or texts of numbers, with or without brackets."""
    vectors = [tuple(one) if isinstance(one, list) else one for one in values.to_pylist()]
    made = {one: _sketch(one) for one in set(vectors)}
    sketches = [made[one] for one in vectors]
    why = f"vector is not 1 to {MOST_COMPONENTS} finite numbers, not all 0"
    verdict.refuse(np.array([one == "" for one in sketches], dtype=np.bool_), why)
    return pa.array(sketches, pa.string())


def _sketch(vector: Any) -> str | None:
    """Return the sketch of a vector, "" if it has none, and None without a vector."""
    if not vector:
        return None
    numbers = _SEPARATORS.split(vector.strip("[] ")) if isinstance(vector, str) else vector
    try:
        return sketch_of([float(one) for one in numbers]).hex()
    except (ValueError, TypeError):
        return ""


_SEPARATORS = re.compile(r"[\s,|;]+")


def _text(values: pa.Array) -> pa.Array:
    """Return texts without blanks around them; what is empty is unknown."""
    trimmed = pc.utf8_trim_whitespace(values.cast(pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _plain(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _id(role: str, values: pa.Array, verdict: _Verdict) -> pa.Array:
    texts = values.cast(pa.string())
    lengths = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    verdict.refuse(lengths == 0, f"{role} is empty")
    verdict.refuse(lengths > MAX_ID_BYTES, f"{role} has more than {MAX_ID_BYTES} bytes")
    return texts


def _numbers(role: str, values: pa.Array, verdict: _Verdict) -> tuple[NDArray[np.float64], Mask]:
    """Return the numbers and where there are any; refuse texts that are no number."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = _text(values)
        numeric = pc.fill_null(pc.match_substring_regex(values, _NUMBER), False)
        verdict.refuse(_mask(pc.and_(pc.is_valid(values), pc.invert(numeric))), f"{role} is no number")
        values = pc.if_else(numeric, values, pa.scalar(None, values.type))
    numbers = pc.fill_null(values.cast(pa.float64(), safe=False), np.nan).to_numpy(zero_copy_only=False)
    verdict.refuse(np.isinf(numbers), f"{role} is no number")
    return numbers, np.isfinite(numbers)


def _mask(values: pa.Array) -> Mask:
    return np.asarray(values.to_numpy(zero_copy_only=False).astype(bool))


def _values(
    fields: Mapping[str, pa.Array], scale: tuple[float, float], verdict: _Verdict
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return the graded feedback and the kind of each row: a rating, else the share heard, else the kind's value."""
    kinds, fractions = _named(fields.get("event"), len(verdict.codes), verdict)
    if "played" in fields:
        share, known = _share(fields["played"], fields.get("duration"), verdict)
        heard = known & (kinds <= SKIP)
        fractions = np.where(heard, np.minimum(share, 1.0), fractions)
        kinds = np.where(heard & (fractions < SKIP_BELOW), SKIP, kinds)
    if "rating" in fields:
        lowest, highest = scale
        ratings, rated = _numbers("rating", fields["rating"], verdict)
        if "event" not in fields:
            verdict.refuse(~rated, "rating is empty")
        outside = rated & ((ratings > highest) | (ratings < 0))
        verdict.refuse(outside, f"rating is not between 0 and {highest:g}")
        value = np.clip((ratings - lowest) / (highest - lowest), 0.0, 1.0)
        fractions, kinds = np.where(rated, value, fractions), np.where(rated, RATING, kinds)
    return fractions.astype(np.float32), kinds.astype(np.uint8)


def _named(events: pa.Array | None, rows: int, verdict: _Verdict) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if events is None:
        return np.full(rows, PLAY), np.ones(rows)
    words = pc.utf8_lower(_text(events))
    known = list(VALUES)
    found = pc.index_in(pc.replace_substring_regex(words, "s$", ""), pa.array(known))
    verdict.refuse(_mask(pc.is_null(found)), f"event is none of {', '.join(known)}")
    places = pc.fill_null(found, 0).to_numpy()
    return np.array([VALUES[word][0] for word in known])[places], np.array([VALUES[word][1] for word in known])[places]


def _share(played: pa.Array, duration: pa.Array | None, verdict: _Verdict) -> tuple[NDArray[np.float64], Mask]:
    share, known = _numbers("played", played, verdict)
    verdict.refuse(known & (share < 0), "played is negative")
    if duration is None:
        verdict.refuse(known & (share > 1), "played is more than 1, and no duration is mapped")
        return share, known
    lengths, timed = _numbers("duration", duration, verdict)
    verdict.refuse(known & ~timed, "duration is empty")
    verdict.refuse(timed & (lengths <= 0), "duration is not positive")
    with np.errstate(divide="ignore", invalid="ignore"):
        return share / lengths, known


def _times(values: pa.Array | None, verdict: _Verdict) -> pa.Array | NDArray[np.int64]:
    """Return milliseconds since the epoch."""
    if values is None:
        return pa.nulls(len(verdict.codes), pa.int64())
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        values = values.cast(pa.timestamp("ms", getattr(values.type, "tz", None)), safe=False).cast(pa.int64())
        times = pc.fill_null(values, -1).to_numpy()
        empty = _mask(pc.is_null(values))
    else:
        times, empty = _times_of_texts(values)
    verdict.refuse(empty, "time is empty")
    verdict.refuse(times == _NO_TIME, "time is neither a number nor ISO 8601")
    verdict.refuse((times < 0) | (times > MAX_TIMESTAMP_MS), "time is not between 1970 and 2200")
    return times


_NO_TIME = -(2**62)


def _times_of_texts(values: pa.Array) -> tuple[NDArray[np.int64], Mask]:
    texts = _text(values)
    empty = _mask(pc.is_null(texts))
    numeric = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), False)
    numbers = pc.fill_null(pc.if_else(numeric, texts, pa.scalar(None, pa.string())).cast(pa.float64()), -1.0)
    times = _ms_of_numbers(numbers.to_numpy(zero_copy_only=False))
    others = np.flatnonzero(~_mask(numeric) & ~empty)
    if len(others):
        times[others] = [_ms_of_iso(text) for text in texts.take(pa.array(others)).to_pylist()]
    return times, empty


def _ms_of_numbers(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    size = np.abs(numbers)
    factor = np.select([size < below for below, _ in UNITS], [ms for _, ms in UNITS], NS)
    return np.asarray(np.clip(np.rint(numbers * factor), -(2.0**61), 2.0**61).astype(np.int64))


def _ms_of_iso(text: str) -> int:
    try:
        return iso_ms(text)
    except ValueError:
        return _NO_TIME


def _sessions(user: pa.Array, session: pa.Array | None) -> pa.Array:
    """Return a number for each session that the log names: 63 bits of a hash of the user and the name."""
    if session is None:
        return pa.nulls(len(user), pa.int64())
    named = pc.binary_join_element_wise(user, session.cast(pa.string()), "\x1f", null_handling="replace")
    distinct = named.dictionary_encode()
    keys = (keys_of_texts(distinct.dictionary.to_pylist()) >> np.uint64(1)).astype(np.int64)
    return pa.array(keys[distinct.indices.to_numpy()] if len(keys) else keys)


def _organic(values: pa.Array | None, verdict: _Verdict) -> pa.Array:
    if values is None:
        return pa.nulls(len(verdict.codes), pa.bool_())
    if pa.types.is_boolean(values.type):
        return values
    words = pc.utf8_lower(_text(values))
    yes, no = (pc.is_in(words, pa.array(one)) for one in (_YES, _NO))
    verdict.refuse(_mask(pc.and_(pc.is_valid(words), pc.invert(pc.or_(yes, no)))), "organic is neither 0 nor 1")
    return pc.if_else(pc.or_(yes, no), yes, pa.scalar(None, pa.bool_()))


_YES: Sequence[str] = ("1", "true", "yes")
_NO: Sequence[str] = ("0", "false", "no")
