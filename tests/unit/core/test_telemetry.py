"""Invariant: whoever asks learns how the process is, and nobody who asks can hurt it."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from botify.core.errors import SettingsError
from botify.core.settings import Settings
from botify.core.telemetry import MOST_AT_ONCE, new_registry, observed


class Probes:
    alive: str | None = None
    ready: str | None = "no partitions yet"


@pytest.fixture
def probes() -> Probes:
    return Probes()


@pytest.fixture
def url(probes: Probes) -> Iterator[str]:
    registry = CollectorRegistry()
    Gauge("answer", "It.", registry=registry).set(42)
    settings = Settings(metrics_port=0)
    with observed(settings, registry, alive=lambda: probes.alive, ready=lambda: probes.ready) as served:
        assert served is not None
        yield served


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own address
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_are_what_the_registry_has(url: str) -> None:
    status, body = get(f"{url}/metrics?x=1")
    assert status == 200
    assert "answer 42.0" in body


def test_a_probe_says_what_is_wrong(url: str, probes: Probes) -> None:
    assert get(f"{url}/healthz") == (200, "ok\n")
    assert get(f"{url}/readyz") == (503, "no partitions yet\n")
    probes.ready, probes.alive = None, "it hangs"
    assert get(f"{url}/readyz") == (200, "ok\n")
    assert get(f"{url}/healthz") == (503, "it hangs\n")


def test_any_other_path_is_unknown(url: str) -> None:
    assert get(f"{url}/")[0] == 404


def test_clients_that_say_nothing_take_no_more_than_their_threads(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(MOST_AT_ONCE + 1)]
    try:
        silent[-1].settimeout(5)
        assert silent[-1].recv(1) == b"", "the one too many was not turned away"
    finally:
        for one in silent:
            one.close()


def test_a_taken_port_names_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(SettingsError, match=f"BOTIFY_METRICS_PORT: 127.0.0.1:{port} cannot be listened on"),
            observed(Settings(metrics_port=port), CollectorRegistry()),
        ):
            raise AssertionError("it was served on a port that is taken")


def test_nothing_is_served_without_a_port() -> None:
    with observed(Settings(), CollectorRegistry()) as served:
        assert served is None


def test_a_new_registry_has_what_any_process_has() -> None:
    names = {family.name for family in new_registry().collect()}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "python_gc_collections"} <= names
