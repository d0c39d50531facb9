"""Producers that send a listen twice: at another offset, in another batch, to a worker that has been replaced."""

from __future__ import annotations

import numpy as np

from schemas.events import Listen
from schemas.settings import Settings
from tests.chaos.conftest import TRACKS, StartWorker
from tests.chaos.load import Load
from tests.chaos.test_scaling import progresses
from tests.chaos.whole import assert_whole
from tests.support import make_listens

LISTENS = 20_000
SHARE = 0.1
FURTHEST = 3_000
"""Listens between an event and its copy; with 300 listeners that is within the last 50 of each."""


def with_copies(listens: list[Listen], seed: int) -> list[Listen]:
    """Send a share of the events again, a little or much later."""
    rng = np.random.default_rng(seed)
    copied = rng.choice(len(listens), int(len(listens) * SHARE), replace=False)
    places = [(float(at), listen) for at, listen in enumerate(listens)]
    places += [(at + float(rng.uniform(0, FURTHEST)), listens[at]) for at in copied.tolist()]
    return [listen for _, listen in sorted(places, key=lambda place: place[0])]


def test_copies_are_counted_once(settings: Settings, start_worker: StartWorker) -> None:
    sent = with_copies(make_listens(LISTENS, 300, TRACKS, seed=63), seed=64)
    first = start_worker("first")
    with Load(settings, sent, per_s=2_500) as load:
        progresses(settings, 1_500)
        assert first.stop() == 0
        second = start_worker("second")
        load.finish()
    assert_whole(settings, LISTENS)
    assert second.stop() == 0
    assert first.counter("duplicates") + second.counter("duplicates") == len(sent) - LISTENS == LISTENS * SHARE
