"""Items: put and deleted on the catalogue's topic, and their lists: similar, popular, rising, latest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from botify.core.kafka.config import key_of
from botify.schemas.events import Track
from botify.schemas.sketches import sketch_of
from botify.schemas.validation import MAX_NAME, MAX_TRACK
from botify.services.errors import InvalidRequestError, UnknownItemError
from botify.services.gateway.service import GatewayService, answer_of
from botify.services.gateway.sessions import ListenerStore, RequestId
from botify.services.gateway.v1.models import ItemBody, ItemPage, PageQuery, Scored
from botify.services.gateway.v1.recommending import fields_of
from botify.streams.folds.popularity import HALF_LIVES_MS
from botify.streams.read import StateReader

NUMBERS_OF_CLIENTS = 2**30
"""A new item is numbered above all others. So that a client that names the highest number leaves some."""
CHART = 1_000
ALIKE = 200  # items of similar content to one that nobody heard
CHART_S = 5.0
Scores = list[tuple[int, float]]
Neighbours = Callable[[int], Scores]
"""Returns the neighbours of an item, the nearest first; none before the first snapshot of `next_track`."""


class Charts:
    """Popular tracks by half-life, at most `CHART_S` old."""

    def __init__(self, reader: StateReader, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self._charts: dict[str, tuple[float, Scores]] = {}

    async def popular(self, half_life: str) -> Scores:
        """Return the most popular tracks with their decayed listens, best first; raises `UnavailableError`."""
        read_s, chart = self._charts.get(half_life, (-CHART_S, []))
        if self._clock() - read_s >= CHART_S:
            chart = await answer_of(asyncio.to_thread(self._read, half_life))
            self._charts[half_life] = self._clock(), chart
        return chart

    async def rising(self) -> Scores:
        """Return tracks by the ratio of their shares of all popularity in the last hour and day, best first."""
        now, before = await self.popular("1h"), dict(await self.popular("1d"))
        both = [(track, score, before[track]) for track, score in now if track in before and score >= 1]
        if not both:
            return []
        rate = HALF_LIVES_MS["1d"] / HALF_LIVES_MS["1h"]
        return sorted(((track, score * rate / was) for track, score, was in both), key=lambda one: -one[1])

    def _read(self, half_life: str) -> Scores:
        tracks, listens, _ = self._reader.top_tracks(half_life, CHART)
        return list(zip(tracks.tolist(), np.round(listens, 4).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Items:
    """Serves items."""

    service: GatewayService
    listeners: ListenerStore
    charts: Charts
    neighbours: Neighbours
    catalogue_topic: str
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def get(self, name: int | str) -> Track:
        """Return an item; raises `UnknownItemError`."""
        found = await self.service.tracks.find(name)
        if found is None or found.deleted:
            raise UnknownItemError(f"there is no item {name!r}")
        return found

    async def put(self, name: int | str, body: ItemBody, request_id: RequestId) -> Track:
        """Add or replace an item, and return it; the answer comes when it is on the topic."""
        async with self.writing:
            if self.service.tracks.known(name) is None:
                await self.service.tracks.refresh()
            track = await self._track_of(name, body)
            await self._publish(track, request_id)
        return track

    async def _track_of(self, name: int | str, body: ItemBody) -> Track:
        known = self.service.tracks.known(name)
        if known is not None:
            number, external_id = known.track, known.external_id
        elif isinstance(name, int):
            if name >= NUMBERS_OF_CLIENTS:
                raise UnknownItemError(f"no item has number {name}; a new one's is below {NUMBERS_OF_CLIENTS}")
            number, external_id = name, None
        else:
            if len(name) > MAX_NAME:
                why = f"the name of a new item has at most {MAX_NAME} characters"
                raise InvalidRequestError([{"loc": ("path", "item"), "msg": why}])
            number = await self.listeners.number_of(name, self.service.tracks.highest() + 1)
            external_id = name
        if number > MAX_TRACK:
            raise UnknownItemError(f"the highest number of an item is {MAX_TRACK}")
        genres = body.genres or None
        genre = body.genre or (genres[0] if genres else None)
        more = (body.title, external_id, genres, body.mood, body.year, body.country)
        sketch = None if body.vector is None else sketch_of(body.vector)
        return Track(number, body.artist, body.album, genre, *more, sketch=sketch)

    async def delete(self, name: int | str, request_id: RequestId) -> Track:
        """Delete an item, and return what it was; raises `UnknownItemError`.

        Its record stays on the topic, marked as deleted: without it, a replay would reject its listens and give another
        state.
        """
        async with self.writing:
            found = await self.get(name)
            await self._publish(found._replace(deleted=True), request_id)
        return found

    async def _publish(self, track: Track, request_id: RequestId) -> None:
        value = self.service.codec.encode(track)
        await self.service.rpc.publish(request_id.id_, self.catalogue_topic, key_of(track.track), value)
        await self.service.tracks.refresh()

    async def similar(self, name: int | str, query: PageQuery) -> ItemPage:
        """Return the items heard near one, or of similar content if none was, then its artist's, then its genre's."""
        item = await self.get(name)
        of_artist, of_genre = self.service.tracks.sharing(item)
        found = dict.fromkeys(of_genre, -1.0) | dict.fromkeys(of_artist, 0.0)
        found.pop(item.track, None)
        found |= dict(self.neighbours(item.track) or await self.service.tracks.alike(item, ALIKE))
        return self.page(sorted(found.items(), key=lambda one: (-one[1], one[0])), query)

    def latest(self, query: PageQuery) -> ItemPage:
        """Return the items that were added last, by number."""
        ids = self.service.tracks.ids()
        newest = (int(ids[at]) for at in range(len(ids) - 1 - query.offset, -1, -1))
        return self._page(((track, float(track)) for track in newest), len(ids), query)

    def page(self, scores: Sequence[tuple[int, float]], query: PageQuery) -> ItemPage:
        return self._page(scores[query.offset :], len(scores), query)

    def _page(self, rest: Iterable[tuple[int, float]], count: int, query: PageQuery) -> ItemPage:
        """Return a page from what follows the cursor in a list of that many items."""
        at = place = query.offset
        items = []
        for place, (number, score) in enumerate(rest, at + 1):  # noqa: B007 - used behind the loop
            track = self.service.tracks.known(number)
            if track is not None and not track.deleted:
                items.append(Scored(**fields_of(track), score=score))
            if len(items) == query.limit:
                break
        return ItemPage(items=items, next=f"o{place}" if place < count else None)
