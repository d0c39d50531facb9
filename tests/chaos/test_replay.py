"""A replay while listeners listen, the worker folds and readers read. Invariant: nobody notices but by the pointer."""

from itertools import count

from botify.core.settings import Settings
from botify.streams.read import StateReader
from botify.streams.replay.swap import rollback, swap
from botify.streams.store.connect import connect
from botify.streams.store.keys import default_namespace
from botify.streams.verify import verify
from tests.chaos.whole import caught_up
from tests.commands import as_json
from tests.integration.streams.conftest import with_sources
from tests.integration.streams.listens import TRACKS, USERS, write_listens
from tests.support import Repeatedly, eventually, running, write_catalogue

LISTENS = 3_000
TRICKLE = 50
"""Listens that are added at a time while all goes on."""

FOLLOWED_S = 15.0
"""Readers look at the pointer twice a second; a busy machine may hold them up."""


def test_a_replay_under_load_is_equal_and_is_swapped_unnoticed(settings: Settings) -> None:
    write_catalogue(settings, TRACKS)
    write_listens(settings, LISTENS)
    first, more = default_namespace(settings.topic_prefix), count(LISTENS, TRICKLE)
    reader, namespaces = StateReader(connect(settings), settings), list[str]()

    def read() -> None:
        assert None not in reader.users(range(20))
        assert len(reader.top_tracks("1d", 10)[0]) == 10
        if reader.namespace not in namespaces[-1:]:
            namespaces.append(reader.namespace)

    def followed(namespace: str) -> None:
        eventually(lambda: namespaces[-1:] == [namespace] or reading.errors, timeout_s=FOLLOWED_S)

    with running(settings, "botify.streams.worker") as worker:
        caught_up(settings)
        listening = Repeatedly(0.1, lambda: write_listens(settings, TRICKLE, first=next(more)))
        with listening, Repeatedly(0.002, read) as reading:
            replayed = as_json(settings, "replay", "run")
            assert replayed["equals_live"] is True
            id_, namespace = replayed["id"], replayed["namespace"]
            with_sources(settings, lambda sources: swap(sources, id_))
            followed(namespace)
            assert verify(settings).ok
            with_sources(settings, rollback)
            followed(first)
            with_sources(settings, lambda sources: swap(sources, id_))
            followed(namespace)
        assert namespaces == [first, namespace, first, namespace]
        caught_up(settings)  # the worker has followed
        assert worker.poll() is None
    report = verify(settings)
    assert (report.ok, report.namespace) == (True, namespace)
    assert verify(settings, first).ok
    assert report.compared["users"] == USERS
