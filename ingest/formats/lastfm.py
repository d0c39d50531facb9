"""Last.fm: the plays of a thousand users (`lastfm-dataset-1K`) and HetRec 2011's tags of artists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from botify.ingest.inputs import Source
from botify.ingest.lines import Rows, Table, iter_table, places_of

_PLAYS = "userid-timestamp-artid-artname-traid-traname.tsv"
_COLUMNS = ("user", "time", "artist_id", "artist", "track_id", "title")
_TAGS = "user_taggedartists-timestamps.dat"


def read_lastfm_1k(source: Source, columns: Mapping[str, str]) -> Iterator[Rows]:
    """Read plays; a track without a MusicBrainz id is known by its artist and title."""
    del columns
    member = source.find(_PLAYS) or source.one(".tsv")
    places = {name: place for place, name in enumerate(_COLUMNS)}
    for rows in iter_table(source, member, Table("\t", _COLUMNS), lambda _: places):
        track, artist, title = (rows.fields[name] for name in ("track_id", "artist", "title"))
        named = pc.if_else(pc.equal(title, ""), "", pc.binary_join_element_wise(artist, title, " – "))
        item = pc.if_else(pc.equal(track, ""), named, track)
        yield rows._replace(
            fields={name: rows.fields[name] for name in ("user", "time", "artist", "title")} | {"item": item}
        )


def read_hetrec(source: Source, columns: Mapping[str, str]) -> Iterator[Rows]:
    """Read the times at which users tagged artists; several tags at one time are one event."""
    del columns
    member = source.find(_TAGS)
    if member is None:
        raise source.missing(f"{_TAGS} of HetRec")
    if artists := source.find("artists.dat"):
        chosen = partial(places_of, artists.name, {"item": "id", "title": "name", "artist": "name"})
        yield from iter_table(source, artists, Table("\t"), chosen, about_items=True)
    chosen = partial(places_of, member.name, {"user": "userID", "item": "artistID", "time": "timestamp"})
    seen: set[tuple[str, str, str]] = set()
    for rows in iter_table(source, member, Table("\t"), chosen):
        yield _first_tags(rows, seen)


def _first_tags(rows: Rows, seen: set[tuple[str, str, str]]) -> Rows:
    """Return the rows without the second and further tags of a user, an artist and a time."""
    first = np.zeros(len(rows.numbers), dtype=bool)
    columns = (rows.fields[name].to_pylist() for name in ("user", "item", "time"))
    for place, event in enumerate(zip(*columns, strict=True)):
        first[place] = event not in seen
        seen.add(event)
    kept, others = np.flatnonzero(first), np.flatnonzero(~first)
    reason = "another tag of the same user, artist and time"
    tags = zip(rows.numbers[others].tolist(), rows.raw(others), strict=True)
    return rows._replace(
        numbers=rows.numbers[kept],
        fields={name: values.take(pa.array(kept)) for name, values in rows.fields.items()},
        raw=lambda places: rows.raw(kept[places]),
        broken=sorted([*rows.broken, *((number, reason, text) for number, text in tags)]),
    )
