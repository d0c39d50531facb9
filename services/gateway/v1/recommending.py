"""Recommendations without a listen: the request to the recommenders, a fallback, and what the answer says."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pydantic_core import to_json

from botify.core.keyed_random import keys_of_texts, mix, uniform
from botify.schemas.events import Recommendation, RecommendationRequest, Slate, Track
from botify.schemas.external_ids import track_named
from botify.services.gateway.service import POPULAR, RANDOM, GatewayService
from botify.services.gateway.sessions import Attribution, ListenerStore, RequestId
from botify.services.gateway.v1.models import Item, Reason, RecommendationsQuery
from botify.services.recommender.filters import by_field, values_of
from botify.services.recommender.protocol import Because, RandomStream
from botify.streams.folds.users import HISTORY_LISTENS

MOST_EXCLUDED = 2_000
MOST_LIKED = HISTORY_LISTENS


class Answered(NamedTuple):
    """An answer of `models.Recommendations` in JSON; models cost 15 µs an item, and our own values need no checks."""

    body: bytes
    fallback: bool


@dataclass(frozen=True, slots=True)
class Recommending:
    """Serves recommendations; belongs in the event loop's thread."""

    service: GatewayService
    listeners: ListenerStore

    async def recommend(
        self, user: int, name: int | str, query: RecommendationsQuery, request_id: RequestId
    ) -> Answered:
        """Return recommendations for a listener; raises `UnavailableError`."""
        began_s = time.monotonic()
        current, opinions = await self.listeners.session_and_opinions(user)
        known = [*reversed(opinions.disliked), *reversed(opinions.liked)]
        excluded = dict.fromkeys([*self._numbers_of(query.exclude), *known])
        session = query.session or current or request_id.id_
        deadline_ms = int(time.time() * 1000) + self.service.deadline_ms
        nothing_heard = (0, 0, 0.0, self.service.clock.now_ms(user))  # position, track, fraction, and when
        request = RecommendationRequest(
            request_id.id_,
            user,
            session,
            *nothing_heard,
            deadline_ms,
            slate={
                "size": query.n,
                "without_listen": True,
                "exclude": list(excluded)[:MOST_EXCLUDED],
                "filters": list(query.filter),
                "liked": opinions.liked[-MOST_LIKED:],
                "explain": query.explain,
            },
        )
        answer = await self.service.rpc.ask(request)
        waited_ms = (time.monotonic() - began_s) * 1000
        late = answer is None or answer.slate is None
        if answer is None or answer.slate is None:
            answer = self._fallback(request, query.filter, waited_ms)
        if answer.slate is not None and answer.slate["tracks"]:
            stored = Attribution(answer, waited_ms).to_bytes(self.service.codec)
            await self.listeners.put_slate(user, stored)
        return await self._body(answer, name, query, opinions.liked, late=late)

    def _numbers_of(self, names: Sequence[str]) -> list[int]:
        """Return the numbers of items by their names, or of a list with commas; unknown ones cannot be recommended."""
        known, found = self.service.tracks.known, []
        for name in names:
            one = known(track_named(name))
            tracks = [one] if one is not None else [known(track_named(part)) for part in name.split(",")]
            found += [track.track for track in tracks if track is not None]
        return found

    def _fallback(self, request: RecommendationRequest, filters: Sequence[str], waited_ms: float) -> Recommendation:
        """Return popular tracks in random order, the same for the same request."""
        slate = request.slate
        out = set() if slate is None else set(slate["exclude"])
        popular = self._allowed(self.service.fallback.popular(), filters, out)
        name = POPULAR if popular else RANDOM
        top = np.array(popular or self._allowed(self.service.fallback.tracks(), filters, out), dtype=np.int64)
        size = min(len(top), 0 if slate is None else slate["size"])
        keys = mix(keys_of_texts([request.request_id]), np.arange(len(top)))
        tracks = top[np.argsort(uniform(keys, RandomStream.TOPPOP), kind="stable")][:size].tolist() if size else []
        propensities = [1.0 / (len(top) - place) for place in range(size)]
        made: Slate = {
            "tracks": tracks,
            "propensities": propensities,
            "scores": [0.0] * size,
            "sources": [name] * size,
            "because": [Because.POPULAR if popular else Because.EXPLORED] * size,
            "versions": {},
        }
        chosen = (request.request_id, request.user, tracks[0] if tracks else -1, name)
        return Recommendation(
            *chosen,
            self.service.fallback.treatments_of(request.user),
            math.prod(propensities),
            state_freshness=0,
            latency_ms=waited_ms,
            timestamp_ms=request.timestamp_ms,
            candidates=len(top),
            slate=made if tracks else None,
        )

    def _allowed(self, tracks: Iterable[Any], filters: Sequence[str], out: set[int]) -> list[int]:
        wanted = by_field(filters)
        found = []
        for number in map(int, tracks):
            track = self.service.tracks.known(number)
            if track is None or track.deleted or number in out:
                continue
            if all(values.intersection(values_of(track, field)) for field, values in wanted.items()):
                found.append(number)
        return found

    async def _body(
        self, answer: Recommendation, name: int | str, query: RecommendationsQuery, liked: Sequence[int], *, late: bool
    ) -> Answered:
        slate, items = answer.slate, []
        for place, number in enumerate(slate["tracks"] if slate is not None else ()):
            track = await self.service.tracks.find(number)
            if slate is None or track is None:
                continue
            item = fields_of(track)
            item["propensity"] = slate["propensities"][place]
            if query.explain:
                item["reason"] = self._reason(track, slate, place, liked).model_dump(exclude_none=True)
            items.append(item)
        body = {
            "id": answer.request_id,
            "user": name,
            "items": items,
            "policy": "/".join(filter(None, (answer.recommender, answer.policy))),
            "propensity": answer.propensity if items else 1.0,
            "experiments": answer.treatments,
            "fallback": late,
        }
        return Answered(to_json(body), late)

    def _reason(self, track: Track, slate: Slate, place: int, liked: Sequence[int]) -> Reason:
        source, number = slate["sources"][place], slate["because"][place]
        because = self.service.tracks.known(number) if number >= 0 else None
        features: dict[str, bool] = {}
        if because is None:
            text = _TEXTS.get(number, f"offered by {source}")
        elif number == track.track:
            text = "you heard it before"
        else:
            same_genre = because.genre is not None and because.genre == track.genre
            features = {"same_artist": because.artist == track.artist, "same_genre": same_genre}
            did = "liked" if number in liked else "heard"
            if source in _OF_ARTIST:
                text = f"by {track.artist}, of whom you {did} {because.title}"
            else:
                text = f"because you {did} {because.title} by {because.artist}"
        return Reason(
            policy=source,
            score=slate["scores"][place],
            because=None if because is None else Item(**fields_of(because)),
            features=features,
            text=text,
            model_versions=slate["versions"],
        )


_TEXTS: dict[int, str] = {Because.EXPLORED: "explored at random", Because.POPULAR: "popular now", Because.NEW: "new"}
_OF_ARTIST = ("sticky_artist", "sticky_norepeat")


def fields_of(track: Track) -> dict[str, Any]:
    """Return the fields of `Item`, without those that are not known."""
    number, artist, album, genre, title, external_id, genres, mood, year, country, _ = track
    fields: dict[str, Any] = {"item": number if external_id is None else external_id, "number": number}
    fields |= {"title": title, "artist": artist}
    more = {"album": album, "genre": genre, "genres": genres, "mood": mood, "year": year, "country": country}
    return fields | {name: value for name, value in more.items() if value is not None}


def name_of(track: Track) -> int | str:
    """Return an item's external id, or its number where it has none."""
    return track.track if track.external_id is None else track.external_id
