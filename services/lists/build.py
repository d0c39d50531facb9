"""Listens in, models out."""

from __future__ import annotations

from schemas.events import Model
from schemas.models import model_of
from services.errors import RecommenderError
from services.lists.heard import Heard
from services.lists.neighbours import find_neighbours
from services.lists.user_lists import make_user_lists
from services.recommender.lists import NEIGHBOURS, USER_LISTS, Lists


def build_models(heard: Heard, neighbours: int, per_user: int) -> list[Model]:
    """Make both models; the same listens, in any order, give the same bytes.

    Parameters
    ----------
    heard : Heard
    neighbours : int
        How many neighbours a track gets at most.
    per_user : int
        How long a listener's list is at most.

    Raises
    ------
    RecommenderError
        There are no listens.
    TopicError
        A model has no room on its topic.

    Examples
    --------
    >>> heard = Heard.of("abc", "sst", [1, 1, 2], [7, 8, 7], [1.0, 0.2, 1.0], [0, 1, 2])
    >>> [(model.name, model.version, model.timestamp_ms) for model in build_models(heard, 5, 5)]
    [('neighbours', 3, 2), ('user-lists', 3, 2)]
    """
    if not len(heard.events):
        raise RecommenderError("there are no listens to make lists of; let `botify sim run` make some first")
    found = find_neighbours(heard.sessions, heard.tracks, heard.fractions, neighbours)
    bodies = {
        NEIGHBOURS: Lists(found.tracks, found.lists).to_bytes(),
        USER_LISTS: make_user_lists(heard, found, per_user).to_bytes(),
    }
    newest_ms = int(heard.timestamps_ms.max())
    return [model_of(name, len(heard.events), body, newest_ms) for name, body in bodies.items()]
