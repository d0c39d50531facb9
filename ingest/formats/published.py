"""Published logs: MovieLens, RecBole's files, Last.fm, ListenBrainz, Yandex's Yambda, and Botify's own data log."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from botify.ingest.dataset import DatasetError
from botify.ingest.formats.generic import json_rows, parquet_rows, value_at
from botify.ingest.inputs import Member, Rows, Source, Table, iter_table, places_of

_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_RATING = ("user", "item", "rating", "time")
_BY_PLACE = {role: place for place, role in enumerate(_RATING)}
_RATINGS_CSV = {"user": "userId", "item": "movieId", "rating": "rating", "time": "timestamp"}
_MOVIES_CSV = {"item": "movieId", "title": "title", "genre": "genres"}


def read_movielens(source: Source) -> Iterator[Rows]:
    """Read ratings and films of MovieLens 100k, 1M, 25M or 32M; the files that are there tell the layout."""
    if data := source.find("u.data"):
        if films := source.find("u.item"):
            names = ("item", "title", "release", "video", "url", *_GENRES_100K)
            table, places = Table("|", names, encoding="latin-1"), {name: names.index(name) for name in names}
            for rows in iter_table(source, films, table, lambda _: places, about_items=True):
                yield _with_genres_of_flags(rows)
        yield from iter_table(source, data, Table("\t", _RATING), lambda _: _BY_PLACE)
    elif data := source.find("ratings.dat"):
        if films := source.find("movies.dat"):
            table = Table("::", ("item", "title", "genre"), encoding="latin-1")
            yield from _with_year(
                iter_table(source, films, table, lambda _: {"item": 0, "title": 1, "genre": 2}, about_items=True)
            )
        yield from iter_table(source, data, Table("::", _RATING), lambda _: _BY_PLACE)
    elif data := source.find("ratings.csv"):
        table = Table(",", quoted=True)
        if films := source.find("movies.csv"):
            chosen = partial(places_of, films.name, _MOVIES_CSV)
            yield from _with_year(iter_table(source, films, table, chosen, about_items=True))
        yield from iter_table(source, data, table, partial(places_of, data.name, _RATINGS_CSV))
    elif source.ending(".inter"):
        yield from read_recbole(source)
    else:
        raise source.missing("u.data, ratings.dat, ratings.csv or .inter file of MovieLens")


def _with_genres_of_flags(rows: Rows) -> Rows:
    # not with null_handling="skip": pyarrow 26 leaves out rows whose values are all null
    flags = [pc.if_else(pc.equal(rows.fields[name], "1"), f"|{name}", "") for name in _GENRES_100K[1:]]
    genre = pc.utf8_ltrim(pc.binary_join_element_wise(*flags, ""), "|")
    year = pc.utf8_slice_codeunits(rows.fields["release"], -4)  # of 01-Jan-1995
    fields = {name: rows.fields[name] for name in ("item", "title", "release")}
    return rows._replace(fields=fields | {"genre": genre, "year": year})


def _with_year(films: Iterable[Rows]) -> Iterator[Rows]:
    """Take the year that ends a title for the release, and no genre for none."""
    for rows in films:
        year = pc.struct_field(pc.extract_regex(rows.fields["title"], r"\((?P<year>\d{4})\)\s*$"), "year")
        genre = pc.replace_substring(rows.fields["genre"], "(no genres listed)", "")
        yield rows._replace(fields={**rows.fields, "release": year, "year": year, "genre": genre})


def read_recbole(source: Source) -> Iterator[Rows]:
    """Read `.inter` and, where it is there, `.item`; the header names each column's type."""
    if not source.ending(".inter"):
        raise source.missing(".inter file of RecBole")
    for member in source.ending(".item"):
        for rows in iter_table(source, member, Table("\t"), partial(_about_places, member), about_items=True):
            genre = rows.fields.get("genre")  # a sequence of tokens has blanks between them
            fields = {} if genre is None else {"genre": pc.replace_substring(pc.utf8_trim(genre, " "), " ", "|")}
            yield rows._replace(fields={**rows.fields, **fields})
    for member in source.ending(".inter"):
        yield from iter_table(source, member, Table("\t"), partial(_event_places, member))


def _event_places(member: Member, header: Sequence[str]) -> dict[str, int]:
    names = [name.partition(":")[0] for name in header]
    optional = {role: name for role, name in (("rating", "rating"), ("time", "timestamp")) if name in names}
    return places_of(member.name, {"user": "user_id", "item": "item_id", **optional}, names)


_ABOUT = {
    "title": ("title", "name"),
    "artist": ("artist",),
    "genre": ("genre", "class", "categor"),
    "release": ("release", "year"),
    "mood": ("mood",),
    "year": ("year",),
    "country": ("country",),
}


def _about_places(member: Member, header: Sequence[str]) -> dict[str, int]:
    names = [name.partition(":")[0] for name in header]
    found = {
        role: next((name for part in parts for name in names[1:] if part in name.lower()), None)
        for role, parts in _ABOUT.items()
    }
    wanted = {role: name for role, name in found.items() if name is not None}
    return places_of(member.name, {"item": "item_id", **wanted}, names)


_PLAYS = "userid-timestamp-artid-artname-traid-traname.tsv"
_COLUMNS = ("user", "time", "artist_id", "artist", "track_id", "title")
_TAGS = "user_taggedartists-timestamps.dat"


def read_lastfm_1k(source: Source) -> Iterator[Rows]:
    """Read plays; a track without a MusicBrainz id is known by its artist and title."""
    member = source.find(_PLAYS) or source.one(".tsv")
    places = {name: place for place, name in enumerate(_COLUMNS)}
    for rows in iter_table(source, member, Table("\t", _COLUMNS), lambda _: places):
        track, artist, title = (rows.fields[name] for name in ("track_id", "artist", "title"))
        named = pc.if_else(pc.equal(title, ""), "", pc.binary_join_element_wise(artist, title, " – "))
        item = pc.if_else(pc.equal(track, ""), named, track)
        yield rows._replace(
            fields={name: rows.fields[name] for name in ("user", "time", "artist", "title")} | {"item": item}
        )


def read_hetrec(source: Source) -> Iterator[Rows]:
    """Read the times at which users tagged artists; several tags at one time are one event."""
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


def read_listenbrainz(source: Source) -> Iterator[Rows]:
    """Read listens, a JSON object a line, of the dump's files by month or of an API client."""
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


def read_yambda(source: Source) -> Iterator[Rows]:
    """Read the flat layout: a Parquet file for each kind of event, or `multi_event.parquet` with all."""
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


def read_botify(source: Source) -> Iterator[Rows]:
    """Read `log.json`, or the only file, and `tracks.json` where it is there."""
    if tracks := source.find("tracks.json"):
        for rows in json_rows(source, tracks, _track):
            yield rows._replace(about_items=True)
    member = source.find("log.json") or source.one(".json", ".jsonl")
    yield from json_rows(source, member, _Sessions().listen)


def _track(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "item": line.get("track"),
        "title": line.get("title"),
        "artist": line.get("artist"),
        "genre": line.get("genre"),
        "release": line.get("album"),
        **{name: line.get(name) for name in ("mood", "year", "country")},
    }


class _Sessions:
    """Names the sessions, which the log does not.

    One ends with the message `last`, and another begins where what is heard is not what was recommended: Botify's
    listeners hear what they are given.
    """

    def __init__(self) -> None:
        self._session: dict[Any, int] = {}
        self._recommended: dict[Any, Any] = {}

    def listen(self, line: Mapping[str, Any]) -> dict[str, Any]:
        if line.get("message") not in ("next", "last"):
            raise ValueError("message is neither next nor last")
        user, track = line.get("user"), line.get("track")
        if not isinstance(user, int | str) or not isinstance(track, int | str):
            raise ValueError("user or track is missing")  # noqa: TRY004 - as every other reason
        follows = self._recommended.pop(user, None) == track
        if not follows:
            self._session[user] = self._session.get(user, -1) + 1
        if line["message"] == "next":
            self._recommended[user] = line.get("recommendation")
        return {
            "user": user,
            "item": track,
            "time": line.get("timestamp"),
            "played": line.get("time"),
            "session": self._session[user],
            "organic": not follows,
        }
