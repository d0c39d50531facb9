"""A dataset: its files, their columns and values, its card, and how it is opened."""

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from botify.core.errors import BotifyError
from botify.schemas.events import Track
from botify.schemas.external_ids import USERS, datasets_directory

FORMAT = 1  # goes up when datasets of an older version can no longer be read

EVENTS = "events.parquet"
CATALOGUE = "catalogue.parquet"
ITEMS = "items.parquet"
REJECTED = "rejected.parquet"
CARD = "card.json"

KINDS = ("play", "skip", "like", "unlike", "rating", "dislike", "undislike")
"""What an event was; the column `kind` holds the position in this tuple."""
PLAY, SKIP, LIKE, UNLIKE, RATING, DISLIKE, UNDISLIKE = range(len(KINDS))

SKIP_BELOW = 0.5  # A play of which less was heard is a skip
SESSION_GAP_MS = 30 * 60 * 1000  # a pause that ends a session where the log names none

EVENT_SCHEMA = pa.schema(
    [
        ("user", pa.int32()),
        ("item", pa.int32()),
        ("time_ms", pa.int64()),
        ("fraction", pa.float32()),
        ("kind", pa.uint8()),
        ("session", pa.int64()),
        ("organic", pa.bool_()),
    ]
)
CATALOGUE_SCHEMA = pa.schema(
    [
        ("item", pa.int32()),
        ("external_id", pa.string()),
        ("title", pa.string()),
        ("artist", pa.string()),
        ("genres", pa.list_(pa.string())),
        ("release", pa.string()),
        ("mood", pa.string()),
        ("year", pa.int32()),
        ("country", pa.string()),
        ("sketch", pa.string()),  # of the content vector, in hexadecimal
    ]
)
ID_SCHEMA = pa.schema([("id", pa.int32()), ("external_id", pa.string())])
REJECTED_SCHEMA = pa.schema([("file", pa.string()), ("row", pa.int64()), ("reason", pa.string()), ("raw", pa.string())])


class DatasetError(BotifyError):
    """A source cannot be imported, or a dataset cannot be read; the message says what would help."""


class Events(NamedTuple):
    """All events of a dataset as columns of one length, in order of time; events of one time keep the log's order."""

    users: NDArray[np.int32]  # dense, from 0; the id tables say which external ids they stand for
    items: NDArray[np.int32]
    # graded feedback, 0 to 1: the share that was heard, or the value that the card's rules give
    fractions: NDArray[np.float32]
    # milliseconds since the epoch; the position among the user's events where the source has no times
    times_ms: NDArray[np.int64]
    sessions: NDArray[np.int64]  # equal for events of one session, different between users
    kinds: NDArray[np.uint8]  # positions in `KINDS`
    # 1 where the user chose the item, 0 where it was recommended, -1 where the source does not say
    organic: NDArray[np.int8]


class ItemColumns(NamedTuple):
    """What the source says about its items; an item's number is its place in each list."""

    external_ids: list[str]
    titles: list[str | None]
    artists: list[str | None]
    genres: list[tuple[str, ...]]  # empty where the source has none
    releases: list[str | None]
    moods: list[str | None]
    years: list[int | None]
    countries: list[str | None]
    sketches: list[str | None]

    def tracks(self) -> Iterator[Track]:
        """Yield the items as tracks; those of unknown artists have one each, so that no artist has them all."""
        for number, (external, title, artist, genres, release, mood, year, country, sketch) in enumerate(
            zip(*self, strict=True)
        ):
            main, all_genres = next(iter(genres), None), list(genres) if len(genres) > 1 else None
            names = artist or external, release, main, title or external, external
            of_content = None if sketch is None else bytes.fromhex(sketch)
            yield Track(number, *names, all_genres, mood, year, country, sketch=of_content)


@dataclass(frozen=True, slots=True)
class Card:
    """What one should know before one trusts a figure that was measured on a dataset."""

    name: str  # the dataset's own name, and the format that it was read as
    source: str
    files: list[str]  # names of the files that were read, without their folders
    events: int  # `users` and `items` count those with an event
    users: int
    items: int
    catalogue: int  # items that the catalogue has, those without an event included
    rejected: int  # rows that `rejected.parquet` holds
    kinds: dict[str, int]  # events of each kind
    has_time: bool  # whether the source has times; without, `time_ms` is the position among the user's events
    start: str | None  # of the first and the last event, ISO 8601, UTC
    end: str | None
    density: float  # share of the pairs of a user and an item that have an event
    ties: float  # share of the events that have the same second as their user's event before
    repeats: float  # share of the events whose user had an event with that item before
    rules: list[str]  # how values, sessions and ids were made
    licence: str  # what the publisher of the source asks for
    sha256: str  # of the content: events, catalogue and id tables, independent of how the files are written


def write_card(directory: Path, card: Card) -> None:
    """Write the card; the same card gives the same bytes."""
    content = {"format": FORMAT, **asdict(card)}
    (directory / CARD).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_card(directory: Path) -> Card:
    """Read the card of a dataset; raises `DatasetError` if the directory has none, or one of another version."""
    path = directory / CARD
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise DatasetError(f"{path} is not of format {FORMAT}; import the dataset again with --force")
        return Card(**{field.name: content[field.name] for field in fields(Card)})
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DatasetError(f"{path} cannot be read ({error!r}); import the dataset again with --force") from error


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def dataset_directory(home: Path, name: str) -> Path:
    """Return where a dataset is, or will be; raises `DatasetError` if the name cannot be a directory's."""
    if not NAME.fullmatch(name):
        raise DatasetError(
            f"{name!r} is no name of a dataset: use up to 64 letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return datasets_directory(home) / name


@dataclass(frozen=True, eq=False)
class Dataset:
    """An imported log. Made by `open_dataset`."""

    directory: Path
    card: Card

    def events(self) -> Events:
        """Return all events, in order of time: about 30 bytes an event."""
        table = pq.read_table(self.directory / EVENTS)
        organic = table["organic"].cast(pa.int8()).fill_null(-1)
        names = ("user", "item", "fraction", "time_ms", "session", "kind")
        return Events._make([*(table[name].to_numpy() for name in names), organic.to_numpy()])

    def catalogue(self) -> ItemColumns:
        """Return what is known of the items, in the order of their numbers."""
        table = pq.read_table(self.directory / CATALOGUE)
        unknown = [None] * len(table)  # older datasets have no mood, year, country and sketch
        names = CATALOGUE_SCHEMA.names[1:]
        columns: dict[str, list[Any]] = {
            name: table[name].to_pylist() if name in table.column_names else unknown for name in names
        }
        columns["genres"] = [tuple(one or ()) for one in columns["genres"]]
        return ItemColumns(*columns.values())

    def rejected(self) -> pa.Table:
        """Return the rows that were not imported, with file, row number, reason and their text."""
        return pq.read_table(self.directory / REJECTED)

    @cached_property
    def external_users(self) -> list[str]:
        """The external id of each user, by number."""
        return self._external(USERS)

    @cached_property
    def external_items(self) -> list[str]:
        """The external id of each item, by number."""
        return self._external(ITEMS)

    def _external(self, file: str) -> list[str]:
        ids: list[str] = pq.read_table(self.directory / file)["external_id"].to_pylist()
        return ids


def open_dataset(home: Path, name: str) -> Dataset:
    """Open a dataset; raises `DatasetError` if there is none of that name, or it was made by another version."""
    directory = dataset_directory(home, name)
    if not (directory / CARD).is_file():
        there = ", ".join(dataset_names(home)) or "none"
        raise DatasetError(
            f"dataset {name!r} is not in {datasets_directory(home)} (there: {there}); `botify data import` makes one"
        )
    return Dataset(directory, read_card(directory))


def dataset_names(home: Path) -> list[str]:
    """Return the names of all finished datasets."""
    return sorted(
        path.parent.name for path in datasets_directory(home).glob(f"*/{CARD}") if NAME.fullmatch(path.parent.name)
    )
