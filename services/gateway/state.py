"""What the gateway keeps up to date in the background: event time, popular tracks, the catalogue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from botify.core.errors import TopicError
from botify.core.kafka.config import partition_of
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.event_time import LEAD_MS, event_time_of
from botify.schemas.events import Track
from botify.services.errors import UnavailableError
from botify.streams.read import StateReader
from botify.streams.store.connect import REDIS_ERRORS

SKEW_MS = 5_000  # how far a client's clock may be ahead of this machine's
SIMULATED_MS = 2 * LEAD_MS
"""What leads the wall clock by more is simulated: other topics bound the lead of the broker's clock to `LEAD_MS`."""


class EventClock:
    """The wall clock; for listeners of a partition of simulated time, that time, advancing with the wall clock.

    A simulation at full speed leaves listens in the future; a listen with the current time would be late for all that
    decays by event time. Each partition is followed on its own, but no further than the service as a whole
    (`event_time_of`), so a partition with a wrong time does not move the clock of another. Time that is not simulated
    is not followed: clients that are ahead cannot move this clock.

    Examples
    --------
    >>> now = [1_000.0]
    >>> clock = EventClock(partitions=1, wall_s=lambda: now[0])
    >>> clock.now_ms(42)
    1000000
    >>> clock.follow({0: 5_000_000}, partitions=1)  # the topic is an hour ahead
    >>> now[0] += 1.0
    >>> clock.now_ms(42)
    5001000
    >>> clock.follow({0: 900_000}, partitions=1)  # another namespace became the live one, whose time is not ahead
    >>> clock.now_ms(42)
    1001000
    """

    def __init__(self, partitions: int, wall_s: Callable[[], float] = time.time) -> None:
        self._partitions = partitions
        self._wall_s = wall_s
        self._seen_ms: dict[int, int] = {}
        self._ahead_ms: dict[int, int] = {}

    def now_ms(self, user: int) -> int:
        return self._wall_ms() + self._ahead_of(user)

    def latest_ms(self, user: int) -> int:
        """Return the latest time that a client may name for a listener."""
        return self._wall_ms() + max(self._ahead_of(user), SKEW_MS)

    def follow(self, event_times: Mapping[int, int], partitions: int) -> None:
        """Update the clock from the current event time of each partition, and their number."""
        self._partitions = partitions
        service_ms = event_time_of(list(event_times.values()))
        for partition, event_ms in event_times.items():
            reached_ms = min(event_ms, service_ms)
            ahead_ms = max(0, reached_ms - self._wall_ms())
            if reached_ms >= self._seen_ms.get(partition, 0):
                ahead_ms = max(ahead_ms, self._ahead_ms.get(partition, 0))
            self._seen_ms[partition], self._ahead_ms[partition] = reached_ms, ahead_ms
        for partition in self._seen_ms.keys() - event_times.keys():
            del self._seen_ms[partition], self._ahead_ms[partition]

    def _ahead_of(self, user: int) -> int:
        ahead_ms = self._ahead_ms.get(partition_of(user, self._partitions), 0)
        return ahead_ms if ahead_ms > SIMULATED_MS else 0

    def _wall_ms(self) -> int:
        return int(self._wall_s() * 1000)


HALF_LIFE = "1d"
TOP = 100
POPULAR_EVERY_S = 30.0
"""Merging the tops of all partitions is most of the work of an idle gateway, and they change slowly."""


class LiveState:
    """State that is read in the background, so that no request waits for it; `refused_writes` blocks."""

    def __init__(
        self, reader: StateReader, clock: EventClock, refused_writes: Callable[[], str | None] = lambda: None
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._refused_writes = refused_writes
        self.popular: list[int] = []  # tracks, best first; empty before the first listen
        self.problem: str | None = None  # why the last refresh failed, or Redis refuses writes
        self._popular_due_s = 0.0

    def refresh(self) -> None:
        """Read again, blocking; the last state stays if Redis does not answer."""
        try:
            self._clock.follow(self._reader.event_times(), self._reader.partitions)
            if not self.popular or time.monotonic() >= self._popular_due_s:
                self.popular = self._reader.top_tracks(HALF_LIFE, TOP).tracks.tolist()
                self._popular_due_s = time.monotonic() + POPULAR_EVERY_S
            self.problem = self._refused_writes()
        except REDIS_ERRORS as error:
            self.problem = str(UnavailableError.of_redis(error))


REFRESH_AGAIN_S = 0.2  # least time between two reads of the catalogue topic for unknown tracks
MAX_WAITING = 64  # requests that may wait for such a read: those for invented tracks must not take all places


MOST_DECODED = 20_000  # tracks in memory as objects, about 1 KB each


class KnownTracks:
    """The catalogue. Its topic is read again before a track is said to be unknown: the track may be new."""

    def __init__(self, reader: CatalogueReader) -> None:
        self._reader = reader
        self._decoded: dict[int, Track] = {}  # each is read by most of its requests, and decoding takes 5 µs
        self._reading = asyncio.Lock()
        self._began_s = -REFRESH_AGAIN_S
        self._problem: UnavailableError | None = None
        self._waiting = 0
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._reader.tracks)

    async def find(self, track: int | str) -> Track | None:
        """Return the track of a number or an external id; `UnavailableError` if a new one cannot be looked for."""
        if (known := self.known(track)) is not None:
            return known
        if self._waiting < MAX_WAITING:
            self._waiting += 1
            try:
                await self.refresh()
            finally:
                self._waiting -= 1
        return self.known(track)

    def known(self, track: int | str) -> Track | None:
        """Return the track of a number or an external id, as far as the topic was read."""
        if isinstance(track, str):
            return self._reader.tracks.with_external_id(track)
        if (decoded := self._decoded.get(track)) is not None:
            return decoded
        found = self._reader.tracks.get(track)
        if found is not None:
            if len(self._decoded) >= MOST_DECODED:
                self._decoded.clear()
            self._decoded[track] = found
        return found

    async def refresh(self) -> None:
        """Read what was published before this call; raises as `find`."""
        asked_s = time.monotonic()
        async with self._reading:
            if self._began_s < asked_s:  # else another call has read since
                await asyncio.sleep(self._began_s + REFRESH_AGAIN_S - time.monotonic())
                self._began_s = time.monotonic()
                await self._read(self._reader.refresh)
            if self._problem is not None:
                raise self._problem

    async def follow(self) -> None:
        """Take what has arrived; to ask for the topic's end would take 50 ms, and new connections."""
        async with self._reading:
            await self._read(self._reader.take_arrived)
            if self._problem is not None:
                raise self._problem

    async def _read(self, read: Callable[[], int]) -> None:
        self._problem = None
        changed = 1  # also if it fails: some may have been read
        try:
            changed = await asyncio.to_thread(read)
        except TopicError as error:
            self._problem = UnavailableError(f"the catalogue cannot be read: {error}")
        if changed:
            self._ids = self._ids[:0]
            self._decoded.clear()

    def ids(self) -> NDArray[np.int64]:
        """Return the ids of the tracks, ascending, without those that were deleted."""
        if not len(self._ids):
            self._ids = self._reader.tracks.live_ids()
        return self._ids

    def highest(self) -> int:
        """Return the highest id that was ever given; -1 without tracks."""
        ids = self._reader.tracks.ids()
        return int(ids[-1]) if len(ids) else -1

    def offered(self, tracks: Sequence[int]) -> list[int]:
        """Return those of some tracks that were not deleted."""
        return [track for track in tracks if (known := self.known(track)) is None or not known.deleted]

    def sharing(self, track: Track) -> tuple[list[int], list[int]]:
        """Return the tracks of a track's artist, and of its genre, without those that were deleted."""
        of_artist, of_genre = self._reader.tracks.sharing(track)
        return of_artist.tolist(), of_genre.tolist()

    async def alike(self, track: Track, count: int) -> list[tuple[int, float]]:
        """Return the tracks of the most similar content; in a thread, as a million take 50 ms."""
        return [] if track.sketch is None else await asyncio.to_thread(self._reader.tracks.alike, track, count)

    async def close(self) -> None:
        await asyncio.to_thread(self._reader.close)
