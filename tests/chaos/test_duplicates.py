"""Producers that send a listen twice: at another offset, in another batch, to a worker that has been replaced."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen
from botify.schemas.topics import Topics
from tests.chaos.conftest import PATIENT_S, TRACKS, StartWorker
from tests.chaos.load import Load
from tests.chaos.test_scaling import progresses
from tests.chaos.whole import assert_whole
from tests.support import make_listens, read_topic

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


def copies_from(settings: Settings, offsets: Mapping[int, int]) -> int:
    """Return how many records, from these offsets of the partitions on, are copies of an earlier one."""
    seen: set[str] = set()
    copies = 0
    for message in read_topic(settings, Topics.of(settings).listens.name):
        event_id = Codec().decode(message.value(), Listen).event_id
        copies += event_id in seen and message.offset() >= offsets[message.partition()]
        seen.add(event_id)
    return copies


def test_copies_are_counted_once(settings: Settings, start_worker: StartWorker) -> None:
    sent = with_copies(make_listens(LISTENS, 300, TRACKS, seed=63), seed=64)
    first = start_worker("first", session_timeout_s=PATIENT_S)
    with Load(settings, sent, per_s=2_500) as load:
        progresses(settings, 1_500)
        assert first.stop() == 0
        second = start_worker("second", session_timeout_s=PATIENT_S)
        load.finish()
    assert_whole(settings, LISTENS)
    assert second.stop() == 0
    # the first one was stopped under load: it may not have heard what came of its last applies
    all_copies, of_second = len(sent) - LISTENS, copies_from(settings, second.claimed_at())
    assert 0 < of_second < all_copies
    assert second.counter("duplicates") == of_second
    assert 0 < first.counter("duplicates") <= all_copies - of_second
