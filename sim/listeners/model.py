"""The contract of listener models, and the random streams of the simulator."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import Keys

# Random streams, by what is drawn. The numbers never change: another number changes every seeded result.
INTEREST: Final = 0  # the interest that a session follows
FIRST_TRACK: Final = 1  # the neighbour of the interest that a session starts with
BUDGET: Final = 2  # whether a listen reduces the budget
RETURN: Final = 3  # when a listener returns
ACTIVITY: Final = 4  # how often a listener starts sessions
DRIFT: Final = 5  # whether a session starts near the interest that its own moves to
HIT: Final = 6  # whether and when a track becomes a hit
AGENT: Final = 7  # the track that a random agent plays
SHIFT: Final = 8  # the tracks that exchange vectors, and their order
CONTEXT: Final = 9  # where in the application a session is played
LENGTH: Final = 10  # after how many tracks a session ends whatever is played
SKIP: Final = 11  # whether a track is skipped, and how much of it is heard then
OWN_CHOICE: Final = 12  # what a listener plays who chooses without a recommendation
CHOICE: Final = 13  # which track of a slate is chosen

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SessionStart:
    """What new sessions begin with, one row for each."""

    tastes: Floats  # shape (n, dimensions); what the session looks for, in the space of the tracks' vectors
    tracks: Ints  # shape (n,); the track that the listener chooses first
    fractions: Floats | None = None  # shape (n,); the share of it that is heard; None: all of it
    budgets: Ints | None = None  # shape (n,); bad tracks until the session ends; None: the listeners' `session_budget`
    # shape (n,); tracks after which the session ends, whatever was played; None: no such number
    lengths: Ints | None = None


@dataclass(frozen=True, slots=True)
class Exposure:
    """Listeners about to hear a recommended track, one row for each."""

    users: Ints  # shape (n,)
    tracks: Ints
    tastes: Floats  # shape (n, dimensions); as in the session's `SessionStart`; overwritten by the next exposure
    repeated: NDArray[np.bool_]  # shape (n,); the session has had the track already
    artist_counts: Ints  # shape (n,); number of the session's listens so far of the track's artist
    time_ms: Ints  # shape (n,); event time at which the track begins
    keys: Keys  # shape (n,); the session's, as given to `open`
    positions: Ints  # shape (n,); place of the track in its session; the listener's own first track has 0


class ListenerModel(Protocol):
    """How listeners open sessions and react to tracks.

    A row's answer may depend on that row and on what the same listener did before, never on the other rows: batches
    form as messages arrive, and results must not depend on that. Randomness comes from the keys.
    """

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        """Begin sessions; `keys` has a key for each session."""

    def fractions(self, exposure: Exposure) -> Floats:
        """Return the share of each track that is heard, 0 to 1, with two decimals; a listener is in one row only."""


class ComparingListenerModel(ListenerModel, Protocol):
    """A listener model that can also say how tracks appeal before one of them is heard, as choices from slates need."""

    def appeal(self, exposure: Exposure) -> Floats:
        """Return the share of each track that its listener expects to hear, 0 to 1; remembers nothing."""
