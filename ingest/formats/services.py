"""Logs of music services: ListenBrainz's dumps, Yandex's Yambda, Spotify's sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ingest.formats.generic import json_rows, parquet_rows, value_at
from ingest.inputs import Member, Source
from ingest.lines import Rows, Table, iter_table, places_of
from ingest.model import DatasetError


def read_listenbrainz(source: Source, columns: Mapping[str, str]) -> Iterator[Rows]:
    """Read listens, a JSON object a line, of the dump's files by month or of an API client."""
    del columns
    members = source.ending(".listens", ".jsonl", ".json") or source.members[: len(source.members) == 1]
    if not members:
        raise source.missing(".listens file of ListenBrainz")
    for member in members:
        yield from json_rows(source, member, _listen)


_RECORDING = (
    ("track_metadata", "mbid_mapping", "recording_mbid"),
    ("track_metadata", "additional_info", "recording_mbid"),
    ("recording_msid",),
    ("track_metadata", "additional_info", "recording_msid"),
)


def _listen(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "user": line.get("user_name") or line.get("user_id"),
        "item": next((found for path in _RECORDING if (found := value_at(line, path))), None),
        "time": line.get("listened_at") or line.get("timestamp"),
        "title": value_at(line, ("track_metadata", "track_name")),
        "artist": value_at(line, ("track_metadata", "artist_name")),
        "release": value_at(line, ("track_metadata", "release_name")),
    }


_YAMBDA = {"listens": "listen", "likes": "like", "unlikes": "unlike", "dislikes": "dislike", "undislikes": "undislike"}
_YAMBDA_COLUMNS = {"user": "uid", "item": "item_id", "time": "timestamp"}
_YAMBDA_OPTIONAL = {"played": "played_ratio_pct", "organic": "is_organic", "event": "event_type"}


def read_yambda(source: Source, columns: Mapping[str, str]) -> Iterator[Rows]:
    """Read the flat layout: a Parquet file for each kind of event, or `multi_event.parquet` with all."""
    del columns
    if artists := source.find("artist_item_mapping.parquet"):
        for rows in parquet_rows(source, artists, {"item": "item_id", "artist": "artist_id"}):
            yield rows._replace(about_items=True)
    found = [source.find("multi_event.parquet")]
    if found == [None]:
        found = [source.find(f"{name}.parquet") for name in _YAMBDA]
    members = [member for member in found if member is not None]
    if not members:
        raise source.missing(f"{', '.join(f'{name}.parquet' for name in _YAMBDA)} or multi_event.parquet of Yambda")
    for member in members:
        yield from _yambda_events(source, member)


def _yambda_events(source: Source, member: Member) -> Iterator[Rows]:
    with member.open() as stream:
        schema = pq.read_schema(stream)
    if "timestamp" in schema.names and pa.types.is_list(schema.field("timestamp").type):
        raise DatasetError(f"{member.name} has Yambda's sequential layout; import the flat one (the folder flat/)")
    optional = {role: name for role, name in _YAMBDA_OPTIONAL.items() if name in schema.names}
    kind = _YAMBDA.get(member.base.removesuffix(".parquet"))
    for rows in parquet_rows(source, member, {**_YAMBDA_COLUMNS, **optional}):
        fields = dict(rows.fields)
        if "played" in fields:
            fields["played"] = pc.divide(fields["played"].cast(pa.float64()), 100.0)
            fields["duration"] = pa.array(np.ones(len(rows.numbers)))  # a share, which may be more than 1
        if kind is not None:
            fields["event"] = pa.repeat(kind, len(rows.numbers))
        yield rows._replace(fields=fields)


_MSSD = {
    "user": "session_id", "item": "track_id_clean", "position": "session_position", "date": "date",
    "hour": "hour_of_day", "skip_1": "skip_1", "skip_2": "skip_2", "skip_3": "skip_3",
}  # fmt: skip
_HEARD = {"skip_1": 0.05, "skip_2": 0.25, "skip_3": 0.75}
"""What was heard of a track that was skipped: played very briefly, briefly, for the most part."""


def read_mssd(source: Source, columns: Mapping[str, str]) -> Iterator[Rows]:
    """Read the sessions of the Sequential Skip Prediction Challenge; a session is a user of its own."""
    del columns
    files = source.ending(".csv")
    features = [member for member in files if member.base.startswith("tf_")]
    logs = [member for member in files if member not in features] or source.members[: len(source.members) == 1]
    if not logs:
        raise source.missing("log_*.csv of Spotify's sessions")
    for member in features:
        about = {"item": "track_id", "release": "release_year", "year": "release_year"}
        chosen = partial(places_of, member.name, about)
        yield from iter_table(source, member, Table(","), chosen, about_items=True)
    begun: tuple[str, int] = "", 0
    for member in logs:
        for rows in iter_table(source, member, Table(","), partial(places_of, member.name, _MSSD)):
            times_ms, begun = _session_times(rows, begun)
            fields = {name: rows.fields[name] for name in ("user", "item")}
            yield rows._replace(
                fields={**fields, "session": fields["user"], "time": pa.array(times_ms), "played": _heard(rows)}
            )


def _heard(rows: Rows) -> pa.Array:
    heard: Any = pa.scalar(1.0)
    for name in ("skip_3", "skip_2", "skip_1"):
        heard = pc.if_else(pc.equal(pc.utf8_lower(rows.fields[name]), "true"), _HEARD[name], heard)
    return heard


def _session_times(rows: Rows, begun: tuple[str, int]) -> tuple[NDArray[np.int64], tuple[str, int]]:
    """Return a time for each row: the hour in which its session began, and a second for each position.

    The log has dates and hours only; the seconds keep the order of the session.

    Parameters
    ----------
    begun : (str, int)
        The last session of the rows before, and when it began.
    """
    if not len(rows.numbers):
        return np.zeros(0, dtype=np.int64), begun
    hours = pc.binary_join_element_wise(rows.fields["date"], rows.fields["hour"], " ").dictionary_encode()
    known = np.array([_hour_ms(text) for text in hours.dictionary.to_pylist()], dtype=np.int64)
    hours_ms = known[hours.indices.to_numpy()]
    sessions = rows.fields["user"].to_numpy(zero_copy_only=False)
    first = np.ones(len(sessions), dtype=bool)
    first[1:] = sessions[1:] != sessions[:-1]
    if sessions[0] == begun[0]:
        hours_ms[0] = begun[1]
    start_ms = hours_ms[np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))]
    numeric = pc.match_substring_regex(rows.fields["position"], r"^\d{1,6}$")
    positions = pc.if_else(numeric, rows.fields["position"], "0").cast(pa.int64()).to_numpy()
    times_ms = np.where(start_ms < 0, start_ms, start_ms + 1000 * positions)
    return times_ms, (str(sessions[-1]), int(start_ms[-1]))


def _hour_ms(text: str) -> int:
    try:
        return int(datetime.strptime(text, "%Y-%m-%d %H").replace(tzinfo=UTC).timestamp()) * 1000
    except ValueError:
        return -1
