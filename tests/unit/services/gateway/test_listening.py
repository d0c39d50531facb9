"""Invariant: of gateways that share a port, those that are left get all connections; others cannot take it."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from botify.core.errors import SettingsError
from botify.services.gateway.__main__ import _listen
from botify.services.gateway.options import GatewayOptions


def test_a_killed_gateway_leaves_the_port_to_the_other() -> None:
    with _listen(GatewayOptions(port=0, share_port=True)) as left:
        port = left.getsockname()[1]
        bound, child = os.pipe()
        if not (pid := os.fork()):
            _listen(GatewayOptions(port=port, share_port=True))
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
    with _listen(GatewayOptions(port=0, share_port=shared)) as first:
        port = first.getsockname()[1]
        with pytest.raises(SettingsError, match=f"BOTIFY_GATEWAY_PORT: 127.0.0.1:{port} cannot be listened on"):
            _listen(GatewayOptions(port=port, share_port=not shared))
