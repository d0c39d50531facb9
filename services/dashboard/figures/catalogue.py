"""The catalogue as it was when last read, and looking for a track in it by title or artist."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.events import Track

Catalogue = Mapping[int, Track]
"""Track id to track; never changed."""


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
