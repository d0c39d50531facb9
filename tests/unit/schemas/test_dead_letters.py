from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE

from botify.core.errors import DecodeError, ExcludedError
from botify.core.kafka.layout import COPIED
from botify.core.settings import Settings
from botify.schemas import dead_letters
from botify.schemas.dead_letters import ERASED, EXCLUDED, PREFIX, RejectedBefore, dead_letter_headers
from tests.support import FakeMessage


@pytest.mark.parametrize(
    ("partition", "offset"), [(-1, 0), (0, -1), (2**31, 0), (0, 10**30), ("x", 0), (0, "9" * 5_000)]
)
def test_a_letter_of_a_place_that_no_topic_has_names_no_origin(partition: Any, offset: Any) -> None:
    headers = dead_letter_headers("t", partition, offset, None, ValueError("no"))
    assert dead_letters.origin_of(headers) is None
    assert dead_letters.origin_of([(name, b"") for name, _ in headers]) is None


def test_headers_say_where_the_record_came_from_and_why() -> None:
    headers = dead_letter_headers("botify.listens", 3, 17, None, DecodeError("not a whole Listen: é", b"raw"))
    expected = {
        "topic": "botify.listens", "partition": "3", "offset": "17", "stage": "VALUE_CONVERTER",
        "exception.class.name": "DecodeError", "exception.message": "not a whole Listen: é",
    }  # fmt: skip
    assert headers == [(PREFIX + name, value.encode()) for name, value in expected.items()]


def test_the_records_own_headers_are_kept_but_for_those_of_an_earlier_death_and_reasons_are_cut() -> None:
    own = [("trace", b"1"), ("trace", b"2"), (PREFIX + "topic", b"elsewhere")]
    headers = dead_letter_headers("t", 0, 0, own, ValueError("no"))
    assert headers[:2] == own[:2]
    assert [value for name, value in headers if name == PREFIX + "topic"] == [b"t"]
    long = dict(dead_letter_headers("t", 0, 1, None, ValueError(repr(b"\xff" * 1_000_000))))
    assert len(long[PREFIX + "exception.message"]) == 1_000


def originals(*values: bytes | None, topic: str = "botify.listens-16", stamp: int = TIMESTAMP_CREATE_TIME) -> list[str]:
    """Return the originals of a record with `COPIED` headers."""
    headers = [("trace", b"17"), *((COPIED, value) for value in values)]
    copy: Any = FakeMessage(topic=topic, timestamp=(stamp, 1_700_000_000_000), headers=headers)
    return [str(origin) for origin in dead_letters.originals_of(copy)]


def test_a_copy_names_its_originals_from_the_first_layout_on() -> None:
    assert originals(b"botify.listens/3/17") == ["botify.listens/3/17"]
    chain = [b"botify.listens/3/17", b"botify.listens-16/7/19"]
    assert originals(*chain, topic="botify.listens-32") == [value.decode() for value in chain]
    assert originals() == []
    # what the producer of an original claimed is not before it
    assert originals(b"botify.listens/0/5", b"botify.listens/3/17") == ["botify.listens/3/17"]


@pytest.mark.parametrize("stamp", [TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE])
def test_what_arrived_in_an_open_topic_is_no_copy_whatever_it_says(stamp: int) -> None:
    """Invariant: erasing a listener excludes no listen of another, because only a copy has originals."""
    assert originals(b"botify.listens/3/17", stamp=stamp) == []


NO_ORIGINALS = (
    None, b"", b"\xff", b"17", b"botify.listens/3/x", b"botify.listens/-3/17", b"botify.listens/3/" + b"9" * 5_000,
    b"botify.listens-16/3/17", b"botify.listens-32/3/17", b"botify.sessions/3/17",  # no earlier layout
)  # fmt: skip


@pytest.mark.parametrize("value", NO_ORIGINALS)
def test_a_value_that_names_no_record_of_an_earlier_layout_is_ignored(value: bytes | None) -> None:
    assert originals(value) == []
    assert originals(value, b"botify.listens/3/17") == ["botify.listens/3/17"]


BROKEN = DecodeError("no", b"")


class Topic:
    def __init__(self) -> None:
        self.letters: list[FakeMessage] = []
        self.next_offsets = {0: 0}

    def read_to_end(self) -> list[list[FakeMessage]]:
        new = self.letters[self.next_offsets[0] :]
        self.next_offsets[0] = len(self.letters)
        return [new]

    def erase(self, *origins: int) -> None:
        self.exclude(*origins, why=ERASED, value=None)

    def exclude(self, *origins: int, why: str = "a bot", value: bytes | None = b"a listen") -> None:
        self.reject(*origins, reason=ExcludedError(EXCLUDED + why, b""), value=value)

    def reject(self, *origins: int, reason: Exception = BROKEN, value: bytes | None = b"?") -> None:
        for origin in origins:
            headers = dead_letter_headers("botify.listens", 0, origin, None, reason)
            self.letters.append(FakeMessage(partition=0, offset=len(self.letters), value=value, headers=headers))


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    topic = Topic()
    monkeypatch.setattr(dead_letters, "TopicReader", lambda *_, **__: topic)
    return topic


def test_a_fold_leaves_out_who_was_erased_before_it_began_whenever_it_reads_the_letters(topic: Topic) -> None:
    begun: dict[int, dead_letters.Letters | None] = {}
    rejected = RejectedBefore(Settings(), "botify.listens", begun=begun.get)
    topic.erase(3, 5)
    rejected.refresh()
    begun[0] = rejected.reached
    topic.erase(5, 7, 9)
    topic.reject(11)
    topic.exclude(13)
    rejected.refresh()
    assert rejected.offsets == {0: {3, 5, 11, 13}}
    assert rejected.excluded == {0: 1}  # an operator has excluded one: what was begun before may have it

    later = RejectedBefore(Settings(), "botify.listens", begun=lambda _: begun[0])  # of a process that resumes it
    topic.next_offsets[0] = 0
    later.refresh()
    assert later.offsets == rejected.offsets

    begun[0] = None  # of an earlier version, and of readers that fold nothing
    rejected.count(0)
    assert rejected.offsets == {0: {3, 5, 7, 9, 11, 13}}
    begun[0] = {}
    rejected.count(0)
    assert rejected.offsets == {0: {11, 13}}


def test_what_is_rejected_or_excluded_as_well_as_erased_stays_out_of_every_fold(topic: Topic) -> None:
    rejected = RejectedBefore(Settings(), "botify.listens", begun=lambda _: {})
    topic.reject(1)
    topic.erase(1, 2, 3)
    topic.reject(2)
    topic.exclude(3, 4)
    topic.exclude(5, why=ERASED)  # an operator's word: the letter has the record, and there is no tombstone
    rejected.refresh()
    assert rejected.offsets == {0: {1, 2, 3, 4, 5}}
    assert rejected.excluded == {0: 3}
