"""What is popular and what is rising, with titles."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from services.dashboard.figures.catalogue import Catalogue
from services.dashboard.figures.rising import rise
from services.dashboard.figures.snapshot import RankedTrack, Rankings
from streams.folds.popularity import TOP_TRACKS, popularity_at
from streams.read import StateReader

SHOWN = 20
CANDIDATES = 250
"""How many of the tracks that are popular now may be rising ones."""

SHORT, LONG, LONGEST = "1h", "1d", "30d"


class RankingsReader:
    """Reads the tops from Redis.

    Parameters
    ----------
    state : StateReader
    catalogue : callable
        Returns the newest catalogue.
    """

    def __init__(self, state: StateReader, catalogue: Callable[[], Catalogue]) -> None:
        self._state = state
        self._catalogue = catalogue

    def read(self) -> Rankings:
        """Take a reading."""
        now_ms = self._state.event_time_ms()
        recent, recent_scores = self._state.top_tracks(SHORT, CANDIDATES)
        longer, longer_scores = self._state.top_tracks(LONG, TOP_TRACKS)
        month, month_scores = self._state.top_tracks(LONGEST, SHOWN)
        popularity = popularity_at(recent_scores, SHORT, now_ms)
        risen = _risen(recent, popularity, longer, popularity_at(longer_scores, LONG, now_ms))
        steepest = np.argsort(-risen, kind="stable")[:SHOWN]
        return Rankings(
            now=self._named(recent[:SHOWN], popularity[:SHOWN]),
            rising=self._named(recent[steepest], risen[steepest]),
            month=self._named(month, popularity_at(month_scores, LONGEST, now_ms)),
            event_time_ms=now_ms,
        )

    def close(self) -> None:
        """Nothing is held."""

    def _named(self, ids: NDArray[np.int64], values: NDArray[np.float64]) -> tuple[RankedTrack, ...]:
        ranked, tracks = [], self._catalogue()
        for id_, value in zip(ids.tolist(), values.tolist(), strict=True):
            track = tracks.get(id_)
            title, artist = (track.title, track.artist) if track else (f"track {id_}", "not in the catalogue")
            ranked.append(RankedTrack(id_, title, artist, value))
        return tuple(ranked)


def _risen(
    recent: NDArray[np.int64],
    recent_popularity: NDArray[np.float64],
    longer: NDArray[np.int64],
    longer_popularity: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return how much each recent track has risen; one below the longer top is taken to be its last."""
    past_of = dict(zip(longer.tolist(), longer_popularity.tolist(), strict=True))
    last = float(longer_popularity[-1]) if len(longer_popularity) else 0.0
    return rise(recent_popularity, [past_of.get(track, last) for track in recent.tolist()])
