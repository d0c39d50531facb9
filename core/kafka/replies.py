"""A requester's reply partition: chosen at random, named in its requests, and left if it has many replies to others.

    request, reply_partition=5 ─► requests ─► server ─► replies[5] ─► the requester

Requesters know nothing of each other, and there may be more of them than partitions. Those that share a partition
filter by their requests' ids, so sharing costs only time. A requester that finds more replies to others than its own
moves: an idle one leaves a busy partition after a second, whichever it has chosen.
"""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.reader import AssignedConsumer
from botify.core.settings import Settings

WINDOW_S = 1.0  # how often a requester decides whether to move
CROWDED_PER_S = 100.0  # replies to others that are worth a move
LONGEST_WINDOW_S = 64.0  # each move doubles the window up to this: on a topic that is busy everywhere, all come to rest


class ReplyReader:
    """Reads the replies to one requester, from the end of its partition on; raises `TopicError`.

    At most once: nothing is committed, and a reply that was published before the requester started, or `keep_s` after
    it has moved, is not read. The requester asks again or goes without.

    Only a reply to this requester has the bytes `own` in its value, such as the beginning of its requests' ids. A copy
    of them in a reply to another one is harmless: the whole id decides. Empty bytes take every reply. Replies to a
    request arrive within `keep_s`: after a move, the old partition is read for this long. `partition` is the one to
    name in the next request, `others` counts the replies to others, and `has_more` says whether the last `poll` was
    full.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        own: bytes,
        keep_s: float,
        group: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        choose: Callable[[Sequence[int]], int] = random.choice,
        connect: Callable[..., AssignedConsumer] = AssignedConsumer,
        **config: Any,
    ) -> None:
        ends = end_offsets(settings, topic)
        self._partitions = sorted(ends)
        self._own, self._keep_s, self._clock, self._choose = own, keep_s, clock, choose
        self.partition = choose(self._partitions)
        self._consumer = connect(settings, topic, {self.partition: ends[self.partition]}, group, **config)
        self.others = 0
        self.has_more = False
        self._next: int | None = None  # is assigned, and not fetched from yet
        self._previous: tuple[int, float] | None = None  # is read until this time
        self._window_s = WINDOW_S
        self._start_window(0)

    @property
    def listening(self) -> bool:
        """Whether the partition has been fetched from, so that no reply waits for a connection."""
        return self._next is not None or self._consumer.connected

    def poll(self, most: int, wait_s: float, gather_s: float | None = None) -> list[bytes]:
        """Return the values of own replies that have arrived; parameters and errors are those of `AssignedConsumer`."""
        values = [message.value() for message in self._consumer.poll(most, wait_s, gather_s)]
        self.has_more = len(values) == most
        own = [value for value in values if value is not None and self._own in value]
        self._taken += len(own)
        self.others += len(values) - len(own)
        now_s = self._clock()
        if self._next is not None or self._previous is not None:
            self._continue_move(now_s)
        elif now_s - self._began_s >= self._window_s:
            self._end_window(now_s)
        return own

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()

    def _start_window(self, others: int) -> None:
        self._began_s, self._taken, self._others_before = self._clock(), 0, others

    def _end_window(self, now_s: float) -> None:
        others = self.others - self._others_before
        crowded = others > self._taken and others > CROWDED_PER_S * (now_s - self._began_s)
        if crowded and len(self._partitions) > 1:
            self._next = self._choose([one for one in self._partitions if one != self.partition])
            self._consumer.add(self._next)
            self._window_s = min(2 * self._window_s, LONGEST_WINDOW_S)
        else:
            self._window_s = WINDOW_S if not crowded else self._window_s
        self._start_window(self.others)

    def _continue_move(self, now_s: float) -> None:
        """Name the next partition once it is read, then stop reading the previous one when no reply can be in it."""
        if self._next is not None and self._consumer.connected:
            self._previous = self.partition, now_s + self._keep_s
            self.partition, self._next = self._next, None
        if self._previous is not None and now_s >= self._previous[1]:
            self._consumer.drop(self._previous[0])
            self._previous = None
            self._start_window(self.others)
