"""Lists that are no decisions: rows of a page, and what suits a group. They have no propensities.

So a listen of theirs is attributed to no recommendation.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from botify.schemas.events import Track
from botify.schemas.external_ids import UserIdError
from botify.schemas.validation import MAX_SLATE
from botify.services.errors import InvalidRequestError
from botify.services.gateway.service import answer_of
from botify.services.gateway.sessions import RequestId
from botify.services.gateway.v1 import models
from botify.services.gateway.v1.items import Items
from botify.services.gateway.v1.recommending import MOST_EXCLUDED, Recommending, fields_of
from botify.services.recommender.filters import blocked_by
from botify.services.recommender.protocol import reason_text
from botify.streams.read import StateReader

SEEDS = 20  # of the newest tracks, those that may begin a row
LIKED = 0.5  # a listen of such a share or more begins a row


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a page: what is similar to what a listener heard or liked last, and what is popular in their genre."""

    recommending: Recommending
    items: Items
    reader: StateReader

    async def get(self, user: int, name: int | str, query: models.RowsQuery) -> models.Rows:
        """Return the rows of a listener, none for one of whom nothing is known; raises `UnavailableError`.

        None has what was heard lately, or what is not recommended to the listener.
        """
        known, kinds = self.recommending.service.tracks.known, self.recommending.kinds
        (state,) = await answer_of(asyncio.to_thread(self.reader.users, [user]))
        said, now_ms = await self.recommending.listeners.said(user), self.recommending.service.clock.now_ms(user)
        signals = kinds.signals(said)
        heard = [] if state is None else state.last_listens()[["timestamp_ms", "track", "fraction"]].tolist()
        begun = [(one.time_ms, one.track) for one in signals]
        begun += [(time_ms, track) for time_ms, track, share in heard if share >= LIKED]
        did = {one.track: one.kind for one in signals}
        out = {*kinds.excluded(said, now_ms), *(track for _, track, _ in heard)}
        meant = [(kinds.declared.get(kind), track) for _, track, kind in said]
        unwanted = {track for kind, track in meant if kind is not None and kind.means == "negative"}
        blocked = blocked_by(self.recommending.rules(now_ms))

        def allowed(number: int) -> Track | None:
            track = known(number)
            return None if track is None or track.deleted or blocked(track) else track

        newest = dict.fromkeys(track for _, track in sorted(begun, reverse=True) if track not in unwanted)
        seeds = [track for number in islice(newest, SEEDS) if (track := allowed(number)) is not None]
        rows: list[models.Row] = []

        def add(title: str, numbers: Iterable[int], because: Track | None = None) -> None:
            found: list[models.Item] = []
            for number in numbers:
                if number not in out and (track := allowed(number)) is not None:
                    out.add(number)
                    found.append(models.Item(**fields_of(track)))
                    if len(found) == query.n:
                        break
            if found:
                cause = None if because is None else models.Item(**fields_of(because))
                rows.append(models.Row(title=title, because=cause, items=found))

        genres = Counter(seed.genre for seed in seeds if seed.genre is not None)
        for seed in seeds:
            if len(rows) >= query.rows - bool(genres):
                break
            title = reason_text(Track(-1, "", None, None, ""), "", seed.track, seed, did.get(seed.track))
            add(title, self._near(seed), seed)
        for genre, _ in genres.most_common(1):
            popular = await self.items.charts.popular("1d")
            add(f"popular in {genre}", (one for one, _ in popular if _is_of(known(one), genre)))
        return models.Rows(user=name, rows=rows)

    def _near(self, seed: Track) -> Iterator[int]:
        """Yield what is similar to a track, as `Items.similar` lists it; most rows are full before the artist's."""
        yield from (track for track, _ in self.items.neighbours(seed.track))
        for tracks in self.recommending.service.tracks.sharing(seed):
            yield from tracks


def _is_of(track: Track | None, genre: str) -> bool:
    return track is not None and track.genre == genre


DEPTH = 4  # tracks of each listener's list for each one of the answer
OF_GROUP = "~"  # in the ids of members' requests: what they get is not shown to them


@dataclass(frozen=True, slots=True)
class Groups:
    """Recommendations for several listeners at once, by Borda's count over what each of them would get.

    The list of each listener gives a track 1 for the first place, evenly less for each one after it, and 0 for none; a
    track's score is the average. Ranks, because scores of different recommenders have no common scale (rank aggregation
    for groups: Baltrunas, Makcinskas and Ricci, "Group recommendations with rank aggregation and collaborative
    filtering", RecSys 2010). The average, because least misery would be decided by where lists end: a track that is
    missing in one of them is unknown there, and not disliked. Misery counts by exclusion, as in Masthoff's "average
    without misery" (UMUAI 2004): what one of them is not recommended because of what they said, the group is not.
    """

    recommending: Recommending

    async def recommend(self, body: models.GroupBody, request_id: RequestId) -> models.GroupRecommendations:
        """Return recommendations for a group; raises `UnavailableError`, and `InvalidRequestError` for a wrong name."""
        names, tracks = list(dict.fromkeys(map(str, body.users))), self.recommending.service.tracks
        numbers = [await self._number_of(name, at) for at, name in enumerate(names)]
        known = [track.track for item in body.exclude if (track := tracks.known(item)) is not None]
        query = models.RecommendationsQuery.model_validate({"n": min(MAX_SLATE, DEPTH * body.n), "filter": body.filter})
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
        return models.GroupRecommendations(
            id=request_id.id_,
            users=[self.recommending.service.names.known_as(name) for name in names],
            items=[models.Scored(**fields_of(track), score=score) for track, score in best],
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
