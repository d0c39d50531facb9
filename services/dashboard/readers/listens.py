"""The sampled listens as they come."""

from __future__ import annotations

from typing import NamedTuple

from schemas.codec import Codec
from schemas.entered import entered
from schemas.events import Listen
from schemas.settings import Settings
from schemas.topics import Topics
from services.dashboard.figures.listen_sample import ListenSample
from services.dashboard.figures.snapshot import Sample
from services.dashboard.readers.tail import Tail

SHARE = 4
"""One partition of so many is read. Users have one partition each, and treatments are drawn from another hash of the
user, so this is a random sample of listeners; a listen costs some 8 µs, and all would cost a tenth of a core."""

NEWEST = 50_000
"""Listens of each sampled partition that count although they were made before the dashboard started."""

MOST_AT_ONCE = 10_000


class SampledListens(NamedTuple):
    """The figures, and which listeners they are of."""

    figures: ListenSample
    sample: Sample


class ListenReader:
    """Feeds a `ListenSample`; one that is made anew begins with the `NEWEST` listens."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._codec = codec
        count = -(-settings.partitions // SHARE)
        self._tail = Tail(settings, Topics.of(settings).listens.name, NEWEST, range(count))
        self._sampled = SampledListens(ListenSample(), Sample(count, settings.partitions))

    def read(self) -> SampledListens:
        """Take in what has come and return the figures."""
        read = entered(self._tail.take(MOST_AT_ONCE), Listen, self._codec)
        self._sampled.figures.update(listen for _, listen in read)
        return self._sampled

    def close(self) -> None:
        """Stop following."""
        self._tail.close()
