"""A replay while listeners listen, the worker folds and readers read. Invariant: nobody notices but by the pointer."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from botify.core.kafka.admin import end_offsets
from botify.core.settings import Settings
from botify.schemas.topics import Topics
from botify.streams.read import StateReader
from botify.streams.replay.swap import rollback, swap
from botify.streams.store.connect import connect
from botify.streams.store.keys import default_namespace
from botify.streams.store.namespaces import checkpoints
from botify.streams.verify import verify
from tests.integration.streams.conftest import with_sources
from tests.integration.streams.listens import TRACKS, USERS, write_listens
from tests.support import Background, eventually, running, write_catalogue

LISTENS = int(os.environ.get("BOTIFY_TEST_REPLAY_LISTENS", "3000"))
TRICKLE = 50
"""Listens that are added at a time while all goes on."""

FOLLOWED_S = 15.0
"""Readers look at the pointer twice a second; a busy machine may hold them up."""


@contextmanager
def worker(settings: Settings) -> Iterator[None]:
    with running(settings, "botify.streams.worker") as process:
        yield
        assert process.poll() is None


class Load(Background):
    """Appends listens, and reads state all the while; a read that fails is an error of the test."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(self._listen, self._read)
        self._settings = settings
        self.reads = 0
        self.slowest_s = 0.0
        self.namespaces: list[str] = []
        self.errors: list[BaseException] = []

    def _listen(self) -> None:
        first = LISTENS
        while not self._over.wait(0.1):
            write_listens(self._settings, TRICKLE, first=first)
            first += TRICKLE

    def _read(self) -> None:
        reader = StateReader(connect(self._settings), self._settings)
        while not self._over.wait(0.002):
            try:
                started = time.monotonic()
                states = reader.users(range(20))
                assert None not in states
                assert len(reader.top_tracks("1d", 10)[0]) == 10
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                self.reads += 1
                if reader.namespace not in self.namespaces[-1:]:
                    self.namespaces.append(reader.namespace)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it goes to the test
                self.errors.append(error)
                return


@pytest.fixture
def loaded(settings: Settings) -> Settings:
    write_catalogue(settings, TRACKS)
    write_listens(settings, LISTENS)
    return settings


def replay(settings: Settings) -> dict[str, Any]:
    """Run the command in a process of its own, as operators do."""
    command = [sys.executable, "-m", "botify.services.cli", "replay", "run", "--json"]
    done = subprocess.run(  # noqa: S603 - our own command
        command, env={**os.environ, **settings.to_env()}, stdout=subprocess.PIPE, check=True, timeout=300
    )
    return json.loads(done.stdout)


def caught_up(settings: Settings, namespace: str) -> bool:
    end = end_offsets(settings, Topics.of(settings).listens.name)
    return with_sources(settings, lambda sources: checkpoints(sources.redis, namespace, end)) == end


def test_a_replay_under_load_is_equal_and_is_swapped_unnoticed(loaded: Settings) -> None:
    first = default_namespace(loaded.topic_prefix)
    with worker(loaded):
        eventually(lambda: caught_up(loaded, first), timeout_s=120)
        with Load(loaded) as load:
            replayed = replay(loaded)
            assert replayed["equals_live"] is True
            id_, namespace = replayed["id"], replayed["namespace"]
            with_sources(loaded, lambda sources: swap(sources, id_))
            eventually(lambda: load.namespaces[-1:] == [namespace] or load.errors, timeout_s=FOLLOWED_S)
            assert verify(loaded).ok
            with_sources(loaded, rollback)
            eventually(lambda: load.namespaces[-1:] == [first] or load.errors, timeout_s=FOLLOWED_S)
            with_sources(loaded, lambda sources: swap(sources, id_))
            eventually(lambda: load.namespaces[-1:] == [namespace] or load.errors, timeout_s=FOLLOWED_S)
        assert load.errors == []
        assert load.namespaces == [first, namespace, first, namespace]
        eventually(lambda: caught_up(loaded, namespace), timeout_s=120)  # the worker has followed
    report = verify(loaded)
    assert (report.ok, report.namespace) == (True, namespace)
    assert verify(loaded, first).ok
    assert report.compared["users"] == USERS
    print(f"replayed {replayed['records'] / replayed['seconds']:,.0f}/s, compared; {replayed['records']:,} records")
    print(f"{load.reads:,} reads, slowest {load.slowest_s * 1e3:.0f} ms")
    print(f"verified {report.records / report.seconds:,.0f}/s")
