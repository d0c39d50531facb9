"""The catalogue, and looking for a track in it by title or artist."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.events import Track
from schemas.settings import Settings

Catalogue = Mapping[int, Track]
"""Track id to track, as it was when last read; never changed."""


class Titles:
    """Follows the catalogue topic for the collector."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._reader = CatalogueReader(settings, codec)
        self._catalogue: Catalogue = {}

    def read(self) -> Catalogue:
        """Return the catalogue; the same object while nothing was added."""
        if self._reader.refresh():
            self._catalogue = dict(self._reader.tracks)
        return self._catalogue

    def close(self) -> None:
        """Stop following."""
        self._reader.close()


def search(catalogue: Catalogue, words: str, most: int = 12) -> list[Track]:
    """Return tracks whose title or artist has all the words, in the order of the catalogue.

    Examples
    --------
    >>> catalogue = {7: Track(7, "Kanye West", None, None, "Stronger")}
    >>> search(catalogue, "kanye strong"), search(catalogue, "weaker")
    ([Track(track=7, artist='Kanye West', album=None, genre=None, title='Stronger')], [])
    """
    wanted = words.casefold().split()
    found: list[Track] = []
    for track in catalogue.values() if wanted else ():
        text = f"{track.title} {track.artist}".casefold()
        if all(word in text for word in wanted):
            found.append(track)
            if len(found) == most:
                break
    return found
