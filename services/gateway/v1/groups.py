"""Recommendations for several listeners at once, by Borda's count over what each of them would get.

The list of each listener gives a track 1 for the first place, evenly less for each one after it, and 0 for none; a
track's score is the average. Ranks, because scores of different recommenders have no common scale (rank aggregation for
groups: Baltrunas, Makcinskas and Ricci, "Group recommendations with rank aggregation and collaborative filtering",
RecSys 2010). The average, because least misery would be decided by where lists end: a track that is missing in one of
them is unknown there, and not disliked. Misery counts by exclusion, as in Masthoff's "average without misery" (UMUAI
2004): what one of them is not recommended because of what they said, the group is not either.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from botify.schemas.external_ids import UserIdError, UserIds
from botify.schemas.validation import MAX_SLATE
from botify.services.errors import InvalidRequestError
from botify.services.gateway.sessions import RequestId
from botify.services.gateway.v1.models import GroupBody, GroupRecommendations, RecommendationsQuery, Scored
from botify.services.gateway.v1.recommending import MOST_EXCLUDED, Recommending, fields_of

DEPTH = 4  # tracks of each listener's list for each one of the answer
OF_GROUP = "~"  # in the ids of members' requests: what they get is not shown to them


@dataclass(frozen=True, slots=True)
class Groups:
    """Serves groups; belongs in the event loop's thread."""

    recommending: Recommending
    users: UserIds

    async def recommend(self, body: GroupBody, request_id: RequestId) -> GroupRecommendations:
        """Return recommendations for a group; raises `UnavailableError`, and `InvalidRequestError` for a wrong name.

        A listen of them is attributed to no recommendation: none has a propensity.
        """
        names, tracks = list(dict.fromkeys(map(str, body.users))), self.recommending.service.tracks
        numbers = [await self._number_of(name, at) for at, name in enumerate(names)]
        known = [track.track for item in body.exclude if (track := tracks.known(item)) is not None]
        query = RecommendationsQuery.model_validate({"n": min(MAX_SLATE, DEPTH * body.n), "filter": body.filter})
        asked = [
            self.recommending.request(user, query, f"{request_id.id_}{OF_GROUP}{at}") for at, user in enumerate(numbers)
        ]
        requests: list[Any] = [request for request, _ in await asyncio.gather(*asked)]
        out = dict.fromkeys([*known, *(track for request in requests for track in request.slate["exclude"])])
        for request in requests:
            request.slate["exclude"] = list(out)[:MOST_EXCLUDED]
        began_s = time.monotonic()
        answers = await asyncio.gather(*[self.recommending.answer(request, began_s) for request in requests])
        lists = [answer.slate["tracks"] if answer.slate is not None else [] for answer, _, _ in answers]
        found = ((tracks.known(number), score) for number, score in borda(lists, out))
        best = islice(((track, score) for track, score in found if track is not None), body.n)
        return GroupRecommendations(
            id=request_id.id_,
            users=[self.users.known_as(name) for name in names],
            items=[Scored(**fields_of(track), score=score) for track, score in best],
            fallback=any(late for _, _, late in answers),
        )

    async def _number_of(self, name: str, at: int) -> int:
        try:
            return await self.recommending.service.names.find(name)
        except UserIdError as error:
            raise InvalidRequestError([{"loc": ("body", "users", at), "msg": str(error)}]) from error


def borda(lists: Sequence[Sequence[int]], out: Collection[int] = ()) -> list[tuple[int, float]]:
    """Return the tracks of lists with their average scores, best first, without those that are out.

    Examples
    --------
    >>> borda([[7, 8, 9, 6], [8, 5, 7, 6]], out=[5])
    [(8, 0.875), (7, 0.75), (9, 0.25), (6, 0.25)]
    """
    scores: defaultdict[int, float] = defaultdict(float)
    depth = max(map(len, lists), default=0)
    for tracks in lists:
        for place, track in enumerate(tracks):
            scores[track] += (1 - place / depth) / len(lists)
    best = sorted(scores.items(), key=lambda one: -one[1])
    return [one for one in best if one[0] not in out]
