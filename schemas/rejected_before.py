"""Which records of a topic were dead-lettered: their fate is settled.

Whether a record can enter depends on more than the record: on the catalogue, and on the schemas that the code knows.
A fold that asked again later could let in what the worker set aside, and once more when it is redriven. So the
dead-letter topic is the record of what was decided, by the worker or by an operator (`botify dlq exclude`).
"""

from __future__ import annotations

import threading

from core.kafka.reader import TopicReader
from core.settings import Settings
from schemas.dead_letters import is_exclusion, origin_of
from schemas.topics import Topics


class RejectedBefore:
    """Follows the dead-letter topic.

    Parameters
    ----------
    topic : str
        Whose dead letters count.

    Attributes
    ----------
    offsets : dict of partition to set of offset
        What was dead-lettered, as of the last `refresh`; about 100 bytes each.
    excluded : dict of partition to int
        How many of them an operator has excluded. Exclusions are never taken back, so a smaller number is an older set.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        self._reader = TopicReader(settings, Topics.of(settings).dead_letters.name)
        self._reading = threading.Lock()
        self.offsets: dict[int, set[int]] = {}
        self.excluded: dict[int, int] = {}

    def refresh(self) -> None:
        """Read what has been added; blocks."""
        with self._reading:
            for batch in self._reader.read_to_end():
                for message in batch:
                    origin = origin_of(headers := message.headers())
                    if origin is None or origin.topic != self._topic:
                        continue
                    _, partition, offset = origin
                    known = self.offsets.setdefault(partition, set())
                    if offset not in known and is_exclusion(headers):
                        self.excluded[partition] = self.excluded.get(partition, 0) + 1
                    known.add(offset)

    def close(self) -> None:
        """Leave the broker."""
        self._reader.close()
