"""The routes of Gorse's REST API: calls are read, served by what serves `/v1`, and answered as Gorse does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from schemas.external_ids import UserIdError, UserIds, track_named
from schemas.validation import MAX_SLATE
from services.gateway.api import InvalidRequestError, parsed_body
from services.gateway.gorse.records import (
    FEEDBACK,
    ITEMS,
    NEVER,
    USERS,
    GorseFeedback,
    GorseItem,
    GorseUser,
    body_of,
    dropped_of,
    given_of,
    is_of,
    item_of,
    read,
    time_of,
)
from services.gateway.messages import UnavailableError, UnknownItemError, UnknownTrackError, WrongEventError
from services.gateway.middleware import GORSE_PREFIX, REQUEST_ID
from services.gateway.options import RETRY_AFTER_S, FeedbackKind
from services.gateway.v1.api import V1
from services.gateway.v1.models import MAX_PAGE, Event, ItemPage, PageQuery, RecommendationsQuery
from services.gateway.v1.recommending import name_of

LIVE = timedelta(minutes=5)
"""A listen at most this old is live: it continues the listener's session, and belongs to what was recommended."""
PAGES = 5  # of a list that are searched for a category
SESSION_ITEMS = 10  # of a session's feedback whose neighbours are recommended, the newest
IGNORED = "X-Botify-Ignored"


def error_response(error: Exception) -> Response:
    """Return the answer to an error that is handled: its text, as Gorse's clients show it."""
    match error:
        case HTTPException():
            return PlainTextResponse(error.detail, error.status_code, error.headers)
        case UnavailableError():
            return PlainTextResponse(str(error), 503, {"Retry-After": str(RETRY_AFTER_S)})
        case UnknownItemError() | UnknownTrackError():
            return PlainTextResponse(str(error), 404)
        case WrongEventError():
            where, why = error.args
            return PlainTextResponse(f"{'/'.join(map(str, where))}: {why}", 400)
        case InvalidRequestError():
            found = "; ".join(f"{'/'.join(map(str, one['loc']))}: {one['msg']}" for one in error.args[0])
            return PlainTextResponse(found, 400)
    return PlainTextResponse(type(error).__name__, 500)


class GorseApi:
    """Handlers of Gorse's routes.

    Parameters
    ----------
    kinds : mapping
        Our kinds of events by Gorse's types of feedback.
    """

    def __init__(
        self, of: Callable[[], V1], users: UserIds, on_fallback: Callable[[], None], kinds: Mapping[str, FeedbackKind]
    ) -> None:
        self._of = of
        self._users = users
        self._on_fallback = on_fallback
        self._kinds: dict[str, FeedbackKind] = {**{kind: kind for kind in get_args(FeedbackKind)}, **kinds}

    def routes(self) -> list[BaseRoute]:
        """Return the routes; the last one refuses every other call."""
        answered: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("POST PUT", "feedback", self.insert_feedback),
            ("GET DELETE", "feedback/{user}/{item}", self.feedback_of_both),
            ("GET DELETE", "feedback/{type}/{user}/{item}", self.feedback_of_both),
            ("GET", "user/{user}/feedback", self.feedback_of_user),
            ("GET", "user/{user}/feedback/{type}", self.feedback_of_user),
            ("POST", "user", self.insert_users),
            ("POST", "users", self.insert_users),
            ("GET DELETE PATCH", "user/{user}", self.user),
            ("POST", "item", self.insert_items),
            ("POST", "items", self.insert_items),
            ("GET", "items", self.items),
            ("GET DELETE PATCH", "item/{item}", self.item),
        ]
        for method, path, serve in (
            ("GET", "item/{item}/neighbors", self.neighbors),
            ("GET", "recommend/{user}", self.recommend),
            ("GET", "popular", self.popular),
            ("GET", "latest", self.latest),
            ("POST", "session/recommend", self.session),
        ):
            answered += [
                (method, path, serve),
                (method, path + "/{category:path}", serve),
            ]  # or nothing behind the slash
        routes = [Route(GORSE_PREFIX + path, serve, methods=methods.split()) for methods, path, serve in answered]
        every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return [*routes, Route(f"{GORSE_PREFIX}{{path:path}}", _refuse, methods=every)]

    async def insert_feedback(self, request: Request) -> Response:
        """Take feedback as events: all of it, or none."""
        feedback = read(FEEDBACK.validate_python, parsed_body(request))
        if events := [self._event(one) for one in feedback]:
            await self._of().events.take(events, request.scope[REQUEST_ID])
        return _affected(len(events), ["Comment"] if any(one.comment for one in feedback) else [])

    async def feedback_of_user(self, request: Request) -> Response:
        """Return the last listens of a user, and all likes and dislikes."""
        return JSONResponse(await self._feedback(request))

    async def feedback_of_both(self, request: Request) -> Response:
        """Return what a user did with an item, or withdraw a like or dislike of it."""
        item = str(name_of(await self._of().items.get(self._item(request))))
        found = [one for one in await self._feedback(request) if one["ItemId"] == item]
        if request.method == "GET":
            if "type" not in request.path_params:
                return JSONResponse(found)
            if not found:
                raise HTTPException(404, "there is no such feedback")
            return JSONResponse(found[0])
        said = [one for one in found if self._kind(one["FeedbackType"]) in ("like", "dislike")]
        if found and not said:
            raise HTTPException(501, "a listen is not taken back alone: `botify dlq exclude` takes listens out")
        if said:
            event = Event(kind="unlike", user=request.path_params["user"], item=self._item(request))
            await self._of().events.take([event], request.scope[REQUEST_ID])
        return _affected(len(said))

    async def insert_users(self, request: Request) -> Response:
        """Check the ids of users, who need not be inserted."""
        users = read(USERS.validate_python, _many(request))
        for user in users:
            self._user(user.user_id)
        return _affected(len(users), [name for user in users for name in given_of(user)])

    async def user(self, request: Request) -> Response:
        """Return a user of whom something is known, or erase one."""
        number, name = self._user(request.path_params["user"])
        if request.method == "PATCH":
            return _affected(1, given_of(read(GorseUser.model_validate, parsed_body(request))))
        if request.method == "DELETE":
            await self._of().users.delete(number, name)
            return _affected(1)
        await self._of().users.get(number, name)
        return JSONResponse({"UserId": str(name), "Labels": None, "Comment": ""})

    async def insert_items(self, request: Request) -> Response:
        """Put items into the catalogue; a hidden one is there as a deleted one."""
        items = read(ITEMS.validate_python, _many(request))
        puts = []
        for item in items:
            if item.item_id is None:
                raise HTTPException(400, "ItemId: missing")
            puts.append((self._name(item.item_id), body_of(item, item.item_id), bool(item.is_hidden)))
        if puts:
            await self._of().items.put_all(puts, request.scope[REQUEST_ID])
        return _affected(len(items), [name for item in items for name in dropped_of(item)])

    async def items(self, request: Request) -> Response:
        """Return a page of all items, the newest first."""
        if "q" in request.query_params:
            raise HTTPException(501, "q: items are not searched by this call; the dashboard's search is at /ui/")
        query = {"limit": _range(request, MAX_PAGE)[0], "cursor": request.query_params.get("cursor") or None}
        items = self._of().items
        page = items.latest(read(PageQuery.model_validate, query))
        tracks = map(items.service.tracks.known, [item.number for item in page.items])
        return JSONResponse({"Cursor": page.next or "", "Items": [item_of(one) for one in tracks if one is not None]})

    async def item(self, request: Request) -> Response:
        """Return, change or delete an item; a hidden one can be shown again."""
        items, name = self._of().items, self._item(request)
        if request.method == "GET":
            return JSONResponse(item_of(await items.get(name)))
        if request.method == "DELETE":
            await items.delete(name, request.scope[REQUEST_ID])
            return _affected(1)
        patch = read(GorseItem.model_validate, parsed_body(request))
        track = await items.service.tracks.find(name) if patch.is_hidden is False else await items.get(name)
        if track is None:
            raise UnknownItemError(f"there is no item {name!r}")
        await items.put_all(
            [(name, body_of(patch, str(name), track), bool(patch.is_hidden))], request.scope[REQUEST_ID]
        )
        return _affected(1, dropped_of(patch))

    async def neighbors(self, request: Request) -> Response:
        """Return the items most similar to one."""
        item = self._item(request)
        return await self._scores(request, lambda page: self._of().items.similar(item, page))

    async def popular(self, request: Request) -> Response:
        """Return the most popular items."""
        items = self._of().items
        chart = await items.charts.popular("1d")

        async def page_of(query: PageQuery) -> ItemPage:
            return items.page(chart, query)

        return await self._scores(request, page_of)

    async def latest(self, request: Request) -> Response:
        """Return the items that were added last."""

        async def page_of(query: PageQuery) -> ItemPage:
            return self._of().items.latest(query)

        return await self._scores(request, page_of)

    async def recommend(self, request: Request) -> Response:
        """Recommend items, with their scores if the client asks for version 2 of the API."""
        if request.query_params.get("write-back-type"):
            raise HTTPException(
                501, "write-back-type: leave it out; what is recommended is logged, no listen is made up"
            )
        categories = request.query_params.getlist("category") or [request.path_params.get("category", "")]
        if len(categories) > 1:
            raise HTTPException(501, "category: one at a time; filters of several fields are in /v1")
        n, offset = _range(request, MAX_SLATE)
        number, name = self._user(request.path_params["user"])
        scored = request.headers.get("x-api-version") == "2"
        query = {"n": n + offset, "filter": [f"genre:{one}" for one in categories if one], "explain": scored}
        asked = read(RecommendationsQuery.model_validate, query)
        found = await self._of().recommending.recommend(number, name, asked, request.scope[REQUEST_ID])
        if found.fallback:
            self._on_fallback()
        items = from_json(found.body)["items"][offset:]
        if not scored:
            return JSONResponse([str(item["item"]) for item in items])
        return JSONResponse([{"Id": str(item["item"]), "Score": item["reason"]["score"]} for item in items])

    async def session(self, request: Request) -> Response:
        """Recommend what is similar to the items of a session that were heard or liked, the newest ones."""
        feedback = read(FEEDBACK.validate_python, parsed_body(request))
        feedback.sort(key=lambda one: time_of(one.timestamp) or datetime.max.replace(tzinfo=UTC), reverse=True)
        given = {str(self._name(one.item_id)) for one in feedback}
        good = [one.item_id for one in feedback if self._kind(one.feedback_type) in ("listen", "like")]
        sums: dict[str, float] = {}
        for item_id in good[:SESSION_ITEMS]:
            page = await self._of().items.similar(self._name(item_id), PageQuery(limit=MAX_PAGE))
            for item in page.items:
                name = str(item.item)
                if name not in given and is_of(item, request.path_params.get("category", "")):
                    sums[name] = sums.get(name, 0.0) + max(item.score, 0.0)
        n, offset = _range(request, MAX_PAGE)
        best = sorted(sums.items(), key=lambda one: -one[1])[offset : offset + n]  # equal ones as they were found
        return JSONResponse([{"Id": name, "Score": score} for name, score in best])

    async def _scores(self, request: Request, page_of: Callable[[PageQuery], Awaitable[ItemPage]]) -> Response:
        """Return the items of a list: of a category if one is asked for, without those that a user knows."""
        n, offset = _range(request, PAGES * MAX_PAGE)
        category, user, known = request.path_params.get("category", ""), request.query_params.get("user-id"), set[str]()
        if user:
            known = {one["ItemId"] for one in await self._feedback_of(user)}
        found: list[dict[str, Any]] = []
        cursor: str | None = "o0"
        for _ in range(PAGES):
            if cursor is None or len(found) >= offset + n:
                break
            page = await page_of(PageQuery(limit=MAX_PAGE, cursor=cursor))
            cursor = page.next
            wanted = [item for item in page.items if str(item.item) not in known and is_of(item, category)]
            found += [{"Id": str(item.item), "Score": item.score} for item in wanted]
        return JSONResponse(found[offset : offset + n])

    async def _feedback(self, request: Request) -> list[dict[str, Any]]:
        """Return a user's feedback, of one type if the path names one."""
        found = await self._feedback_of(request.path_params["user"])
        if (type_ := request.path_params.get("type")) is None:
            return found
        kind = self._kind(type_)
        return [{**one, "FeedbackType": type_} for one in found if one["FeedbackType"] == kind]

    async def _feedback_of(self, user: str) -> list[dict[str, Any]]:
        number, name = self._user(user)
        try:
            known = await self._of().users.get(number, name)
        except UnknownItemError:
            return []
        facts: list[tuple[str, int | str, str, float]] = [
            ("listen" if one.fraction else "skip", one.item, one.time.isoformat(), one.fraction)
            for one in known.last_listens
        ]
        facts += [("like", item, NEVER, 0.0) for item in known.likes]
        facts += [("dislike", item, NEVER, 0.0) for item in known.dislikes]
        names = ("FeedbackType", "ItemId", "Timestamp", "Value")
        return [
            {**dict(zip(names, (kind, str(item), time, value), strict=True)), "UserId": str(name), "Comment": ""}
            for kind, item, time, value in facts
        ]

    def _event(self, one: GorseFeedback) -> Event:
        kind, when = self._kind(one.feedback_type), time_of(one.timestamp)
        self._user(one.user_id)
        is_listen = kind in ("listen", "skip")
        live = when is None or (is_listen and abs(datetime.now(UTC) - when) <= LIVE)
        event = {
            "kind": kind,
            "user": one.user_id,
            "item": self._name(one.item_id),
            "fraction": min(one.value, 1.0) if is_listen and one.value > 0 else None,
            "time": None if live or when is None else when.isoformat(),
            "id": f"gorse {one.timestamp}" if one.timestamp else None,  # the same again is counted once
        }
        return read(Event.model_validate, event)

    def _kind(self, type_: str) -> FeedbackKind:
        if (kind := self._kinds.get(type_)) is None:
            way_out = f"name what it stands for in BOTIFY_GATEWAY_GORSE, as in {type_}=like"
            raise HTTPException(400, f"FeedbackType: {type_!r} is none of {', '.join(self._kinds)}; {way_out}")
        return kind

    def _user(self, name: str) -> tuple[int, int | str]:
        try:
            number = self._users.number_of(name)
        except UserIdError as error:
            way_out = "" if self._users.are_external else "; other ids take a BOTIFY_DATASET"
            raise HTTPException(400, f"UserId: {error}{way_out}") from error
        return number, name if self._users.are_external else number

    def _item(self, request: Request) -> int | str:
        return self._name(request.path_params["item"])

    def _name(self, text: str) -> int | str:
        """Return the external id or number that a text means; digits are a number, unless an item is called so."""
        named = track_named(text)
        if (
            isinstance(named, str)
            or self._users.are_external
            or self._of().items.service.tracks.known(text) is not None
        ):
            return text
        return named


def _many(request: Request) -> Any:
    """Return the list of a body, or what is alone in it, as a list."""
    body = parsed_body(request)
    return body if request.url.path.endswith("s") else [body]


def _affected(rows: int, ignored: Sequence[str] = ()) -> Response:
    names = ", ".join(sorted(set(ignored)))
    return JSONResponse({"RowAffected": rows}, headers={IGNORED: names} if names else None)


def _range(request: Request, most: int) -> tuple[int, int]:
    """Return `n` and `offset` of a query."""
    found = []
    for name, default in (("n", "10"), ("offset", "0")):
        text = request.query_params.get(name) or default
        if not (text.isascii() and text.isdecimal() and len(text) <= 9):
            raise HTTPException(400, f"{name}: {text!r} is not a whole number")
        found.append(int(text))
    n, offset = found
    if not n or n + offset > most:
        raise HTTPException(400, f"n: {n} from {offset} on; n is at least 1, and with offset at most {most}")
    return n, offset


_WAYS_OUT = {
    "users": "`botify inspect user` shows one listener, `botify export` all of them",
    "feedback": "`botify export` writes all listens and feedback to Parquet",
}


async def _refuse(request: Request) -> Response:
    path = request.path_params["path"]
    way_out = _WAYS_OUT.get(
        path.partition("/")[0], "docs/gorse.md has the calls that are, and /v1 may have what you need"
    )
    raise HTTPException(501, f"{request.method} {GORSE_PREFIX}{path} of Gorse's API is not answered; {way_out}")
