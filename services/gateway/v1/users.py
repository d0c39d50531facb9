"""Listeners: what is known of them, and their erasure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from core.errors import BotifyError
from services.gateway.messages import UnavailableError, UnknownItemError
from services.gateway.service import GatewayService
from services.gateway.v1.listeners import ListenerStore
from services.gateway.v1.models import Erased, Heard, User
from services.gateway.v1.recommending import name_of
from streams.read import StateReader
from streams.store.connect import REDIS_ERRORS

Erase = Callable[[int], int]
"""`streams.dlq.erase.erase_listener`: returns the number of listens; blocking."""


@dataclass(frozen=True, slots=True)
class Users:
    """Serves what is known of listeners; belongs in the event loop's thread."""

    service: GatewayService
    listeners: ListenerStore
    reader: StateReader
    erase: Erase

    async def get(self, user: int, name: int | str) -> User:
        """Return a listener; raises `UnknownItemError` if nothing was heard or said."""
        opinions = await self.listeners.opinions(user)
        try:
            (state,) = await asyncio.to_thread(self.reader.users, [user])
        except REDIS_ERRORS as error:
            raise UnavailableError(f"Redis does not answer ({type(error).__name__})") from error
        if state is None and opinions == ([], []):
            raise UnknownItemError(f"nothing is known of {name!r}")
        heard = [] if state is None else state.last_listens()[::-1].tolist()
        return User(
            user=name,
            listens=0 if state is None else state.listens,
            sessions=0 if state is None else state.sessions,
            last_listens=[
                Heard(item=self._name(track), fraction=share, time=datetime.fromtimestamp(time_ms / 1000, UTC))
                for _, time_ms, share, track in heard
            ],
            likes=list(map(self._name, opinions.liked)),
            dislikes=list(map(self._name, opinions.disliked)),
        )

    async def delete(self, user: int, name: int | str) -> Erased:
        """Erase a listener; raises `UnavailableError`, and may be called again."""
        await self.listeners.erase(user)
        try:
            listens = await asyncio.to_thread(self.erase, user)
        except REDIS_ERRORS as error:
            raise UnavailableError(f"Redis does not answer ({type(error).__name__})") from error
        except BotifyError as error:
            raise UnavailableError(str(error)) from error
        return Erased(user=name, listens=listens)

    def _name(self, number: int) -> int | str:
        track = self.service.tracks.known(number)
        return number if track is None else name_of(track)
