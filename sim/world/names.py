"""Made-up names for genres, artists, albums and tracks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_GENRES = _words(
    """
    ambient bachata bebop bluegrass blues bossa-nova breakbeat chamber chanson choral country cumbia dancehall disco
    drone dub electro fado flamenco folk funk garage gospel grime hip-hop house indie jazz klezmer metal minimal opera
    polka pop punk reggae rock shoegaze soul techno
    """
)
_ADJECTIVES = _words(
    """
    Amber Ancient Blue Bright Broken Burning Calm Crimson Distant Electric Empty Endless Faded Fallen Foreign Frozen
    Gentle Golden Hidden Hollow Idle Ivory Late Little Lonely Lost Lucky Midnight Modern Northern Open Pale Patient
    Paper Plain Quiet Restless Rolling Sacred Secret Silent Silver Simple Slow Small Southern Tender Velvet Wild Young
    """
)
_NOUNS = _words(
    """
    Anchors Arrows Bells Birds Bridges Cities Clouds Comets Corners Crowns Dancers Deserts Doors Engines Feathers Fields
    Fires Flowers Forests Foxes Gardens Ghosts Harbours Hearts Hills Horizons Horses Islands Kings Lanterns Letters
    Lights Machines Maps Mirrors Mountains Nights Oceans Orchards Owls Pilots Planets Rivers Roads Sailors Shadows
    Signals Stairs Stations Stones Stories Streets Summers Swans Tides Towers Trains Valleys Waves Windows
    """
)


def genre_names(count: int) -> tuple[str, ...]:
    """Return `count` different genres.

    Examples
    --------
    >>> genre_names(2)
    ('ambient', 'bachata')
    """
    return tuple(_numbered(_GENRES, index) for index in range(count))


def artist_names(count: int) -> tuple[str, ...]:
    """Return `count` different artists.

    Examples
    --------
    >>> artist_names(1)
    ('The Amber Anchors',)
    """
    pairs = [f"The {adjective} {noun}" for noun in _NOUNS for adjective in _ADJECTIVES]
    return tuple(_numbered(pairs, index) for index in range(count))


def titles(count: int, rng: np.random.Generator) -> tuple[str, ...]:
    """Return `count` titles; like real ones they may repeat."""
    adjectives = rng.integers(len(_ADJECTIVES), size=count).tolist()
    nouns = rng.integers(len(_NOUNS), size=count).tolist()
    return tuple(f"{_ADJECTIVES[a]} {_NOUNS[n]}" for a, n in zip(adjectives, nouns, strict=True))


def _numbered(names: Sequence[str], index: int) -> str:
    """Return the name at `index`; after the last one they start again with a number."""
    turn, place = divmod(index, len(names))
    return names[place] if turn == 0 else f"{names[place]} {turn + 1}"
