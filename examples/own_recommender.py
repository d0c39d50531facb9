"""A recommender of your own: another track of the genre just heard, where it was liked.

To serve it, put the class into a file in `services/recommender/`, add an entry to `RECOMMENDERS` in
`services/recommender/registry.py`, and start `botify up --recommender NAME`. Here it plays without
servers, compared with `random` on the same listeners.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import integers
from botify.schemas.events import RecommendationRequest
from botify.services.recommender.baselines import RandomTracks
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.protocol import Answers, Batch, Recommender
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World

LIKED = 0.5
"""Least fraction of a liked track."""
STREAM = 101
"""Random stream of this recommender: draws of different streams are independent."""


class SameGenre:
    """Uniform over the genre of the last track if it was liked, else over all tracks.

    Examples
    --------
    >>> from botify.schemas.events import Track
    >>> tracks = [Track(7, "a", None, "rock", "x"), Track(8, "b", None, "jazz", "y"), Track(9, "c", None, "jazz", "z")]
    >>> request = RecommendationRequest("session:0", 42, "session", 0, 7, 1.0, 0, 0)
    >>> answers = SameGenre(Catalogue(tracks)).recommend(Batch.of([request], [None]))
    >>> answers.tracks.tolist(), answers.propensities.tolist()
    ([7], [1.0])
    """

    name = "same_genre"
    fallback: str | None = "random"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._random = RandomTracks(catalogue)
        self._by_genre = np.argsort(catalogue.genre_of, kind="stable")
        self._size = np.bincount(catalogue.genre_of)
        self._start = np.cumsum(self._size) - self._size

    def recommend(self, batch: Batch) -> Answers:
        """Draw a track for each request; the propensity is the probability of the drawn track."""
        anything = self._random.recommend(batch)
        rows = self._catalogue.rows_of(batch.tracks)
        liked = np.array([request.fraction >= LIKED for request in batch.requests]) & (rows >= 0)
        genres = self._catalogue.genre_of[rows]  # a row of -1 picks some genre, and is masked below
        sizes = self._size[genres].astype(np.int64)
        drawn = self._catalogue.tracks[self._by_genre[self._start[genres] + integers(batch.keys, STREAM, sizes)]]
        return Answers(
            np.where(liked, drawn, anything.tracks), np.where(liked, 1.0 / sizes, anything.propensities), sizes
        )


class RecommenderAgent:
    """An agent of the simulator that calls a recommender.

    Parameters
    ----------
    recommender : Recommender
        It must not need listener state.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender

    def recommend(self, heard: FinishedListens) -> NDArray[np.int64]:
        """Call the recommender as the service does."""
        columns = (heard.users, heard.ordinals, heard.positions, heard.tracks, heard.fractions, heard.time_ms)
        requests = []
        for user, ordinal, position, track, fraction, time_ms in zip(*(c.tolist() for c in columns), strict=True):
            session = f"{user}-{ordinal}"
            request_id = f"{session}:{position}"
            requests.append(
                RecommendationRequest(request_id, user, session, position, track, fraction, time_ms, time_ms)
            )
        return self._recommender.recommend(Batch.of(requests, [None] * len(requests))).tracks

    def finish(self, heard: FinishedListens) -> None:
        """Do nothing."""


def time_per_session(world: World, recommender: Recommender, sessions: int) -> float:
    """Return the mean time of a session: the sum of its fractions."""
    played = play_world(world, RecommenderAgent(recommender), RunOptions(sessions=sessions, seed=1, start_ms=0))
    return played.time / played.sessions


def main(sessions: int = 2000) -> dict[str, float]:
    """Play both to the same listeners, and print the mean time of their sessions."""
    config = WorldConfig(tracks=1000, artists=100, genres=10, users=500)
    world = World("example", *generate(config), {})
    catalogue = Catalogue(tracks_of(world.catalogue))
    recommenders: list[Recommender] = [RandomTracks(catalogue), SameGenre(catalogue)]
    found = {one.name: time_per_session(world, one, sessions) for one in recommenders}
    for name, value in found.items():
        print(f"{name:12} {value:.2f} time per session")
    return found


if __name__ == "__main__":
    main()
