"""Listeners who are erased without pause."""

import itertools
import json
from contextlib import closing, suppress

from botify.core.errors import BotifyError
from botify.core.kafka.layout import live_layout
from botify.core.settings import Settings
from botify.schemas.dead_letters import origin_of
from botify.schemas.topics import Topics
from botify.streams.dlq.exclude import erase_listener
from botify.streams.store.connect import connect
from botify.streams.store.keys import checkpoint_key
from tests.support import Background, checkpoints, eventually, read_topic

RATE = 5
"""Erasures a second, where the machine can do as many."""


class Erasers(Background):
    def __init__(self, settings: Settings) -> None:
        super().__init__(*[self._erase] * RATE)
        self._settings = settings
        self._next = itertools.count()
        self.erased: list[int] = []

    def _erase(self) -> None:
        while not self._over.wait(1.0):
            user, live = next(self._next), live_layout(self._settings)
            while not self._over.is_set():
                with suppress(BotifyError):  # while the listens move no topic takes it: it is asked for again
                    erase_listener(live, user, lambda partition: checkpoints(live).get(partition))  # noqa: B023
                    self.erased.append(user)
                    break

    def wait_for(self, more: int) -> None:
        wanted = len(self.erased) + more
        eventually(lambda: len(self.erased) >= wanted)


def left_out(settings: Settings, namespace: str, shards: range | None = None) -> set[tuple[int, int]]:
    """Read which listens a fold of the namespace leaves out: those of the letters before its own place."""
    topic, letters = Topics.of(settings).listens.name, read_topic(settings, Topics.of(settings).dead_letters.name)
    found = set()
    for partition in range(settings.partitions):
        shard = partition if shards is None else partition % len(shards)
        with closing(connect(settings)) as redis:
            begun = json.loads(redis.hget(checkpoint_key(namespace, shard), "letters"))
        for letter in letters:
            origin = origin_of(letter.headers())
            assert origin is not None
            counts = letter.value() is not None or letter.offset() < begun.get(str(letter.partition()), 0)
            if counts and (origin.topic, origin.partition) == (topic, partition):
                found.add((partition, origin.offset))
    return found
