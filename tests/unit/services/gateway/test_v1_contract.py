"""`/v1` behaves as its OpenAPI document says, for calls made from the document, valid and invalid."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware

from botify.schemas.external_ids import UserIds
from botify.services.gateway.api import HANDLED_ERRORS
from botify.services.gateway.middleware import GatewayMetrics, Limits, RequestTelemetry
from botify.services.gateway.options import GatewayOptions
from botify.services.gateway.v1 import api
from tests.unit.services.gateway.events import make_opinions_possible, make_possible
from tests.unit.services.gateway.fakes import TRACKS, FakeGateway

GATEWAY = FakeGateway()
GATEWAY.users = UserIds([])
V1 = GATEWAY.v1()


async def problem(_: object, error: Exception) -> object:
    return api.problem_of(error)


# without a lifespan, which schemathesis would begin and end for each call
APP = Starlette(
    routes=api.V1Api(lambda: V1, GATEWAY.users, lambda: None).routes(secured=False),
    middleware=[
        Middleware(RequestTelemetry, id_prefix="g", metrics=GatewayMetrics(list)),
        Middleware(Limits, options=GatewayOptions()),
    ],
    exception_handlers=dict.fromkeys((*HANDLED_ERRORS, *api.HANDLED_ERRORS), problem),  # type: ignore[arg-type]
)
schema = schemathesis.openapi.from_asgi("/v1/openapi.json", APP)


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_a_call_is_answered_as_documented(case: schemathesis.Case) -> None:
    if case.path == "/v1/events":
        make_possible(case.body, lambda at: at % TRACKS, str)
    if case.path == "/v1/users/{user}":
        make_opinions_possible(case.body, lambda at: at % TRACKS)
    case.call_and_validate()
