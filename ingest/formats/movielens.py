"""MovieLens in its published layouts (100k, 1M, 25M, 32M), and RecBole's atomic files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import pyarrow.compute as pc

from botify.ingest.inputs import Member, Source
from botify.ingest.lines import Rows, Table, iter_table, places_of

_GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_RATING = ("user", "item", "rating", "time")
_BY_PLACE = {role: place for place, role in enumerate(_RATING)}
_RATINGS_CSV = {"user": "userId", "item": "movieId", "rating": "rating", "time": "timestamp"}
_MOVIES_CSV = {"item": "movieId", "title": "title", "genre": "genres"}


def read_movielens(source: Source, columns: Mapping[str, str]) -> Iterator[Rows]:
    """Read ratings and films; the files that are there tell the layout."""
    del columns
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
        yield from read_recbole(source, {})
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


def read_recbole(source: Source, columns: Mapping[str, str]) -> Iterator[Rows]:
    """Read `.inter` and, where it is there, `.item`; the header names each column's type."""
    del columns
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
