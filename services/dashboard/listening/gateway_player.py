"""Plays through the REST API of the application that the dashboard is mounted on: the same topics, the same bounds."""

from __future__ import annotations

from typing import Any

import httpx
from redis.exceptions import RedisError
from starlette.types import ASGIApp

from schemas.errors import DecodeError
from schemas.registry import codec_of
from schemas.settings import Settings
from services.dashboard.listening.player import PlayerError, Recommended
from services.gateway.messages import LedBy
from services.gateway.options import GatewayOptions
from streams.store.connect import connect_async
from streams.store.keys import gateway_session

TIMEOUT_S = 15.0


class GatewayPlayer:
    """A client of the application in its own process, so nothing goes over the network.

    Botify's answer names the track only; why it was chosen is in the listener's session, where the gateway keeps it for
    the next listen.

    Parameters
    ----------
    app : ASGI application
    settings : Settings
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        token = GatewayOptions.from_env().token
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://dashboard",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=TIMEOUT_S,
        )
        self._redis: Any = connect_async(settings)
        self._prefix = settings.topic_prefix
        self._codec = codec_of(settings)

    async def next(self, user: int, track: int, fraction: float) -> Recommended:
        """See `Player.next`."""
        answer = await self._post(f"/next/{user}", track, fraction)
        following = int(answer["track"])
        led_by = await self._led_by(user)
        if led_by is None or led_by.recommendation.track != following:
            return Recommended(following)
        why = led_by.recommendation
        return Recommended(
            following, why.recommender, why.policy, why.propensity, why.candidates, why.treatments, led_by.latency_ms
        )

    async def last(self, user: int, track: int, fraction: float) -> None:
        """See `Player.last`."""
        await self._post(f"/last/{user}", track, fraction)

    async def close(self) -> None:
        """Let go of Redis."""
        await self._client.aclose()
        await self._redis.aclose()

    async def _post(self, path: str, track: int, fraction: float) -> dict[str, Any]:
        try:
            response = await self._client.post(path, json={"track": track, "time": fraction})
        except httpx.HTTPError as error:
            raise PlayerError(f"the gateway does not answer ({error!r}); try again in a moment") from error
        if response.status_code != httpx.codes.OK:
            raise PlayerError(f"the gateway has no track ({response.status_code}): {_detail(response)}")
        answer: dict[str, Any] = response.json()
        return answer

    async def _led_by(self, user: int) -> LedBy | None:
        try:
            record = await self._redis.hget(gateway_session(self._prefix, user), "led_by")
            return None if record is None else LedBy.from_bytes(record, self._codec)
        except (RedisError, DecodeError):
            return None  # the track plays all the same


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
