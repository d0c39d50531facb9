"""Logs of music services: ListenBrainz's dumps and Yandex's Yambda."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from botify.ingest.formats.generic import json_rows, parquet_rows, value_at
from botify.ingest.inputs import Member, Source
from botify.ingest.lines import Rows
from botify.ingest.model import DatasetError


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
