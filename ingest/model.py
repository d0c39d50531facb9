"""What a dataset is made of: its files, its columns, and the values that they hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from botify.core.errors import BotifyError
from botify.schemas.events import Track

FORMAT = 1
"""Goes up when datasets of an older version can no longer be read."""

EVENTS = "events.parquet"
CATALOGUE = "catalogue.parquet"
ITEMS = "items.parquet"
REJECTED = "rejected.parquet"
CARD = "card.json"

KINDS = ("play", "skip", "like", "unlike", "rating", "dislike", "undislike")
"""What an event was; the column `kind` holds the position in this tuple."""
PLAY, SKIP, LIKE, UNLIKE, RATING, DISLIKE, UNDISLIKE = range(len(KINDS))

SKIP_BELOW = 0.5
"""A play of which less was heard is a skip."""
SESSION_GAP_MS = 30 * 60 * 1000
"""Where the log names no sessions, one ends when its user does nothing for longer than this."""

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

    def tracks(self) -> Iterator[Track]:
        """Yield the items as tracks; one of an unknown artist has an artist of its own, so that no artist has them all.

        Examples
        --------
        >>> catalogue = ItemColumns(["b-7"], ["Stronger"], [None], [("rap", "pop")], [None], [None], [2007], [None])
        >>> [track] = catalogue.tracks()
        >>> track.artist, track.genre, track.genres, track.year
        ('b-7', 'rap', ['rap', 'pop'], 2007)
        """
        for number, (external, title, artist, genres, release, mood, year, country) in enumerate(
            zip(*self, strict=True)
        ):
            main, all_genres = next(iter(genres), None), list(genres) if len(genres) > 1 else None
            names = artist or external, release, main, title or external, external
            yield Track(number, *names, all_genres, mood, year, country)
