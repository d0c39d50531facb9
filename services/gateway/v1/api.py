"""The operations of `/v1`: requests are served and answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from botify.services.gateway import TokenScope
from botify.services.gateway.middleware import GatewayMetrics
from botify.services.gateway.operations import (
    JSON,
    REQUEST_ID,
    Operation,
    Problem,
    Reply,
    openapi_document,
    refusals,
)
from botify.services.gateway.v1 import models
from botify.services.gateway.v1.events import EventPublisher
from botify.services.gateway.v1.items import Items
from botify.services.gateway.v1.lists import Groups, Rows
from botify.services.gateway.v1.recommending import Recommending, fields_of
from botify.services.gateway.v1.users import Explainer, Users

OPENAPI = "/v1/openapi.json"
_REFUSED = refusals(400, 401, 403, 408, 413, 422, 429, 503, content=Problem)
_NOT_FOUND = {**refusals(404, content=Problem), **_REFUSED}
_LATER = {202: Reply("It takes longer: ask where the listener's `erasure` stands.", models.ErasureStatus)}


@dataclass(frozen=True, slots=True)
class V1:
    """What serves `/v1`; all of it belongs in the event loop's thread."""

    recommending: Recommending
    events: EventPublisher
    items: Items
    users: Users
    rows: Rows
    groups: Groups
    explainer: Explainer


class V1Api:
    """Serves the operations."""

    def __init__(self, of: Callable[[], V1], metrics: GatewayMetrics) -> None:
        self._of = of
        self._metrics = metrics

        def operation(
            method: str, path: str, serve: Any, body: type[BaseModel], call: Any, scope: TokenScope = "serve"
        ) -> Operation:
            replies = {200: Reply("Successful Response", body), **(_NOT_FOUND if "{" in path else _REFUSED)}
            return Operation(method, f"/v1/{path}", serve, replies, scope, call, "v1")

        erase = operation("DELETE", "users/{user:name}", self.delete_user, models.Erased, models.UserCall, "admin")
        recommendations = (self.recommendations, models.Recommendations, models.RecommendationsCall)
        self.operations = [
            operation("GET", "users/{user:name}/recommendations", *recommendations),
            operation("GET", "users/{user:name}/rows", self.rows, models.Rows, models.RowsCall),
            operation("POST", "groups/recommendations", self.group, models.GroupRecommendations, models.GroupCall),
            operation("GET", "users/{user:name}/erasure", self.erasure, models.ErasureStatus, models.UserCall),
            operation("GET", "users/{user:name}/why", self.why, models.Why, models.WhyCall, "admin"),
            operation("GET", "users/{user:name}", self.user, models.User, models.UserCall),
            operation("PUT", "users/{user:name}", self.put_user, models.User, models.PutUserCall, "write"),
            erase._replace(replies={**erase.replies, **_LATER}),
            operation("POST", "events", self.events, models.Accepted, models.EventsCall, "write"),
            operation("GET", "items/{item:name}/similar", self.similar, models.ItemPage, models.SimilarCall),
            operation("GET", "items/{item:name}", self.item, models.Item, models.ItemCall),
            operation("PUT", "items/{item:name}", self.put_item, models.Item, models.PutItemCall, "admin"),
            operation("DELETE", "items/{item:name}", self.delete_item, models.Item, models.ItemCall, "admin"),
            operation("GET", "popular", self.popular, models.ItemPage, models.PopularCall),
            operation("GET", "rising", self.rising, models.ItemPage, models.PageCall),
            operation("GET", "latest", self.latest, models.ItemPage, models.PageCall),
        ]

    def page(self, *, secured: bool) -> Route:
        """Return the route of the OpenAPI document."""
        document = openapi_document(self.operations, secured=secured, title="Botify v1", about="Recommendations.")
        return Route(OPENAPI, JSONResponse(document), methods=["GET"])

    async def recommendations(self, request: Request, call: models.RecommendationsCall) -> Response:
        """Recommend items, without a listen."""
        user, name = await self._user(call.path.user)
        found = await self._of().recommending.recommend(user, name, call.query, request.scope[REQUEST_ID])
        if found.fallback:
            self._metrics.fallbacks += 1
        return Response(found.body, media_type=JSON)

    async def rows(self, _: Request, call: models.RowsCall) -> Response:
        """Return rows of items: similar to what the listener heard or liked, and popular in their genre."""
        return _json(await self._of().rows.get(*await self._user(call.path.user), call.query))

    async def group(self, request: Request, call: models.GroupCall) -> Response:
        """Recommend items to several listeners together."""
        found = await self._of().groups.recommend(call.body, request.scope[REQUEST_ID])
        if found.fallback:
            self._metrics.fallbacks += 1
        return _json(found)

    async def events(self, request: Request, call: models.EventsCall) -> Response:
        """Tell what listeners did: one event, or several as `events`."""
        events = call.body.events if isinstance(call.body, models.Events) else [call.body]
        return _json(models.Accepted(ids=await self._of().events.publish(events, request.scope[REQUEST_ID])))

    async def user(self, _: Request, call: models.UserCall) -> Response:
        """Return what is known of a listener."""
        return _json(await self._of().users.get(*await self._user(call.path.user)))

    async def put_user(self, request: Request, call: models.PutUserCall) -> Response:
        """Replace what a listener likes and dislikes; listens stay."""
        return _json(await self._of().users.put(call.path.user, call.body, request.scope[REQUEST_ID]))

    async def delete_user(self, _: Request, call: models.UserCall) -> Response:
        """Erase a listener: the state, likes and dislikes; no replay counts the past listens any more."""
        done = await self._of().users.delete(*await self._user(call.path.user))
        self._of().users.service.names.forget(call.path.user)
        return _json(done, 200 if isinstance(done, models.Erased) else 202)

    async def erasure(self, _: Request, call: models.UserCall) -> Response:
        """Return where a listener's erasure stands."""
        return _json(await self._of().users.erasure(*await self._user(call.path.user)))

    async def why(self, _: Request, call: models.WhyCall) -> Response:
        """Explain an answer, computed again from the topics: it takes seconds."""
        return _json(await self._of().explainer.explain(call.path.user, call.query))

    async def item(self, _: Request, call: models.ItemCall) -> Response:
        """Return an item."""
        return _json(models.Item(**fields_of(await self._of().items.get(call.path.item))))

    async def put_item(self, request: Request, call: models.PutItemCall) -> Response:
        """Add or replace an item."""
        put = await self._of().items.put(call.path.item, call.body, request.scope[REQUEST_ID])
        return _json(models.Item(**fields_of(put)))

    async def delete_item(self, request: Request, call: models.ItemCall) -> Response:
        """Delete an item: it is never recommended again."""
        deleted = await self._of().items.delete(call.path.item, request.scope[REQUEST_ID])
        return _json(models.Item(**fields_of(deleted)))

    async def similar(self, _: Request, call: models.SimilarCall) -> Response:
        """Return the items most similar to one."""
        return _json(await self._of().items.similar(call.path.item, call.query))

    async def popular(self, _: Request, call: models.PopularCall) -> Response:
        """Return the most popular items."""
        items = self._of().items
        return _json(items.page(await items.charts.popular(call.query.half_life), call.query))

    async def rising(self, _: Request, call: models.PageCall) -> Response:
        """Return the popular items by their popularity of the last hour over that of the last day."""
        items = self._of().items
        return _json(items.page(await items.charts.rising(), call.query))

    async def latest(self, _: Request, call: models.PageCall) -> Response:
        """Return the items that were added last."""
        return _json(self._of().items.latest(call.query))

    async def _user(self, name: str) -> tuple[int, int | str]:
        """Return a listener's number and name."""
        names = self._of().users.service.names
        return await names.find(name), names.known_as(name)


def _json(body: BaseModel, status: int = 200) -> Response:
    return Response(body.model_dump_json(exclude_none=True), status, media_type=JSON)
