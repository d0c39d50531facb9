"""`/v1` behaves as its OpenAPI document says, for calls made from the document, valid and invalid."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from starlette.applications import Starlette
from starlette.middleware import Middleware

from botify.schemas.external_ids import UserIds
from botify.services.gateway.middleware import GatewayMetrics, Limits, RequestTelemetry
from botify.services.gateway.operations import HANDLED_ERRORS, Operations, error_response
from botify.services.gateway.options import Bounds
from botify.services.gateway.v1.api import V1Api
from tests.unit.services.gateway.events import make_opinions_possible, make_possible
from tests.unit.services.gateway.fakes import TRACKS, FakeGateway

GATEWAY = FakeGateway()
GATEWAY.users = UserIds([])
V1 = GATEWAY.v1()
API = V1Api(lambda: V1, GATEWAY.users, lambda: None)
# without a lifespan, which schemathesis would begin and end for each call
APP = Starlette(
    routes=[API.page(secured=False)],
    middleware=[
        Middleware(RequestTelemetry, id_prefix="g", metrics=GatewayMetrics(list)),
        Middleware(Limits, rate_per_s=2_500, bounds=Bounds()),
        Middleware(Operations, operations=API.operations),
    ],
    exception_handlers=dict.fromkeys(HANDLED_ERRORS, error_response),  # type: ignore[arg-type]
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
