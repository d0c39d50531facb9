"""Reads one listener, when somebody asks for the page."""

from __future__ import annotations

import threading

from schemas.clients import key_of, partition_of
from schemas.codec import Codec
from schemas.entered import entered
from schemas.events import Listen
from schemas.reachable import check_kafka
from schemas.settings import Settings
from schemas.topics import Topics
from services.dashboard.figures.listener import SCANNED, ListenerReading
from services.dashboard.readers.tail import Tail
from streams.read import StateReader
from streams.store.connect import check_redis, connect

TIMEOUT_S = 3.0


class ListenerReader:
    """Reads listeners, one at a time however many ask: it costs as much as a second of the collector."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._state: StateReader | None = None
        self._one_at_a_time = threading.Lock()

    def read(self, user: int) -> ListenerReading:
        """Return what is known; blocks. Raises what Kafka's and Redis's clients raise."""
        with self._one_at_a_time:
            check_kafka(self._settings)
            check_redis(self._settings)
            if self._state is None:
                self._state = StateReader(connect(self._settings), self._settings)
            (state,) = self._state.users([user])
            partition = partition_of(user, self._settings.partitions)
            return ListenerReading(user, state, partition, () if state is None else self._listens(user, partition))

    def _listens(self, user: int, partition: int) -> tuple[Listen, ...]:
        tail = Tail(self._settings, Topics.of(self._settings).listens.name, SCANNED, [partition])
        key, listens = key_of(user), dict[str, Listen]()
        try:
            own = [message for message in tail.take_all(TIMEOUT_S) if message.key() == key]
            for _, listen in entered(own, Listen, self._codec):
                listens.setdefault(listen.event_id, listen)  # of copies the first, as the worker has it
        finally:
            tail.close()
        return tuple(listens.values())
