"""The editions of the course's homework: world, control, and the lists that list recommenders serve.

In 2022 to 2024 the homework was to beat `sticky_artist`. In 2026 it was to beat SasRec-I2I: the first unheard
neighbour of one of the last ten tracks, in lists that SASRec had learned from a log. Neither log nor lists are public.
The control here is the same recommender, `i2i`, with item-to-item lists that give the published time (`botify world
card`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from botify.bench.world_card.lists import PER_USER, Log, neighbours_of
from botify.schemas.events import Model
from botify.schemas.models import model_of
from botify.services.lists.neighbours import ListenColumns, make_user_lists
from botify.services.recommender.item_to_item import I2I
from botify.services.recommender.lists import NEIGHBOURS, USER_LISTS, Lists
from botify.services.recommender.registry import RECOMMENDERS
from botify.services.recommender.sticky_artist import StickyArtist
from botify.sim.world.model import World


@dataclass(frozen=True, slots=True)
class Edition:
    """An edition of the homework.

    Attributes
    ----------
    world : str
        Name of the world whose listeners judge.
    control : str
        Recommender to beat.
    log_sessions : int
        Sessions of `random`, for each listener, from which lists are learned.
    """

    world: str
    control: str
    log_sessions: int


EDITIONS: Mapping[int, Edition] = {
    2022: Edition("course", StickyArtist.name, 30),
    2026: Edition("course-2026", I2I.name, 10),
}
"""With the logs of `botify.bench.world_card`: 300,000 and 100,000 sessions of the course's 10,000 listeners."""


def needs_lists(*names: str) -> bool:
    """Say whether one of the recommenders serves lists of the batch job."""
    return any(RECOMMENDERS[name].needs_lists for name in names)


def lists_of(world: World, log_sessions: int) -> list[Model]:
    """Learn lists of tracks and of listeners from a log of random recommendations."""
    log = Log.of(world, log_sessions * len(world.listeners))
    found = neighbours_of(log.liked())
    numbers = np.arange(len(log.users), dtype=np.uint64)
    heard = ListenColumns(numbers, numbers, log.users, log.tracks, log.fractions, log.time_ms)
    lists = {NEIGHBOURS: Lists(found.tracks, found.lists), USER_LISTS: make_user_lists(heard, found, PER_USER)}
    return [model_of(name, len(numbers), made.to_bytes(), int(log.time_ms.max())) for name, made in lists.items()]
