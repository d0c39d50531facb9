"""Listens as a data frame: one row a listen, one column a field of `botify.schemas.events.Listen`."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.reader import FOLLOW_MS, TopicReader, log_record
from botify.core.settings import Settings
from botify.schemas.dead_letters import RejectedBefore
from botify.schemas.events import DESCRIBED, Feedback, Listen, Recommendation, RecommendationRequest, Session
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.schemas.validation import erased_user, iter_valid

CATEGORIES = ("session_id", "recommender", "treatments", "policy")  # categorical columns, so that ten million rows fit
_NUMBERS: Mapping[str, type[np.generic]] = {
    "user": np.int64,
    "track": np.int64,
    "fraction": np.float64,
    "timestamp_ms": np.int64,
    "position": np.int32,
    "ended_session": np.bool_,
    "propensity": np.float64,
    "latency_ms": np.float64,
    "candidates": np.float64,
}
_HASH_ROWS = 1_000_000


def listens_frame(listens: Iterable[Listen]) -> pd.DataFrame:
    """Return listens as a frame with `Listen`'s fields.

    `CATEGORIES` are categorical, the treatments as the text of `treatments_text`; a missing number is NaN.
    """
    transposed = zip(*listens, strict=True)
    columns = dict(zip(Listen._fields, transposed, strict=False)) or dict.fromkeys(Listen._fields, ())
    columns["treatments"] = tuple(map(treatments_text, columns["treatments"]))
    return pd.DataFrame({name: _column(name, values) for name, values in columns.items()})


def _column(name: str, values: tuple[object, ...]) -> pd.Series:
    if name in _NUMBERS:
        return pd.Series(np.array(values, dtype=_NUMBERS[name]))
    texts = pd.Series(values, dtype="str")
    return texts.astype("category") if name in CATEGORIES else texts


def treatments_text(treatments: Mapping[str, str]) -> str:
    """Return the treatments as JSON with sorted names, so that equal treatments are equal texts."""
    return _json(tuple(treatments.items()))


@lru_cache(10_000)
def _json(treatments: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(dict(treatments), sort_keys=True)


def concat_listens(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate frames of listens; plain `pandas.concat` would turn the categories into texts."""
    parts = list(frames) or [listens_frame(())]
    joined = {
        name: _union([part[name] for part in parts])
        if name in CATEGORIES
        else pd.concat([part[name] for part in parts], ignore_index=True)
        for name in parts[0].columns
    }
    return pd.DataFrame(joined)


def _union(parts: Sequence[pd.Series]) -> pd.Categorical:
    """Concatenate in linear time; `union_categoricals` goes through all categories for each part."""
    numbers: dict[str, int] = {}
    codes = [
        np.array([*(numbers.setdefault(text, len(numbers)) for text in part.cat.categories), -1])[part.cat.codes]
        for part in parts
    ]
    return pd.Categorical.from_codes(np.concatenate(codes), pd.Index([*numbers], dtype=parts[0].cat.categories.dtype))


def drop_copies(listens: pd.DataFrame) -> pd.DataFrame:
    """Keep the first listen of each event id, by a 64-bit hash: ten million ids collide with a probability of 3e-6."""
    kept = ~pd.Series(hash_texts(listens["event_id"])).duplicated().to_numpy()
    return listens if kept.all() else listens[kept].reset_index(drop=True)


def hash_texts(texts: pd.Series) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each text, in slices: a slice is Python objects while it is hashed."""
    hashes = np.empty(len(texts), dtype=np.uint64)
    for start in range(0, len(texts), _HASH_ROWS):
        part = texts.iloc[start : start + _HASH_ROWS].to_numpy(dtype=object)
        hashes[start : start + _HASH_ROWS] = pd.util.hash_array(part, categorize=False)
    return hashes


def of_run(listens: pd.DataFrame, run_id: str) -> pd.DataFrame:
    """Keep the listens of one run of the simulator, whose session ids are `<run>-<user>-<number>`."""
    sessions = listens["session_id"].cat
    belongs = sessions.categories.str.rsplit("-", n=2).str[0] == run_id
    kept = np.asarray(belongs, dtype=bool)[sessions.codes]
    return listens[kept].reset_index(drop=True)


class Erasures:
    """Follows the tombstones of erased listeners: `at_ms` has when each was erased last, as of the last `refresh`."""

    def __init__(self, settings: Settings) -> None:
        self._reader = TopicReader(settings, Topics.of(settings).feedback.name, wait_ms=FOLLOW_MS)
        self.at_ms: dict[int, int] = {}

    def refresh(self) -> None:
        """Read what was added; blocks."""
        for messages in self._reader.read_to_end():
            for message in messages:
                if (user := erased_user(log_record(message))) is not None:
                    self.at_ms[user] = message.timestamp()[1]

    def close(self) -> None:
        self._reader.close()


E = TypeVar("E", RecommendationRequest, Recommendation, Session, Feedback)


def read_events(settings: Settings, topic: str, event: type[E]) -> Iterator[tuple[int, E]]:
    """Yield the valid events of a topic, copies too, with the record's timestamp in ms; each partition in its order.

    Nothing is committed. Raises `TopicError` if the topic does not exist or the broker stops answering.
    """
    codec, reader = codec_of(settings), TopicReader(settings, topic)
    try:
        for messages in reader.read_to_end():
            for message, one in iter_valid(messages, event, codec):
                yield message.timestamp()[1], one
    finally:
        reader.close()


def read_attribute(settings: Settings, name: str) -> "pd.Series[str]":
    """Return the value of an attribute of each listener who has it, by user; raises as `read_events`."""
    erasures = Erasures(settings)
    try:
        erasures.refresh()
    finally:
        erasures.close()
    newest: dict[int, tuple[int, bytes]] = {}
    for told_ms, one in read_events(settings, Topics.of(settings).feedback.name, Feedback):
        if one.kind == DESCRIBED and told_ms > erasures.at_ms.get(one.user, -1):
            described = one.timestamp_ms, one.description()
            newest[one.user] = max(newest.get(one.user, described), described)
    values = {user: json.loads(attributes).get(name) for user, (_, attributes) in newest.items()}
    return pd.Series(values, dtype="str").dropna()


def read_listens(
    settings: Settings,
    run_id: str | None = None,
    from_offsets: Mapping[int, int] | None = None,
    to_offsets: Mapping[int, int] | None = None,
    tell: Callable[[float, float], None] = lambda count, total: None,
) -> pd.DataFrame:
    """Read listens from the topic without copies, dead letters and invalid records, like the worker; commit nothing.

    `from_offsets` and `to_offsets` are the first offset to read, and the first one not to read (by default the end of
    the topic). `tell` gets the number of records since its last call, and that of all. Raises `TopicError` if the topic
    does not exist or the broker stops answering.
    """
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    reader, rejected = TopicReader(settings, topic, from_offsets), RejectedBefore(settings, topic)
    try:
        rejected.refresh()
        ends, frames = to_offsets or end_offsets(settings, topic), []
        total = sum(ends.values()) - sum(reader.next_offsets.values())
        for batch in reader.read_to_end(ends):
            frame = listens_frame([listen for _, listen in iter_valid(batch, Listen, codec, rejected.offsets)])
            frames.append(frame if run_id is None else of_run(frame, run_id))
            tell(len(batch), total)
        listens = drop_copies(concat_listens(frames))
    finally:
        reader.close()
        rejected.close()
    return listens
