"""What a random number is drawn for. Numbers stay as they are: changing one changes every seeded result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import Keys

INTEREST: Final = 0
"""Which of the listener's interests a session follows."""
FIRST_TRACK: Final = 1
"""Which of the interest's neighbours a session starts at."""
BUDGET: Final = 2
"""Whether a listen costs the listener patience."""
RETURN: Final = 3
"""When a listener comes back."""
ACTIVITY: Final = 4
"""How often a listener comes at all."""
DRIFT: Final = 5
"""What a drifting interest moves on to."""
HIT: Final = 6
"""Whether a track becomes a hit, and when."""
AGENT: Final = 7
"""What a random agent plays."""
SHIFT: Final = 8
"""Which tracks change places, and where they go."""


Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SessionStart:
    """What new sessions begin with, one row for each.

    Attributes
    ----------
    tastes : ndarray of float64, shape (n, dimensions)
        What the session is after, in the space of the tracks' vectors.
    tracks : ndarray of int64, shape (n,)
        The track that the listener chooses first, and hears to its end.
    """

    tastes: Floats
    tracks: Ints


@dataclass(frozen=True, slots=True)
class Exposure:
    """Listeners about to hear a recommended track, one row for each.

    Attributes
    ----------
    users, tracks : ndarray of int64, shape (n,)
    tastes : ndarray of float64, shape (n, dimensions)
        As the session opened with.
    repeated : ndarray of bool, shape (n,)
        The session has had the track already.
    artist_counts : ndarray of int64, shape (n,)
        How many of the session's listens so far were of the track's artist.
    time_ms : ndarray of int64, shape (n,)
        Event time at which the track begins.
    """

    users: Ints
    tracks: Ints
    tastes: Floats
    repeated: NDArray[np.bool_]
    artist_counts: Ints
    time_ms: Ints


class ListenerModel(Protocol):
    """How listeners open sessions and react to tracks.

    A row's answer may depend on that row and on what the same listener did before, never on the other rows: batches
    form as messages arrive, and results must not depend on that. Randomness comes from the keys.
    """

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Begin sessions; `keys` holds a key of its own for each session."""
        ...

    def fractions(self, exposure: Exposure) -> Floats:
        """Return the share of each track that is heard, 0 to 1, with two decimals; a listener is in one row only."""
        ...
