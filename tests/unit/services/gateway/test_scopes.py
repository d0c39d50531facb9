"""Tokens with scopes: each route declares what it takes, and nothing less gets in."""

import os
import signal
import socket
from typing import Any

import pytest
from starlette.testclient import TestClient

from botify.core.errors import SettingsError
from botify.core.settings import Settings
from botify.services.gateway import GatewayOptions
from botify.services.gateway.__main__ import _check_access, _listen
from botify.services.gateway.bootstrap import build_app
from tests.unit.services.gateway.fakes import FakeGateway, operations_of, serving

TOKENS = "serve:reader write:teller admin:keeper admin:new-keeper serve:both write:both"
OF = {"serve": "reader", "write": "teller", "admin": "keeper"}
OPEN = {("GET", "/healthz"), ("GET", "/readyz")}
ADMIN = {("DELETE", "/v1/users/{user}"), ("PUT", "/v1/items/{item}"), ("DELETE", "/v1/items/{item}")}
ADMIN |= {("GET", "/v1/users/{user}/why")}
WRITE = {("POST", "/v1/events"), ("PUT", "/v1/users/{user}")}
BODIES: dict[str, Any] = {
    "/next/42": {"track": 7, "time": 1.0},
    "/last/42": {"track": 7, "time": 1.0},
    "/v1/events": {"kind": "like", "user": 42, "item": 7},
    "/v1/users/42": {"likes": [7]},
    "/v1/groups/recommendations": {"users": [42]},
    "/v1/items/7": {"title": "t", "artist": "a"},
}


def scope_of(method: str, path: str) -> str | None:
    """What is expected of a route; whatever is not named here is for reading."""
    call = method, path
    return None if call in OPEN else "admin" if call in ADMIN else "write" if call in WRITE else "serve"


def test_each_route_takes_its_scope_and_no_other() -> None:
    gateway, options = FakeGateway(), GatewayOptions(token=TOKENS)
    app = build_app(Settings(), options, connect=gateway.connect)
    declared = operations_of(app)
    routes = {getattr(route, "path", "") for route in app.routes}
    pages = {"/openapi.json", "/docs", "/static-offline-docs", "/v1/openapi.json"}
    assert routes == pages, "a route without an operation has no scope"
    with serving(gateway, options) as client:
        for (method, template), document in declared.items():
            wanted = scope_of(method, template)
            assert document.get("security", [{"HTTPBearer": [None]}]) == [{"HTTPBearer": [wanted]}]
            assert {"401", "403"} <= document["responses"].keys() or wanted is None
            path = template.replace("{user}", "42").replace("{item}", "7").replace("{track}", "7")
            for scope, token in [*OF.items(), (None, None), (None, "guess")]:
                allowed = wanted is None or scope == wanted
                status = status_of(client, method, path, token)
                expected = {200, 404} if allowed else {401} if scope is None else {403}
                assert status in expected, (method, path, token, status)
        for page in ("/docs", "/openapi.json", "/v1/openapi.json"):
            assert [status_of(client, "GET", page, token) for token in (None, "teller", "reader")] == [401, 403, 200]
        for unknown in ("/nothing", "/ui", "/ui/", "/v1/items", "//next/42", "/track"):
            assert [status_of(client, "GET", unknown, token) for token in (None, "reader", "both")] == [401, 403, 403]
            assert status_of(client, "GET", unknown, "keeper") == 404
    assert (len(gateway.rpc.listens), len(gateway.rpc.published), gateway.reader.erased) == (2, 4, [42])


def status_of(client: TestClient, method: str, path: str, token: str | None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return client.request(method, path, headers=headers, json=BODIES.get(path)).status_code


def test_tokens_can_be_changed_one_after_the_other_and_have_several_scopes() -> None:
    with serving(FakeGateway(), GatewayOptions(token=TOKENS)) as client:
        for token in ("keeper", "new-keeper"):
            assert status_of(client, "DELETE", "/v1/users/42", token) == 200
        for call in (("GET", "/track/7"), ("POST", "/v1/events")):
            assert status_of(client, *call, "both") == 200
        assert status_of(client, "DELETE", "/v1/users/42", "both") == 403
        problem = client.delete("/v1/users/42", headers={"Authorization": "Bearer both"}).json()
        assert problem["detail"] == "this takes a token that allows `admin`"


def test_a_browser_sends_the_token_as_a_password_and_no_header_breaks_the_comparison() -> None:
    headers = ("Basic é", "Basic %", "Bearer é", "Bearer \x00", "Basic YTo=", "Bearer", "keeper", "Basic YTpyZWFkZXI=")
    with serving(FakeGateway(), GatewayOptions(token=TOKENS)) as client:
        answers = [client.get("/track/7", headers={"Authorization": given.encode()}) for given in headers]
    assert [answer.status_code for answer in answers] == [401] * 7 + [200]  # the last has the password `reader`
    assert answers[0].headers["www-authenticate"].startswith("Bearer")


def test_the_process_has_a_token_of_its_own_that_nobody_is_told() -> None:
    gateway = FakeGateway()
    first, second = (build_app(Settings(), GatewayOptions(token=TOKENS), connect=gateway.connect) for _ in range(2))
    assert first.state.token != second.state.token


def test_options_are_read_from_their_variables() -> None:
    given = {"PORT": "0", "DEADLINE_MS": "250", "RATE_PER_S": "", "DASHBOARD": "off"}
    options = GatewayOptions.from_env({f"BOTIFY_GATEWAY_{name}": value for name, value in given.items()})
    assert options == GatewayOptions(port=0, deadline_ms=250, dashboard="off")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("PORT", port) for port in ("70000", "-1")),
        *(("TOKEN", token) for token in ("two words", "serve:one two", "serve:one read:two", "serve:", "töken", " ")),
        ("DEADLINE_MS", "soon"),
        ("DASHBOARD", "yes"),
    ],
)
def test_an_error_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"BOTIFY_GATEWAY_{variable}"):
        GatewayOptions.from_env({f"BOTIFY_GATEWAY_{variable}": value})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.7", "gateway"])  # noqa: S104
def test_a_gateway_that_others_reach_does_not_start_without_a_token(host: str) -> None:
    with pytest.raises(SettingsError, match="--insecure"):
        _check_access(GatewayOptions(host=host), insecure=False)
    _check_access(GatewayOptions(host=host), insecure=True)
    _check_access(GatewayOptions(host=host, token="s3cret"), insecure=False)  # noqa: S106 - a test's


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_a_gateway_of_this_machine_starts_without_a_token(host: str) -> None:
    _check_access(GatewayOptions(host=host), insecure=False)


def test_the_token_is_not_shown() -> None:
    assert "s3cret" not in repr(GatewayOptions(token="s3cret"))  # noqa: S106 - a test's
    with pytest.raises(SettingsError) as error:
        GatewayOptions.from_env({"BOTIFY_GATEWAY_TOKEN": "s3cret word"})
    assert "s3cret" not in str(error.value)


def test_a_killed_gateway_leaves_the_port_to_the_other() -> None:
    with _listen(GatewayOptions(port=0), share_port=True) as left:
        port = left.getsockname()[1]
        bound, child = os.pipe()
        if not (pid := os.fork()):
            _listen(GatewayOptions(port=port), share_port=True)
            os.write(child, b"!")
            signal.pause()
        os.read(bound, 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        left.settimeout(10.0)
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", port), timeout=10.0):
                left.accept()[0].close()


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_is_not_shared_by_both_is_taken(shared: bool) -> None:
    with _listen(GatewayOptions(port=0), share_port=shared) as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match=f"BOTIFY_GATEWAY_PORT: 127.0.0.1:{port} cannot be listened on"):
            _listen(GatewayOptions(port=port), share_port=not shared)
