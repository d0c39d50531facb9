"""The listeners of a log as a client of the pipeline has them: the listens to send, the requests, what was heard.

In the pipeline a listener asks after a listen, and is never offered a track of the same session. An evaluation leaves
out all that the user has heard, so longer lists are asked for, and what was heard is taken out of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from botify.analytics.offline.ranking import NO_TRACK
from botify.evaluation.log import Events, Ints
from botify.evaluation.ranker import Histories, Setup, compressed, without
from botify.schemas.events import Listen, RecommendationRequest
from botify.schemas.validation import MAX_LIST, MAX_TRACK

NO_SESSION = "none"
NOTHING_HEARD = MAX_TRACK
"""The track of a newcomer's request; the catalogue has none of that number."""


class Listeners:
    """All users of a log, and how much of it they have heard.

    Attributes
    ----------
    listens : int
        Heard so far.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._histories = Histories()
        self._last: dict[int, Listen] = {}
        self._asked: Counter[int] = Counter()  # by user, since the last listens
        self.listens = 0

    def hear(self, events: Events) -> list[Listen]:
        """Return the next events as listens."""
        listens = []
        rows = zip(*(column.tolist() for column in events), strict=True)
        for at, (user, item, fraction, time_ms, session, ended) in enumerate(rows, self.listens):
            last, session_id = self._last.get(user), str(session)
            position = last.position + 1 if last is not None and last.session_id == session_id else 0
            listen = Listen(str(at), user, item, fraction, time_ms, session_id, position, ended, None, {}, None, None)
            self._last[user] = listen
            listens.append(listen)
        self._histories.learn(events.users, events.items)
        self.listens += events.size
        self._asked.clear()
        return listens

    def requests(self, users: Ints, times_ms: Ints, k: int, deadline_ms: int = 0) -> list[RecommendationRequest]:
        """Return a request of each user, for lists that are long enough to have k tracks that are new to them.

        An answer has at most `MAX_LIST` tracks, so users who have heard more may get fewer than k.
        """
        size = k if self._setup.repeats else min(k + self._histories.longest(users), self._setup.items, MAX_LIST)
        requests = []
        for user, time_ms in zip(users.tolist(), times_ms.tolist(), strict=True):
            last = self._last.get(user)
            heard = (NO_SESSION, 0, NOTHING_HEARD, 0.0) if last is None else _heard(last)
            again = f":{self._asked[user]}" if user in self._asked else ""
            self._asked[user] += 1
            id_ = f"{self._setup.seed}:{user}:{self.listens}{again}"
            requests.append(RecommendationRequest(id_, user, *heard, time_ms, deadline_ms, size))
        return requests

    def new_to(self, users: Ints, lists: NDArray[np.int64], k: int) -> Ints:
        """Return the first k tracks of each list that are new to the user, shape (n, k)."""
        if self._setup.repeats:
            return compressed(lists != NO_TRACK, lists, k)
        return without(lists, self._histories.of(users), self._setup.items, k)


def _heard(last: Listen) -> tuple[str, int, int, float]:
    return last.session_id, last.position, last.track, last.fraction


def padded(rankings: Sequence[Sequence[int]], size: int) -> NDArray[np.int64]:
    """Return lists as an array, shape (n, size).

    Examples
    --------
    >>> padded([[7, 8], []], 3).tolist()
    [[7, 8, -1], [-1, -1, -1]]
    """
    lists = np.full((len(rankings), size), NO_TRACK, dtype=np.int64)
    for row, ranking in zip(lists, rankings, strict=True):
        row[: len(ranking)] = ranking
    return lists
