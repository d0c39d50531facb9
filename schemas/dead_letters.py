"""Dead letters: rejected records with headers that name origin and reason; and the table of all of them."""

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Self

from confluent_kafka import TIMESTAMP_CREATE_TIME, Message

from botify.core.errors import ExcludedError
from botify.core.kafka.headers import CUT, carried, headers_of
from botify.core.kafka.layout import COPIED, number_of
from botify.core.kafka.reader import FOLLOW_MS, TopicReader
from botify.core.settings import Settings
from botify.schemas.topics import MAX_DEAD_LETTER_BYTES, Topics

Headers = list[tuple[str, bytes]]

MAX_REASON = 1_000  # characters of the reason: it may quote a key of a megabyte, and the letter must fit into a record

EXCLUDED, ERASED = "excluded by an operator: ", "the listener was erased"
"""How the reason of an exclusion begins, and how that of an erasure continues."""

PREFIX = "__connect.errors."  # Kafka Connect's names, which its users and tools know


LARGEST_KEY = 64 * 1024
LARGEST = MAX_DEAD_LETTER_BYTES - 256 * 1024  # of key and value; the rest is for headers


def dead_letter(
    origin: tuple[str, int, int],
    key: bytes | None,
    value: bytes | None,
    own: Iterable[tuple[str, bytes]] | None,
    reason: Exception,
) -> dict[str, Any]:
    """Return key, value and headers of a dead letter that its topic takes; a header says what is cut."""
    headers = dead_letter_headers(*origin, own, reason)
    size = len(key or b"") + len(value or b"")
    if size > LARGEST:
        headers.append((CUT, b"key of %d bytes, value of %d" % (len(key or b""), len(value or b""))))
        key = key and key[:LARGEST_KEY]
        value = value and value[: LARGEST - len(key or b"")]
    return {"key": key, "value": value, "headers": headers}


def dead_letter_headers(
    topic: str, partition: int, offset: int, own: Iterable[tuple[str, bytes]] | None, reason: Exception
) -> Headers:
    """Return the headers of a dead letter: the record's own, its origin, and the reason."""
    why = {
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "stage": "VALUE_CONVERTER",
        "exception.class.name": type(reason).__name__,
        "exception.message": str(reason)[:MAX_REASON],
    }
    kept = carried((name, value) for name, value in own or () if not name.startswith(PREFIX))
    return kept + [(PREFIX + name, text.encode("utf-8", "backslashreplace")) for name, text in why.items()]


class Origin(NamedTuple):
    """The record that a dead letter was; copies of a letter have the same origin."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of `str`; raises ValueError for other texts."""
        topic, partition, offset = text.rsplit("/", 2)
        return cls(topic, int(partition), int(offset))


def originals_of(message: Message) -> list[Origin]:
    """Return where a copied listen (`COPIED`) lies in the layouts that it comes from, the first layout first."""
    stamp, _ = message.timestamp()
    later = number_of(message.topic() or "") if stamp == TIMESTAMP_CREATE_TIME else None
    found: list[Origin] = []
    for name, value in reversed(headers_of(message)):
        if name != COPIED or not later:
            continue
        with suppress(ValueError):  # no text, no number
            origin = Origin.parse(value.decode())
            number = number_of(origin.topic)
            if number is not None and number < later and min(origin[1:]) >= 0:
                found.insert(0, origin)
                later = number
    return found


def origin_of(headers: Iterable[tuple[str, bytes]] | None) -> Origin | None:
    """Return the origin of a dead letter; None if its headers do not name it."""
    found = dict(headers or ())
    try:
        topic, partition, offset = (found[PREFIX + part] for part in ("topic", "partition", "offset"))
        origin = Origin(topic.decode(), int(partition), int(offset))
    except (KeyError, ValueError):
        return None
    return origin if 0 <= origin.partition < 2**31 and 0 <= origin.offset < 2**63 else None


def is_exclusion(headers: Iterable[tuple[str, bytes]] | None) -> bool:
    """Say whether an operator wrote the letter, to exclude a record that had been accepted."""
    return (f"{PREFIX}exception.class.name", ExcludedError.__name__.encode()) in (headers or ())


def is_erasure(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> bool:
    """Say whether a letter is of an erased listener: it has nothing of the record but its place."""
    why = (f"{PREFIX}exception.message", (EXCLUDED + ERASED).encode())
    return value is None and is_exclusion(headers) and why in headers


Letters = Mapping[int, int]  # a place on the dead-letter topic: partition -> next offset


class RejectedBefore:
    """Follows the dead-letter topic: which records of some topics are dead letters, for good.

    Whether a record is accepted depends on more than the record: on the catalogue, and on the schemas that the code
    knows. A fold that decided again could accept what the worker rejected, and once more when it is redriven. So the
    dead-letter topic records what was decided, by the worker or by an operator (`botify dlq exclude`).

    Letters of erased listeners are no decisions: a fold removes the listener when it comes to the tombstone. They keep
    the listens out of what is begun later. So a fold leaves out those that were there when it was begun, and no others:
    it is a function of the topics however often it is interrupted, and whatever is erased meanwhile.

    `begun` returns with which letters the fold of a partition of `topic` was begun (`Claim.letters`), None if all
    count.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        *others: str,
        begun: Callable[[int], Letters | None] = lambda partition: None,
        partitions: Collection[int] | None = None,
    ) -> None:
        self._begun = begun
        self._reader = TopicReader(settings, Topics.of(settings).dead_letters.name, None, partitions, wait_ms=FOLLOW_MS)
        self._reading = threading.Lock()
        # topic -> partition -> offsets of the letters that count, about 100 bytes each
        self.offsets_of: dict[str, dict[int, set[int]]] = {name: {} for name in (topic, *others)}
        self.offsets = self.offsets_of[topic]
        # how many of them an operator has excluded; never taken back, so a smaller number is an older set
        self.excluded: dict[int, int] = {}
        # partition -> offset of a record of an erased listener -> (partition, offset) of its letter
        self.erased: dict[int, dict[int, tuple[int, int]]] = {}

    @property
    def reached(self) -> Letters:
        return dict(self._reader.next_offsets)

    def refresh(self) -> None:
        """Read what was added; blocks."""
        changed = set()
        with self._reading:
            for batch in self._reader.read_to_end():
                for message in batch:
                    origin = origin_of(headers := headers_of(message))
                    if origin is None or origin.topic not in self.offsets_of:
                        continue
                    topic, partition, offset = origin
                    of_topic = self.offsets_of[topic]
                    known = of_topic.setdefault(partition, set())
                    erased = self.erased.setdefault(partition, {}) if of_topic is self.offsets else {}
                    if of_topic is self.offsets and is_erasure(headers, message.value()):
                        if offset not in known:
                            erased.setdefault(offset, (message.partition(), message.offset()))
                            changed.add(partition)
                        continue
                    if (offset not in known or offset in erased) and is_exclusion(headers):
                        self.excluded[partition] = self.excluded.get(partition, 0) + 1
                    erased.pop(offset, None)
                    known.add(offset)
            for partition in changed:
                self._count(partition)

    def count(self, partition: int) -> None:
        """Choose the letters that count, after the fold of a partition has been begun or resumed; blocks."""
        with self._reading:
            self._count(partition)

    def erased_before(self, partition: int, letters: Letters | None) -> set[int]:
        """Return the records of erased listeners that a fold leaves out which was begun with these letters."""
        places = self.erased.get(partition, {}).items()
        return {offset for offset, (at, place) in places if letters is None or place < letters.get(at, 0)}

    def _count(self, partition: int) -> None:
        known, erased = self.offsets.setdefault(partition, set()), self.erased.get(partition, {})
        counting = self.erased_before(partition, self._begun(partition))
        known -= erased.keys() - counting
        known |= counting

    def count_before(self, reached: Mapping[int, int], *, erased: bool = True) -> int:
        """Return how many are before these offsets; it grows when records that were read become dead letters."""
        left = {} if erased else self.erased
        counted = ((reached.get(p, 0), offsets - left.get(p, {}).keys()) for p, offsets in self.offsets.items())
        return sum(sum(at < end for at in offsets) for end, offsets in counted)

    def close(self) -> None:
        self._reader.close()
