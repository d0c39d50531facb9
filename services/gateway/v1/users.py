"""Listeners: what is known of them, what they like as it is put, their erasure, and why they got an answer."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psutil
from pydantic import ValidationError

from botify.core.errors import BotifyError
from botify.core.process import in_daemon_thread
from botify.core.settings import Settings
from botify.schemas.events import DESCRIBED, OPINION_KINDS, Feedback, group_of
from botify.services.errors import InvalidRequestError, UnavailableError, UnknownItemError, UnknownTrackError
from botify.services.gateway.service import GatewayService, answer_of
from botify.services.gateway.sessions import ListenerStore, RequestId
from botify.services.gateway.v1.events import EventPublisher
from botify.services.gateway.v1.models import Erased, ErasureStatus, Heard, User, UserBody, Why, WhyQuery
from botify.services.gateway.v1.recommending import name_of
from botify.streams.read import StateReader
from botify.streams.store.keys import gateway_erasure

ERASURES_AT_ONCE, MOST_ERASURES = 2, 64
"""How many have a thread, of their own because they block for seconds, and how many wait or are in progress."""
QUICK_S = 5.0  # how long a call waits for an erasure before it is answered that it takes longer


@dataclass(frozen=True, slots=True)
class Users:
    """Serves what is known of listeners."""

    service: GatewayService
    listeners: ListenerStore
    reader: StateReader
    erasures: Erasures
    events: EventPublisher
    erasing: dict[int, asyncio.Task[int]] = field(default_factory=dict)
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ERASURES_AT_ONCE))

    async def get(self, user: int, name: int | str) -> User:
        """Return a listener; raises `UnknownItemError` if nothing was heard or said."""
        if (found := await self._find(user, name)) is None:
            raise UnknownItemError(f"nothing is known of {name!r}")
        return found

    async def put(self, called: str, body: UserBody, request_id: RequestId) -> User:
        """Replace likes, dislikes and attributes of the listener of a name, and return what is known.

        Facts on the topic of feedback are the differences alone, newer than all that the listener has said so far.
        Raises `InvalidRequestError` before any is published, and `UnavailableError` if some may not be, or workers are
        away: the state then has not what was said last, and another put would be compared with it.
        """
        wanted = await self._kinds(body)
        user = await self.service.names.number_of(called, request_id.id_)
        said = [one for one in await self.listeners.said(user) if one[2] in OPINION_KINDS]
        kinds = {track: kind for _, track, kind in said}
        only_described = body.model_fields_set == {"attributes"}
        withdrawn = [
            one for one, kind in kinds.items() if one not in wanted and kind != "unlike" and not only_described
        ]
        # first: what is said last is kept, if there is more than the state keeps
        wanted = {**dict.fromkeys(withdrawn, "unlike"), **wanted}
        changed = [(track, kind) for track, kind in wanted.items() if kinds.get(track) != kind]
        described_ms, attributes = await self.listeners.attributes(user)
        told_ms = [described_ms, *(time_ms for time_ms, _, _ in said)]
        begin_ms = max(self.service.clock.now_ms(user), max(told_ms) + 1)
        facts = [
            Feedback(f"{request_id.id_}.{at}", user, track, kind, begin_ms + at)
            for at, (track, kind) in enumerate(changed)
        ]
        if body.attributes is not None and body.attributes != attributes:
            described = Feedback(
                f"{request_id.id_}.described", user, 0, DESCRIBED, begin_ms, attributes=body.attributes
            )
            facts.append(described)
        if facts and not await self.events.give(facts, request_id.id_):
            raise UnavailableError("no worker has folded what was put yet")
        name = self.service.names.known_as(called)
        return await self._find(user, name) or User(
            user=name, listens=0, sessions=0, last_listens=[], likes=[], dislikes=[], said={}, attributes={}
        )

    async def _kinds(self, body: UserBody) -> dict[int, str]:
        kinds: dict[int, str] = {}
        wrong = []
        for kind, names in (("like", body.likes), ("dislike", body.dislikes)):
            for at, name in enumerate(names):
                try:
                    track, why = (await self.service.track(name)).track, f"{name!r} is one of the likes, too"
                except UnknownTrackError as error:
                    track, why = -1, str(error)
                if track < 0 or kinds.setdefault(track, kind) != kind:
                    wrong.append({"loc": ("body", f"{kind}s", at), "msg": why})
        if wrong:
            raise InvalidRequestError(wrong)
        return kinds

    async def _find(self, user: int, name: int | str) -> User | None:
        said = await self.listeners.said(user)
        (state,) = await answer_of(asyncio.to_thread(self.reader.users, [user]))
        by_kind: dict[str, list[int | str]] = {}
        for _, track, kind in said:
            if kind == "dislike" or (kind == group_of(kind) and kind != "unlike"):  # not what was withdrawn
                by_kind.setdefault(kind, []).append(self._name(track))
        _, attributes = await self.listeners.attributes(user)
        if state is None and not by_kind and not attributes:
            return None
        heard = [] if state is None else state.last_listens()[::-1].tolist()
        return User(
            user=name,
            listens=0 if state is None else state.listens,
            sessions=0 if state is None else state.sessions,
            last_listens=[
                Heard(item=self._name(track), fraction=share, time=datetime.fromtimestamp(time_ms / 1000, UTC))
                for _, time_ms, share, track in heard
            ],
            likes=by_kind.pop("like", []),
            dislikes=by_kind.pop("dislike", []),
            said=by_kind,
            attributes=attributes,
        )

    async def delete(self, user: int, name: int | str) -> Erased | ErasureStatus:
        """Erase a listener, or say that it takes longer; raises `UnavailableError`, and may be called again."""
        if (task := self.erasing.get(user)) is None:
            if len(self.erasing) >= MOST_ERASURES:
                raise UnavailableError(f"{MOST_ERASURES} erasures are in progress; ask again when some are done")
            task = self.erasing[user] = asyncio.create_task(self._erase(user))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # whether or not it is awaited
        await asyncio.wait({task}, timeout=QUICK_S)
        if not task.done():
            return ErasureStatus(user=name, status="running")
        return Erased(user=name, listens=task.result())

    async def _erase(self, user: int) -> int:
        try:
            await self.listeners.erase(user)
            async with self.room:
                listens = await answer_of(in_daemon_thread(lambda: self.erasures.erase(user)))

            async def forgotten() -> bool:
                return not (await self.listeners.said(user) or (await self.listeners.attributes(user))[1])

            await self.events.settle(forgotten)
            return listens
        finally:
            del self.erasing[user]

    async def erasure(self, user: int, name: int | str) -> ErasureStatus:
        """Return where the erasure of a listener stands; raises `UnknownItemError` if there was none for a day."""
        if user in self.erasing:
            return ErasureStatus(user=name, status="running")
        if (found := await answer_of(asyncio.to_thread(self.erasures.status, user))) is None:
            raise UnknownItemError(f"no erasure of {name!r} was asked for in the last day")
        return found.model_copy(update={"user": name})

    def _name(self, number: int) -> int | str:
        track = self.service.tracks.known(number)
        return number if track is None else name_of(track)


KEPT_MS = 24 * 60 * 60 * 1000  # how long it is known that a listener was erased

EraseListener = Callable[[int, Callable[[], bool]], int]
"""`botify.streams.dlq.exclude.erase_listener`, with the listener and what says whether there may be listens."""


class Erasures:
    """Erases listeners, blocking. At least once: an erasure that was interrupted has to be asked for again.

    Where one stands is in Redis, so that every gateway can say it.
    """

    def __init__(self, redis: Any, prefix: str, knows: Callable[[int], bool], erase_listener: EraseListener) -> None:
        self._redis, self._prefix, self._knows, self._erase_listener = redis, prefix, knows, erase_listener

    def erase(self, user: int) -> int:
        """Erase a listener, and return the number of listens; raises as `erase_listener`."""
        before, look = self.status(user), False

        def may_have_listens() -> bool:
            nonlocal look
            # an erasure that was not completed may have taken the state, and not yet all listens
            look = self._knows(user) if before is None or before.status == "done" else True
            return look

        self._put(user, None, status="running")
        try:
            listens = self._erase_listener(user, may_have_listens)
        except BotifyError as error:
            self._put(user, None, status="failed", detail=str(error))
            raise
        if before is not None and not look:  # these were not counted again
            listens += before.listens or 0
        self._put(user, KEPT_MS, status="done", listens=listens)
        return listens

    def status(self, user: int) -> ErasureStatus | None:
        """Return where the last erasure of a listener stands; None if there was none for a day."""
        found = self._redis.get(gateway_erasure(self._prefix, user))
        return None if found is None else ErasureStatus(user=user, **json.loads(found))

    def _put(self, user: int, kept_ms: int | None, **status: Any) -> None:
        text = json.dumps({**status, "since_ms": int(time.time() * 1000)})
        self._redis.set(gateway_erasure(self._prefix, user), text, px=kept_ms)


EXPLAIN_S = 60.0
EXPLAIN_NICE = 10
NOT_FOUND = ("error: listener", "error: request")


class Explainer:
    """Explains one answer at a time, by `botify why` in a process of its own: services do not import what explains."""

    def __init__(
        self, settings: Settings, command: Sequence[str] = (sys.executable, "-m", "botify.services.cli")
    ) -> None:
        self._command, self._environment = command, {**os.environ, **settings.to_env()}
        self._one_at_a_time = asyncio.Lock()

    async def explain(self, user: str, query: WhyQuery) -> Why:
        """Return what `botify why` says; raises `UnknownItemError` if there is no such answer.

        Raises `UnavailableError` if another one is explained, it takes too long, or a server does not answer.
        """
        if self._one_at_a_time.locked():
            raise UnavailableError("another answer is explained; ask again in some seconds")
        asked = ["why", "--json"]
        asked += [] if query.request is None else [f"--request={query.request}"]
        asked += [] if query.at is None else [f"--at={query.at.isoformat()}"]
        asked += ["--", user] if query.item is None else ["--", user, query.item]
        if any("\0" in word for word in asked):
            raise UnknownItemError("nothing has a name with a NUL character")
        async with self._one_at_a_time:
            said, refused = await self._run(asked)
        try:
            return Why.model_validate_json(said)
        except ValidationError as error:
            why = (refused.strip().splitlines() or ["`botify why` ended without an answer"])[-1]
            kind = UnknownItemError if why.startswith(NOT_FOUND) else UnavailableError
            raise kind(why.removeprefix("error: ")) from error

    async def _run(self, words: Sequence[str]) -> tuple[str, str]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._command, *words, env=self._environment, stdout=pipe, stderr=pipe
        )
        try:
            with suppress(psutil.NoSuchProcess):
                psutil.Process(process.pid).nice(EXPLAIN_NICE)
            said, refused = await asyncio.wait_for(process.communicate(), EXPLAIN_S)
        except TimeoutError as error:
            raise UnavailableError(f"this takes more than {EXPLAIN_S:.0f} s; use `botify why`") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        return said.decode(), refused.decode()
