"""A log of random recommendations, and the lists that are learned from it before a recommender serves."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.services.lists.build import ListenColumns, Neighbours, build_models, find_neighbours, make_user_lists
from botify.services.recommender.lists import Lists, lists_of
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.agents import DummyAgent
from botify.sim.options import RunOptions
from botify.sim.play import play_listens
from botify.sim.world.model import World

Ints = NDArray[np.int64]

SEED, CARD_SEED = 0x6C697374, 0x6C6F67
"""Seeds of the log's sessions, which differ from the measured ones: of the benchmark, and of the world's card."""
SESSIONS = 5  # sessions of the benchmark's log for each listener; fewer give too few neighbours
COUNT, PER_USER = 50, 50  # lengths of a track's list and of a listener's, of the batch job
LIKED_MORE = 0.4  # a listen is liked if this much more of it was heard than of the listener's average one


class RandomLog(NamedTuple):
    """Listens of random recommendations, columns of equal length."""

    users: Ints
    ordinals: Ints
    positions: Ints
    tracks: Ints
    fractions: NDArray[np.float64]
    time_ms: Ints

    @classmethod
    def of(cls, world: World, sessions: int, seed: int) -> "RandomLog":
        options = RunOptions(sessions=sessions, seed=seed, start_ms=0)
        heard = play_listens(world, DummyAgent(world.catalogue, seed), options)
        return cls(*(getattr(heard, name) for name in cls._fields))

    def liked(self) -> "RandomLog":
        """Return the liked listens; their fractions are what was heard more than the listener's average."""
        average = np.bincount(self.users, self.fractions) / np.maximum(np.bincount(self.users), 1)
        more = self.fractions - average[self.users]
        liked = more > LIKED_MORE
        return RandomLog._make(column[liked] for column in self._replace(fractions=more))

    def neighbours(self) -> Neighbours:
        """Find the tracks that the same listeners heard, by cosine (`botify.services.lists`)."""
        return find_neighbours(self.users.astype(np.uint64), self.tracks, self.fractions, COUNT)

    def user_lists(self, found: Neighbours, length: int) -> Lists:
        """Make a list for each listener, as the batch job of `botify.services.lists` does."""
        numbers = np.arange(len(self.users), dtype=np.uint64)
        columns = ListenColumns(numbers, numbers, self.users, self.tracks, self.fractions, self.time_ms)
        return make_user_lists(columns, found, length)


def lists_for(name: str, world: World) -> dict[str, Lists]:
    """Return the lists of the batch job, by the names of their models, if a recommender needs them."""
    if name not in RECOMMENDERS or not RECOMMENDERS[name].needs_lists:
        return {}
    log = RandomLog.of(world, SESSIONS * len(world.listeners), SEED)
    sessions = [f"{user}-{ordinal}" for user, ordinal in zip(log.users.tolist(), log.ordinals.tolist(), strict=True)]
    events = [f"{session}-{position}" for session, position in zip(sessions, log.positions.tolist(), strict=True)]
    heard = ListenColumns.of(
        events, sessions, log.users.tolist(), log.tracks.tolist(), log.fractions.tolist(), log.time_ms.tolist()
    )
    return {model.name: lists_of(model) for model in build_models(heard, COUNT, PER_USER)}
