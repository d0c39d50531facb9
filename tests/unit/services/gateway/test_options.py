"""A wrong option ends the start, and names its variable; gateways that share a port take each other's connections."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from botify.core.errors import SettingsError
from botify.services.gateway.__main__ import _check_access, _listen
from botify.services.gateway.options import GatewayOptions


def test_unset_variables_have_defaults() -> None:
    assert GatewayOptions.from_env({"BOTIFY_GATEWAY_PORT": "", "BOTIFY_GATEWAY_TOKEN": ""}) == GatewayOptions()


def test_every_option_can_be_set() -> None:
    options = GatewayOptions.from_env(
        {
            "BOTIFY_GATEWAY_HOST": "0.0.0.0",  # noqa: S104 - a test's
            "BOTIFY_GATEWAY_PORT": "0",
            "BOTIFY_GATEWAY_DEADLINE_MS": "250",
            "BOTIFY_GATEWAY_RATE_PER_S": "50",
            "BOTIFY_GATEWAY_CONNECTIONS_PER_CLIENT": "10",
            "BOTIFY_GATEWAY_TOKEN": "s3cret",
            "BOTIFY_GATEWAY_DASHBOARD": "off",
        }
    )
    assert options == GatewayOptions(
        host="0.0.0.0",  # noqa: S104 - a test's
        port=0,
        deadline_ms=250,
        rate_per_s=50,
        connections_per_client=10,
        token="s3cret",  # noqa: S106 - a test's
        dashboard=False,
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BOTIFY_GATEWAY_PORT", "70000"),
        ("BOTIFY_GATEWAY_PORT", "-1"),
        ("BOTIFY_GATEWAY_DEADLINE_MS", "soon"),
        ("BOTIFY_GATEWAY_TOKEN", "two words"),
        ("BOTIFY_GATEWAY_TOKEN", "serve:one two"),
        ("BOTIFY_GATEWAY_TOKEN", "serve:one read:two"),
        ("BOTIFY_GATEWAY_TOKEN", "serve:"),
        ("BOTIFY_GATEWAY_TOKEN", "t\u00f6ken"),
        ("BOTIFY_GATEWAY_TOKEN", " "),
        ("BOTIFY_GATEWAY_DASHBOARD", "yes"),
    ],
)
def test_an_error_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        GatewayOptions.from_env({variable: value})


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
