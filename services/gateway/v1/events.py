"""Events of listeners: listens go to the topic of listens, all else to that of feedback.

A listen without a time or session of its own is live: it continues the listener's session at the gateways, as `/next`
does. Any other one is backfill: it leaves that session alone. Without a session of its own, it continues that of the
same listener's event before it in the batch, if that is at most half an hour older.

An event with an `id`, or in a request with an `Idempotency-Key`, has the same event id in each retry, and the worker
drops the copy, as long as it is among the last 50 listens of its listener. So a call has no more of one listener: else
the end of a call would displace its beginning, and a retry of it count again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from botify.core.errors import DecodeError
from botify.core.kafka.config import key_of
from botify.schemas.events import DESCRIBED, SHOWN, Feedback, Listen
from botify.schemas.external_ids import UserIdError
from botify.services.errors import UnavailableError, UnknownTrackError, WrongEventError
from botify.services.gateway.rpc import PendingReply
from botify.services.gateway.service import GatewayService
from botify.services.gateway.sessions import (
    Attribution,
    ListenerStore,
    ListenReport,
    RequestId,
    Resolved,
    SessionPosition,
    fingerprint_of,
    listen_of,
)
from botify.services.gateway.v1.feedback_file import Kinds
from botify.services.gateway.v1.models import LISTENED_KINDS, Event, ShownEvent
from botify.streams.folds.feedback import merged, with_shown
from botify.streams.folds.sessions import GAP_MS
from botify.streams.folds.users import HISTORY_LISTENS


class ResolvedEvent(NamedTuple):
    """An event in numbers."""

    event: Event | ShownEvent
    user: int
    tracks: list[int]  # one, unless they were shown
    key: str | None  # the same in each retry
    request_id: str

    @property
    def heard(self) -> Event | None:
        """The event if it is a listen."""
        return self.event if isinstance(self.event, Event) and self.event.is_listen else None


@dataclass(frozen=True, slots=True)
class EventPublisher:
    """Publishes events."""

    service: GatewayService
    listeners: ListenerStore
    feedback_topic: str
    kinds: Kinds

    async def publish(self, events: Sequence[Event | ShownEvent], request_id: RequestId) -> list[str]:
        """Publish events, and return their ids, when all are acknowledged.

        Raises `WrongEventError` before any is published, and `UnavailableError` if some may not be in their topics; a
        retry with ids or a key counts once.
        """
        names: dict[str, Resolved] = {}
        resolved = [await self._resolve(event, at, request_id, names) for at, event in enumerate(events)]
        _grouped([str(event.user) for event in events], resolved)  # before a name is published
        number_of = self.service.names.number_of
        found = [number_of(name, f"{request_id.id_}:{at}", names[name]) for at, name in enumerate(names)]
        numbers = dict(zip(names, await asyncio.gather(*found), strict=True))
        resolved = [one._replace(user=numbers[str(one.event.user)]) for one in resolved]
        groups = _grouped([one.user for one in resolved], resolved)
        publishing = [self._publish([resolved[at] for at in members], request_id) for members in groups]
        ids: dict[int, str] = {}
        for members, published in zip(groups, await asyncio.gather(*publishing), strict=True):
            ids.update(zip(members, published, strict=True))
        return [ids[at] for at in range(len(resolved))]

    async def _resolve(
        self, event: Event | ShownEvent, at: int, request_id: RequestId, names: dict[str, Resolved]
    ) -> ResolvedEvent:
        """Return an event in numbers; `names` are those of the call that are resolved already, and gets its user's."""

        def wrong(why: object, *field: str | int) -> WrongEventError:
            return WrongEventError(("body", "events", at, *field), str(why))

        if isinstance(event, Event) and not event.is_listen:
            if event.kind not in (told := self.kinds.names):
                known = ", ".join([*LISTENED_KINDS, SHOWN, *told])
                raise wrong(f"{event.kind!r} is none of {known}; BOTIFY_FEEDBACK declares others", "kind")
            if event.fraction is not None or event.ends_session:
                raise wrong(f"a {event.kind} has no fraction and ends no session", "fraction")
        try:
            if (name := str(event.user)) not in names:
                names[name] = await self.service.names.resolve(name)
        except UserIdError as error:
            raise wrong(error, "user") from error
        user, _ = names[name]
        tracks = []
        for place, item in enumerate([event.item] if isinstance(event, Event) else event.items):
            try:
                tracks.append((await self.service.track(item)).track)
            except UnknownTrackError as error:
                raise wrong(error, *(("item",) if isinstance(event, Event) else ("items", place))) from error
        if event.time_ms is not None and not 0 <= event.time_ms <= self.service.clock.latest_ms(user):
            raise wrong("the time is in the future, or before 1970", "time")
        key = event.id or (None if request_id.key is None else f"{request_id.key} {at}")
        return ResolvedEvent(event, user, tracks, key, f"{request_id.id_}.{at}")

    async def _publish(self, resolved: Sequence[ResolvedEvent], request_id: RequestId) -> list[str]:
        ids: list[str] = []
        waiting: list[PendingReply] = []
        said: list[Feedback] = []
        before: tuple[str, int, int] | None = None  # the session, position and time of the last backfilled listen
        for one in resolved:
            if (event := one.heard) is None:
                said.append(self._feedback(one))
                ids.append(said[-1].event_id)
            elif event.time is None and event.session is None:
                ids.append(await self._listen_now(one, event, request_id))
            else:
                listen = self._backfilled(one, event, before)
                before = listen.session_id, listen.position, listen.timestamp_ms
                waiting.append(self.service.rpc.send(one.request_id, listen, None))
                ids.append(listen.event_id)
        if said:
            await self.give(said, resolved[0].request_id)
        for future in waiting:
            await future
        return ids

    def _feedback(self, one: ResolvedEvent) -> Feedback:
        time_ms = self.service.clock.now_ms(one.user) if one.event.time_ms is None else one.event.time_ms
        if isinstance(one.event, ShownEvent):
            return Feedback(_id_of(one), one.user, 0, SHOWN, time_ms, tracks=one.tracks)
        return Feedback(_id_of(one), one.user, one.tracks[0], one.event.kind, time_ms)

    async def _listen_now(self, one: ResolvedEvent, event: Event, request_id: RequestId) -> str:
        report = ListenReport(one.user, one.tracks[0], event.share)
        call = RequestId(one.request_id, request_id.client_id, one.key)
        ends = event.ends_session
        at = await self.service.sessions.next_position(one.user, fingerprint_of(report, call, ends=ends))
        if at.answered:
            return at.event_id
        attribution = await self._attribution(one, at)
        listen = listen_of(report, at, attribution, self.service.clock.now_ms(one.user), ended=ends)
        await self.service.rpc.send(one.request_id, listen, None)
        await self.service.sessions.store_answer(one.user, at.event_id)
        return at.event_id

    def _backfilled(self, one: ResolvedEvent, event: Event, before: tuple[str, int, int] | None) -> Listen:
        event_id = _id_of(one)
        time_ms = self.service.clock.now_ms(one.user) if event.time_ms is None else event.time_ms
        session, position = event.session, 0
        if before is not None and (session == before[0] or (session is None and 0 <= time_ms - before[2] <= GAP_MS)):
            session, position = before[0], before[1] + 1
        report = ListenReport(one.user, one.tracks[0], event.share)
        at = SessionPosition(session or event_id, position, None, event_id)
        return listen_of(report, at, None, time_ms, ended=event.ends_session)

    async def _attribution(self, one: ResolvedEvent, at: SessionPosition) -> Attribution | None:
        """Return the recommendation that the listen follows: a slate that has its track, or the answer to a `/next`."""
        for record in filter(None, [*await self.listeners.slates(one.user), at.attribution]):
            with suppress(DecodeError):  # written by a gateway with newer schemas
                found = attributed_to(Attribution.from_bytes(record, self.service.codec), one.tracks[0])
                if found is not None:
                    return found
        return None

    async def give(self, said: Sequence[Feedback], request_id: str) -> bool:
        """Publish what a listener said, and return whether the state has it, as `settle` does."""
        publish, topic, encode = self.service.rpc.publish, self.feedback_topic, self.service.codec.encode
        waiting = [publish(f"{request_id}:{at}", topic, key_of(one.user), encode(one)) for at, one in enumerate(said)]
        await asyncio.gather(*waiting)
        user, described = said[0].user, [one.attributes for one in said if one.kind == DESCRIBED]
        seen = [(one.timestamp_ms, track) for one in said for track in one.tracks or ()]
        more = [(one.timestamp_ms, one.track, one.kind) for one in said if one.kind not in (SHOWN, DESCRIBED)]

        async def folded() -> bool:
            has_all = not seen or with_shown(record := await self.listeners.shown(user), seen) == record
            has_all = has_all and (not described or (await self.listeners.attributes(user))[1] == described[-1])
            return has_all and (not more or merged(found := await self.listeners.said(user), more) == found)

        return await self.settle(folded)

    async def settle(self, settled: Callable[[], Awaitable[bool]]) -> bool:
        """Return whether workers fold what was said before the deadline, so that the next call finds it."""
        pause_s = 0.01
        with suppress(TimeoutError, UnavailableError):  # it is on the topic, and so in the state later
            async with asyncio.timeout(self.service.deadline_ms / 1000):
                while not await settled():
                    await asyncio.sleep(pause_s)
                    pause_s *= 1.5  # where workers are away, many calls wait
                return True
        return False


def attributed_to(found: Attribution, track: int) -> Attribution | None:
    """Return the part of a recommendation that offered a track; None if it did not."""
    whole = found.recommendation
    if whole.slate is None:
        return found if whole.track == track else None
    if track not in whole.slate["tracks"]:
        return None
    place = whole.slate["tracks"].index(track)
    by = whole.recommender if whole.policy is not None else whole.slate["sources"][place]
    propensity = whole.slate["propensities"][place]
    item = whole._replace(track=track, propensity=propensity, recommender=by, slate=None)
    return found._replace(recommendation=item)


def _grouped(listeners: Sequence[object], resolved: Sequence[ResolvedEvent]) -> list[list[int]]:
    """Return the places of each listener's events; raises `WrongEventError` if one has more listens than may be."""
    places: dict[object, list[int]] = {}
    for at, listener in enumerate(listeners):
        places.setdefault(listener, []).append(at)
    for members in places.values():
        if beyond := [at for at in members if resolved[at].heard][HISTORY_LISTENS:]:
            why = f"a call takes {HISTORY_LISTENS} listens of a listener; send others after it"
            raise WrongEventError(("body", "events", beyond[0], "user"), why)
    return list(places.values())


def _id_of(one: ResolvedEvent) -> str:
    if one.key is None:
        return one.request_id
    said = f"{one.user} {' '.join(map(str, one.tracks))} {one.event.kind} {one.key}"
    return f"e{hashlib.blake2b(said.encode(), digest_size=16).hexdigest()}"
