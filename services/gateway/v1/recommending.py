"""Recommendations without a listen: the request to the recommenders, a fallback, and what the answer says."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from botify.core.keyed_random import Keys, integers, keys_of_texts, mix, uniform
from botify.schemas.events import Recommendation, RecommendationRequest, Slate, SlateRequest, SlateRule, Track
from botify.schemas.external_ids import track_named
from botify.services.gateway.service import POPULAR, RANDOM, GatewayService
from botify.services.gateway.sessions import Attribution, ListenerStore, RequestId
from botify.services.gateway.v1.feedback_file import Kinds, Signal, duration_ms
from botify.services.gateway.v1.models import Item, Reason, RecommendationsQuery
from botify.services.recommender.filters import blocked_by, passes, wanted_by
from botify.services.recommender.protocol import Because, RandomStream, reason_text
from botify.streams.folds.feedback import read_shown, shown_often
from botify.streams.folds.users import HISTORY_LISTENS
from botify.streams.learner.models.next_track_state import LAST_SHOWN

SESSION = "session"  # of `exclude_shown`: what answers gave in the session
MOST_EXCLUDED = 5_000  # more than a call, opinions, pages and impressions name together
MOST_LIKED = HISTORY_LISTENS
LOOKED_AT = 2_048  # tracks, at most, for a fallback that popular ones do not fill: some milliseconds


class Answered(NamedTuple):
    """An answer of `models.Recommendations` in JSON; models cost 15 µs an item, and our own values need no checks."""

    body: bytes
    fallback: bool


@dataclass(frozen=True, slots=True)
class Recommending:
    """Serves recommendations."""

    service: GatewayService
    listeners: ListenerStore
    kinds: Kinds
    rules: Callable[[int], list[SlateRule]] = lambda now_ms: []

    async def recommend(
        self, user: int, name: int | str, query: RecommendationsQuery, request_id: RequestId
    ) -> Answered:
        """Return recommendations for a listener; raises `UnavailableError`."""
        began_s = time.monotonic()
        request, signals = await self.request(user, query, request_id.id_)
        answer, waited_ms, late = await self.answer(request, began_s)
        if answer.slate is not None and answer.slate["tracks"]:
            stored = Attribution(answer, waited_ms).to_bytes(self.service.codec)
            await self.listeners.put_slate(user, stored)
            if query.exclude_shown == SESSION:
                await self.listeners.put_given(user, query.session or "", answer.slate["tracks"])
        did = {one.track: one.kind for one in signals}
        return await self._body(answer, name, query, did, late=late)

    async def request(
        self, user: int, query: RecommendationsQuery, id_: str
    ) -> tuple[RecommendationRequest, list[Signal]]:
        """Return what is asked of the recommender, and what counts as a listen in it; raises `UnavailableError`."""
        asked = self.listeners.session(user), self.listeners.said(user), self.listeners.shown(user)
        current, said, shown = await asyncio.gather(*asked)
        given = await self.listeners.given(user, query.session or "") if query.exclude_shown == SESSION else []
        now_ms = self.service.clock.now_ms(user)
        signals = self.kinds.signals(said)[-MOST_LIKED:]
        said_of = reversed(self.kinds.excluded(said, now_ms))
        excluded = dict.fromkeys([*self._numbers_of(query.exclude), *said_of, *reversed(given)])
        request = RecommendationRequest(
            id_,
            user,
            query.session or current or id_,
            *(0, 0, 0.0, now_ms),  # nothing heard: position, track, fraction, and when
            int(time.time() * 1000) + self.service.deadline_ms,
            slate=_slate_request(query, excluded, signals, read_shown(shown), now_ms, self.rules(now_ms)),
        )
        return request, signals

    async def answer(self, request: RecommendationRequest, began_s: float) -> tuple[Recommendation, float, bool]:
        """Return an answer, how long it took in ms, and whether it is a fallback."""
        answer = await self.service.rpc.ask(request)
        waited_ms = (time.monotonic() - began_s) * 1000
        if answer is None or answer.slate is None:
            return self._fallback(request, waited_ms), waited_ms, True
        return answer, waited_ms, False

    def _numbers_of(self, names: Sequence[str]) -> list[int]:
        """Return the numbers of items by their names, or of a list with commas; unknown ones cannot be recommended."""
        known, found = self.service.tracks.known, []
        for name in names:
            one = known(track_named(name))
            tracks = [one] if one is not None else [known(track_named(part)) for part in name.split(",")]
            found += [track.track for track in tracks if track is not None]
        return found

    def _fallback(self, request: RecommendationRequest, waited_ms: float) -> Recommendation:
        """Return popular tracks, then others, both in random order, the same for the same request; none is pinned."""
        slate: Any = request.slate
        size, key = slate["size"], keys_of_texts([request.request_id])
        popular = self._allowed(self.service.fallback.popular(), slate)
        tracks, propensities = _drawn(popular, len(popular), size, key, RandomStream.TOPPOP)
        first, candidates = len(tracks), len(popular)
        if first < size:
            others, of = self._others(slate, popular, key)
            more, chances = _drawn(others, of, size - first, key, RandomStream.RANDOM)
            tracks, propensities, candidates = tracks + more, propensities + chances, candidates + len(others)
        rest = len(tracks) - first
        made: Slate = {
            "tracks": tracks,
            "propensities": propensities,
            "scores": [0.0] * len(tracks),
            "sources": [POPULAR] * first + [RANDOM] * rest,
            "because": [int(Because.POPULAR)] * first + [int(Because.EXPLORED)] * rest,
            "versions": {},
        }
        chosen = (request.request_id, request.user, tracks[0] if tracks else -1, POPULAR if popular else RANDOM)
        return Recommendation(
            *chosen,
            self.service.fallback.treatments_of(request.user),
            math.prod(propensities),
            state_freshness=0,
            latency_ms=waited_ms,
            timestamp_ms=request.timestamp_ms,
            candidates=candidates,
            slate=made if tracks else None,
        )

    def _others(self, slate: SlateRequest, popular: Collection[int], key: Keys) -> tuple[list[int], float]:
        """Return tracks that are allowed and not popular, of `LOOKED_AT` at random, and how many all would give."""
        every = self.service.fallback.tracks()
        rows = np.arange(len(every))
        if len(every) > LOOKED_AT:
            rows = np.unique(integers(mix(key, np.arange(LOOKED_AT)), RandomStream.RANDOM, len(every)))
        found = [track for track in self._allowed((every[row] for row in rows.tolist()), slate) if track not in popular]
        return found, len(found) * len(every) / max(len(rows), 1)

    def _allowed(self, tracks: Iterable[Any], slate: SlateRequest) -> list[int]:
        wanted, blocked, out = wanted_by(slate["filters"]), blocked_by(slate["rules"]), set(slate["exclude"])
        found = []
        for number in map(int, tracks):
            track = self.service.tracks.known(number)
            if track is None or track.deleted or number in out:
                continue
            if passes(track, wanted) and not blocked(track):
                found.append(number)
        return found

    async def _body(
        self,
        answer: Recommendation,
        name: int | str,
        query: RecommendationsQuery,
        did: Mapping[int, str],
        *,
        late: bool,
    ) -> Answered:
        slate, items = answer.slate, []
        for place, number in enumerate(slate["tracks"] if slate is not None else ()):
            track = await self.service.tracks.find(number)
            if slate is None or track is None:
                continue
            item = fields_of(track)
            item["propensity"] = slate["propensities"][place]
            if query.explain:
                item["reason"] = self._reason(track, slate, place, did).model_dump(exclude_none=True)
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

    def _reason(self, track: Track, slate: Slate, place: int, kinds: Mapping[int, str]) -> Reason:
        source, number = slate["sources"][place], slate["because"][place]
        because = self.service.tracks.known(number) if number >= 0 else None
        features: dict[str, bool] = {}
        if because is not None and number != track.track:
            same_genre = because.genre is not None and because.genre == track.genre
            features = {"same_artist": because.artist == track.artist, "same_genre": same_genre}
        return Reason(
            policy=source,
            score=slate["scores"][place],
            because=None if because is None else Item(**fields_of(because)),
            features=features,
            text=reason_text(track, source, number, because, kinds.get(number)),
            model_versions=slate["versions"],
        )


def _drawn(
    tracks: Sequence[int], of: float, most: int, key: Keys, stream: RandomStream
) -> tuple[list[int], list[float]]:
    """Return tracks in random order, at most `most`, and the probability of each, given those before it."""
    order = np.argsort(uniform(mix(key, np.arange(len(tracks))), stream), kind="stable")[:most]
    return [tracks[at] for at in order.tolist()], [1.0 / (of - place) for place in range(len(order))]


def _slate_request(
    query: RecommendationsQuery,
    excluded: Iterable[int],
    signals: Sequence[Signal],
    shown: NDArray[np.void],
    now_ms: int,
    rules: list[SlateRule],
) -> SlateRequest:
    """Return what is asked of the recommender: all that it needs is in the request."""
    out, often = list(excluded), shown_often(shown)
    if query.exclude_shown not in (None, SESSION):
        recent = shown["timestamp_ms"] >= now_ms - duration_ms(query.exclude_shown)
        out = [*dict.fromkeys([*out, *shown["track"][recent].tolist()])]
    caps = [one.rpartition(":") for one in query.cap]
    return {
        "size": query.n,
        "without_listen": True,
        "exclude": out[:MOST_EXCLUDED],
        "filters": list(query.filter),
        "liked": [one.track for one in signals],
        "explain": query.explain,
        "liked_ms": [one.time_ms for one in signals],
        "liked_weights": [one.weight for one in signals],
        "shown": [track for track, _, _ in often],
        "shown_since_ms": [since_ms for _, since_ms, _ in often],
        "shown_ms": [last_ms for _, _, last_ms in often],
        "impressions": shown["track"][-LAST_SHOWN:].tolist(),
        "impressions_ms": shown["timestamp_ms"][-LAST_SHOWN:].tolist(),
        "caps": {field: int(most) for field, _, most in caps},
        "rules": rules,
    }


def fields_of(track: Track) -> dict[str, Any]:
    """Return the fields of `Item`, without those that are not known."""
    number, artist, album, genre, title, external_id, genres, mood, year, country, *_ = track
    fields: dict[str, Any] = {"item": number if external_id is None else external_id, "number": number}
    fields |= {"title": title, "artist": artist}
    more = {"album": album, "genre": genre, "genres": genres, "mood": mood, "year": year, "country": country}
    return fields | {name: value for name, value in more.items() if value is not None}


def name_of(track: Track) -> int | str:
    """Return an item's external id, or its number where it has none."""
    return track.track if track.external_id is None else track.external_id
