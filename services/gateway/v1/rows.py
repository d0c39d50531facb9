"""Rows of a page: what is similar to what a listener heard or liked last, and what is popular in their genre.

Rows are lists, not decisions: they have no propensities, and a listen of theirs is attributed to no recommendation.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from botify.schemas.events import Track
from botify.services.errors import UnavailableError
from botify.services.gateway.v1.items import Items
from botify.services.gateway.v1.models import Item, Row, RowsQuery
from botify.services.gateway.v1.models import Rows as Answer
from botify.services.gateway.v1.recommending import Recommending, fields_of
from botify.services.recommender.filters import blocked_by
from botify.services.recommender.protocol import reason_text
from botify.streams.read import StateReader
from botify.streams.store.connect import REDIS_ERRORS

SEEDS = 20  # of the newest tracks, those that may begin a row
LIKED = 0.5  # a listen of such a share or more begins a row


@dataclass(frozen=True, slots=True)
class Rows:
    """Serves rows; belongs in the event loop's thread."""

    recommending: Recommending
    items: Items
    reader: StateReader

    async def get(self, user: int, name: int | str, query: RowsQuery) -> Answer:
        """Return the rows of a listener, none for one of whom nothing is known; raises `UnavailableError`.

        None has what was heard lately, or what is not recommended to the listener.
        """
        known, kinds = self.recommending.service.tracks.known, self.recommending.kinds
        try:
            (state,) = await asyncio.to_thread(self.reader.users, [user])
        except REDIS_ERRORS as error:
            raise UnavailableError.of_redis(error) from error
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
        rows: list[Row] = []

        def add(title: str, numbers: Iterable[int], because: Track | None = None) -> None:
            found: list[Item] = []
            for number in numbers:
                if number not in out and (track := allowed(number)) is not None:
                    out.add(number)
                    found.append(Item(**fields_of(track)))
                    if len(found) == query.n:
                        break
            if found:
                cause = None if because is None else Item(**fields_of(because))
                rows.append(Row(title=title, because=cause, items=found))

        genres = Counter(seed.genre for seed in seeds if seed.genre is not None)
        for seed in seeds:
            if len(rows) >= query.rows - bool(genres):
                break
            title = reason_text(Track(-1, "", None, None, ""), "", seed.track, seed, did.get(seed.track))
            add(title, self._near(seed), seed)
        for genre, _ in genres.most_common(1):
            popular = await self.items.charts.popular("1d")
            add(f"popular in {genre}", (one for one, _ in popular if _is_of(known(one), genre)))
        return Answer(user=name, rows=rows)

    def _near(self, seed: Track) -> Iterator[int]:
        """Yield what is similar to a track, as `Items.similar` lists it; most rows are full before the artist's."""
        yield from (track for track, _ in self.items.neighbours(seed.track))
        for tracks in self.recommending.service.tracks.sharing(seed):
            yield from tracks


def _is_of(track: Track | None, genre: str) -> bool:
    return track is not None and track.genre == genre
