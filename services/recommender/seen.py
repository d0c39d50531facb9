"""What an answer says of its inputs, so that it can be computed again from the topics: see `botify why`.

The request is on its topic. The listener's state is the fold of the first `listens` of the listener's listens, and of
`pending` more from earlier requests; likes and opinions were read next to it, and may be of a moment earlier or later:
the hashes say which. Models, clusters and catalogue are named by version and digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import mmh3

from botify.services.recommender.protocol import Batch
from botify.streams.folds.likes import Likes
from botify.streams.folds.users import UserState

CATALOGUE = "catalogue"


def listens_of(states: Sequence[UserState | None]) -> list[int]:
    """Return the number of listens that each state has folded, 0 for no state."""
    return [0 if state is None else state.listens for state in states]


def hash_of_state(state: UserState | None) -> int:
    """Return 32 bits of all that a recommender sees of a state; 0 without one."""
    if state is None:
        return 0
    session = b"%d %s\0" % (state.session_listens, state.session_id.encode())
    return _hash_of(session + state.heard + state.history)


def hash_of_likes(likes: Likes | None) -> int:
    """Return 32 bits of all that a recommender sees of likes; 0 without any."""
    return _hash_of(likes.packed) if likes is not None and likes.packed else 0


def _hash_of(packed: bytes) -> int:
    return int(mmh3.hash64(packed)[0]) >> 32  # twice as fast as the hash of 32 bits


class Seen(NamedTuple):
    """The last fields of `Recommendation`, a column each."""

    asked: Sequence[str]
    listens: Sequence[int]
    pending: Sequence[int]
    state_hashes: Sequence[int]
    likes_hashes: Sequence[int]
    versions: Sequence[Mapping[str, str]]

    @classmethod
    def of(cls, batch: Batch, asked: Sequence[str], listens: Sequence[int], versions: Mapping[str, str]) -> Seen:
        """Return the columns of a batch, whose states had `listens` before they were completed."""
        pending = [now - then for now, then in zip(listens_of(batch.states), listens, strict=True)]
        states, likes = list(map(hash_of_state, batch.states)), list(map(hash_of_likes, batch.likes))
        return cls(asked, listens, pending, states, likes, [versions] * len(batch))
