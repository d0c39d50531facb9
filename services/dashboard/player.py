"""The player, a client of the gateway in its own process, and the stage on which a person listens or recommends."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
from markupsafe import Markup
from nicegui import ui
from redis.exceptions import RedisError
from starlette.applications import Starlette

from botify.core.errors import BotifyError, DecodeError
from botify.core.settings import Settings
from botify.schemas.external_ids import UserIds
from botify.schemas.registry import codec_of
from botify.services.dashboard.collector import Collector
from botify.services.dashboard.pages import show_problem
from botify.services.gateway.sessions import Attribution
from botify.services.gateway.v1.models import MAX_PAGE
from botify.services.gateway.v1.users import EXPLAIN_S
from botify.streams.store.connect import connect_async
from botify.streams.store.keys import gateway_session


class PlayerError(BotifyError):
    """The gateway has no track for the listener; the message is the gateway's."""


class Recommended(NamedTuple):
    """A track, and why it was chosen, as far as it is known; the latency is that of the request."""

    track: int
    recommender: str | None = None
    policy: str | None = None
    propensity: float | None = None
    candidates: int | None = None
    treatments: Mapping[str, str] = {}
    latency_ms: float | None = None


OFFERED, OFFERED_OTHERS = 6, 3
"""Tracks that a person can choose from: of the recommender, and both of similar and of popular ones."""


def offered(
    recommended: Mapping[int, str], others: Mapping[str, Sequence[int]], heard: Collection[int]
) -> dict[int, str]:
    """Return tracks not heard, each once: all recommended ones, and `OFFERED_OTHERS` of each other list.

    Examples
    --------
    >>> offered({1: "sticky", 2: "sticky"}, {"popular": [2, 1, 7, 3, 4, 5]}, heard={2, 7})
    {1: 'sticky', 3: 'popular', 4: 'popular', 5: 'popular'}
    """
    found = {track: by for track, by in recommended.items() if track not in heard}
    for by, tracks in others.items():
        new = [track for track in tracks if track not in found and track not in heard]
        found |= dict.fromkeys(new[:OFFERED_OTHERS], by)
    return found


NEWCOMERS_FROM = 1_000_000  # ids of new listeners begin here: the simulator's worlds are smaller
NEWCOMERS = 1_000_000_000


def new_user() -> str:
    """Return the id of a listener of whom nothing is known."""
    return str(NEWCOMERS_FROM + secrets.randbelow(NEWCOMERS))


TIMEOUT_S = 15.0


class Player:
    """A client of the application in its own process, without a network.

    Botify's answer names the track only; why it was chosen is read from the listener's session in Redis.
    """

    def __init__(self, app: Starlette, settings: Settings, users: UserIds) -> None:
        self._users = users
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://dashboard",
            headers={"Authorization": f"Bearer {app.state.token}"},
            timeout=TIMEOUT_S,
        )
        self._redis: Any = connect_async(settings)
        self._prefix = settings.topic_prefix
        self._codec = codec_of(settings)

    async def next(self, user: str, track: int, fraction: float) -> Recommended:
        """Report what the listener heard, and return the next track; raises `PlayerError`."""
        answer = await self._post(f"/next/{quote(user)}", track, fraction)
        following = int(answer["track"])
        attribution = await self._attribution(user)
        if attribution is None or attribution.recommendation.track != following:
            return Recommended(following)
        why = attribution.recommendation
        source = (why.recommender, why.policy, why.propensity, why.candidates, why.treatments)
        return Recommended(following, *source, attribution.latency_ms)

    async def last(self, user: str, track: int, fraction: float) -> None:
        """Report the last listen of the session; raises `PlayerError`."""
        await self._post(f"/last/{quote(user)}", track, fraction)

    async def report(self, user: str, track: int, fraction: float, ended: bool) -> None:
        """Report a listen that no recommender led to; raises `PlayerError`."""
        event = {"kind": "listen", "user": user, "item": track, "fraction": fraction, "ends_session": ended}
        await self._call("POST", "/v1/events", json=event)

    async def offers(self, user: str, track: int, heard: Collection[int]) -> dict[int, str]:
        """Return what the service would play after a track, and similar and popular ones, without those heard.

        Each comes with who offers it: a recommender, `similar` or `popular`. Raises `PlayerError`.
        """
        enough = min(OFFERED_OTHERS + OFFERED_OTHERS + OFFERED + len(heard), MAX_PAGE)  # when all others are left out
        recommended, similar, popular = await asyncio.gather(
            self._call("GET", f"/v1/users/{quote(user)}/recommendations", params={"n": OFFERED}),
            self._call("GET", f"/v1/items/{track}/similar", params={"limit": enough}),
            self._call("GET", "/v1/popular", params={"limit": enough}),
        )
        by = {item["number"]: str(recommended["policy"]) for item in recommended["items"]}
        pages = {"similar": similar, "popular": popular}
        others = {name: [item["number"] for item in page["items"]] for name, page in pages.items()}
        return offered(by, others, heard)

    async def why(self, user: str, request: str = "") -> dict[str, Any]:
        """Return what led to an answer, the newest one by default; raises `PlayerError`."""
        params = {"request": request} if request else {}
        return await self._call("GET", f"/v1/users/{quote(user, safe='')}/why", params=params, timeout=EXPLAIN_S + 5)

    async def close(self) -> None:
        await self._client.aclose()
        await self._redis.aclose()

    async def _post(self, path: str, track: int, fraction: float) -> dict[str, Any]:
        return await self._call("POST", path, json={"track": track, "time": fraction})

    async def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        try:
            response = await self._client.request(method, path, **content)
        except httpx.HTTPError as error:
            raise PlayerError(f"the gateway does not answer ({error!r}); try again in a moment") from error
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        detail = response.text[:200]
        with suppress(ValueError, KeyError, TypeError):
            detail = str(response.json()["detail"])
        raise PlayerError(f"the gateway answers with status {response.status_code}: {detail}")

    async def _attribution(self, user: str) -> Attribution | None:
        try:
            record = await self._redis.hget(gateway_session(self._prefix, self._users.number_of(user)), "led_by")
            return None if record is None else Attribution.from_bytes(record, self._codec)
        except (RedisError, DecodeError):
            return None  # the track plays without it


class Stage:
    """The part of a person's page that changes, and the buttons that call the gateway, one call at a time."""

    def __init__(self, player: Player, collector: Collector, users: UserIds) -> None:
        self.player = player
        self.collector = collector
        self.users = users
        self.buttons: list[ui.button] = []
        self._busy = False
        self._stage = ui.element("div").classes("stage")

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Replace what is shown by what is added inside the block."""
        self._stage.clear()
        with self._stage:
            yield

    def has_no_tracks(self) -> bool:
        """Say why, if there are no tracks yet."""
        if self.collector.catalogue:
            return False
        empty = "the catalogue is empty: `botify sim` publishes one; then reload this page"
        for problem in self.collector.snapshot.problems or [empty]:
            show_problem(problem)
        return True

    async def attempt(self, action: Callable[[], Awaitable[None]]) -> bool:
        """Do what calls the gateway, unless a call is under way; return False, and say why, if it fails."""
        if self._busy:
            return True
        self._busy = True
        for each in self.buttons:
            each.disable()
        try:
            await action()
        except PlayerError as error:
            ui.notify(str(error), type="negative", timeout=8_000)
            for each in self.buttons:
                each.enable()
            return False
        finally:
            self._busy = False
        return True


def search_field(placeholder: str, search: Callable[[str], None]) -> None:
    """Add a field to search tracks with."""
    field = ui.input(placeholder=placeholder, on_change=lambda event: search(event.value or ""))
    field.props('outlined dense clearable debounce=250 aria-label="search"').classes("find")


def pick(track: Markup, action: Callable[[], object]) -> ui.element:
    """Add a track to click on, and return the element."""
    picked = ui.element("button").classes("pick").props("type=button")
    picked.on("click", action)
    with picked:
        ui.html(track, sanitize=False, tag="span")
    return picked
