"""Records are accepted or rejected with a reason, in order."""

import re
from collections.abc import Iterable
from contextlib import suppress

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from botify.core.errors import DecodeError, IgnoredHeaderError, RejectedMessageError, ValidationError
from botify.core.kafka.layout import ANY_LEAD_MS, COPIED
from botify.schemas.event_time import LEAD_MS, SIMULATED_TIME, EventTime, Lead
from botify.schemas.events import Listen
from botify.schemas.validation import MAX_TIMESTAMP_MS, Intake, Rejected, decode_and_validate, iter_valid
from botify.streams.folds.projection import Record
from tests.unit.streams.worker.records import CODEC, NOW_MS, KafkaRecord, listen, record

DAY_MS = 24 * 60 * 60 * 1000


class Catalogue:
    def __init__(self, later: Iterable[int] = ()) -> None:
        self.known, self._later = {7}, later
        self.refreshes = 0

    def refresh(self) -> None:
        self.refreshes += 1
        self.known |= {*self._later}

    def take(self, records: list[KafkaRecord], time: EventTime) -> tuple[list[Record], list[Rejected]]:
        return take(Intake(CODEC, self.known, self.refresh), records, time)


def take(intake: Intake, records: list[KafkaRecord], time: EventTime) -> tuple[list[Record], list[Rejected]]:
    pairs = list(decode_and_validate(records, Listen, intake, event_time=time))
    good = [(one.offset, listen) for one, listen in pairs if isinstance(listen, Listen)]
    return good, [Rejected(one, why) for one, why in pairs if isinstance(why, RejectedMessageError)]


def test_good_and_bad_records_keep_their_order() -> None:
    unreadable = {2: b"", 5: b"\0\0\0\x7f\xff", 8: CODEC.encode(listen("x"))[:-1], 9: None}
    bad = {at: KafkaRecord(at, b"42", value) for at, value in unreadable.items()}
    bad |= {6: record(6, listen("x")._replace(fraction=7.0)), 7: record(7, key=b"43")}
    records = [bad.get(at, record(at)) for at in (1, 2, 4, 5, 6, 7, 8, 9, 12)]
    good, rejected = Catalogue().take(records, EventTime())
    assert [(offset, event.event_id) for offset, event in good] == [(1, "e1"), (4, "e4"), (12, "e12")]
    assert [letter.record.offset for letter in rejected if isinstance(letter.reason, DecodeError)] == [2, 5, 8, 9]
    assert [letter.record.offset for letter in rejected if isinstance(letter.reason, ValidationError)] == [6, 7]
    assert [letter.record.offset for letter in rejected] == [2, 5, 6, 7, 8, 9]


def test_the_catalogue_is_read_once_more_before_a_track_is_unknown_and_once_a_run() -> None:
    catalogue = Catalogue(later=[8])
    good, rejected = catalogue.take([record(0), record(1, listen("a", track=8))], EventTime())
    assert (len(good), rejected, catalogue.refreshes) == (2, [], 1)
    catalogue = Catalogue()
    good, rejected = catalogue.take([record(i, listen(f"e{i}", track=100 + i)) for i in range(5)], EventTime())
    assert not good
    assert [str(letter.reason) for letter in rejected][:1] == ["track 100 is not in the catalogue"]
    assert catalogue.refreshes == 1
    catalogue.take([record(5, listen("e5", track=100))], EventTime())
    assert catalogue.refreshes == 2


def at(offset: int, timestamp_ms: int, **changes: object) -> KafkaRecord:
    """A record of a listen at some time, taken by the broker at `NOW_MS`."""
    return record(offset, listen(f"e{offset}", timestamp_ms=timestamp_ms))._replace(**changes)


MICROSECONDS, YEAR_100000 = NOW_MS * 1000, 3_093_527_980_800_000
BEYOND = (NOW_MS + LEAD_MS + 1, NOW_MS + DAY_MS, MAX_TIMESTAMP_MS, MAX_TIMESTAMP_MS + 1, 2**52)


@pytest.mark.parametrize("wrong_ms", [*BEYOND, MICROSECONDS, YEAR_100000])
def test_a_wrong_clock_is_refused_and_moves_nothing(wrong_ms: int) -> None:
    time = EventTime()
    records = [at(0, NOW_MS), at(1, wrong_ms), at(2, wrong_ms), at(3, NOW_MS + 1_000)]
    good, rejected = Catalogue().take(records, time)
    assert [offset for offset, _ in good] == [0, 3]
    assert [letter.record.offset for letter in rejected] == [1, 2]
    assert time.newest_ms == NOW_MS + 1_000
    assert f"timestamp_ms {wrong_ms} " in str(rejected[0].reason)
    if wrong_ms <= MAX_TIMESTAMP_MS:
        assert re.search("leads by more than 10 minutes: .* look at the producer's clock", str(rejected[0].reason))


def test_simulated_times_lead_where_the_topic_declares_them_and_nowhere_else() -> None:
    claimed = {"headers": [("x-request-id", b"1"), SIMULATED_TIME]}
    records = [at(0, NOW_MS + DAY_MS, **claimed), at(1, NOW_MS + 10_000 * DAY_MS), at(2, MAX_TIMESTAMP_MS + 1)]
    good, rejected = take(Intake(CODEC), records, EventTime())
    assert good == []
    assert isinstance(rejected[0].reason, IgnoredHeaderError)
    good, _ = take(Intake(CODEC, lead=Lead(lambda: ANY_LEAD_MS)), records, EventTime())
    assert [offset for offset, _ in good] == [0, 1]


def test_the_declaration_is_read_once_more_before_a_listen_is_refused_for_its_time() -> None:
    declared = [LEAD_MS, LEAD_MS, ANY_LEAD_MS]
    intake, time = Intake(CODEC, lead=Lead(lambda: declared.pop(0))), EventTime()
    records = [at(n, NOW_MS + (n + 1) * DAY_MS) for n in range(3)]
    good, rejected = take(intake, records, time)
    assert (len(good), len(rejected), len(declared)) == (0, 3, 1)  # once a run
    assert len(take(intake, records, time)[0]) == 3


def test_what_is_refused_for_another_reason_does_not_move_event_time() -> None:
    time = EventTime()
    Catalogue().take([record(1, listen("e1", track=8, timestamp_ms=NOW_MS + LEAD_MS // 2))], time)
    assert time.newest_ms == 0
    Catalogue().take([at(0, NOW_MS + LEAD_MS)], time)
    assert time.newest_ms == NOW_MS + LEAD_MS


CLAIMS = [SIMULATED_TIME, (COPIED, b"botify.listens/3/17")]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_header_lets_nothing_lead_further(claim: tuple[str, bytes]) -> None:
    """Invariant: the topic says how far its listens may lead, and no record says so of itself."""
    time = EventTime(newest_ms=1_000)
    with pytest.raises(IgnoredHeaderError, match="headers do not count"):
        time.advance(NOW_MS + LEAD_MS + 1, taken_ms=NOW_MS, headers=[("trace", b"1"), claim], lead=Lead())
    time.advance(NOW_MS + LEAD_MS, taken_ms=NOW_MS, headers=[claim], lead=Lead())
    assert time.newest_ms == NOW_MS + LEAD_MS


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(-LEAD_MS, 3 * LEAD_MS)), max_size=60))
def test_however_many_listens_lead_event_time_leads_by_one_bound(steps: list[tuple[int, int]]) -> None:
    time, taken_ms = EventTime(), NOW_MS
    for passed_ms, lead_ms in steps:
        taken_ms += passed_ms
        with suppress(ValidationError):
            time.advance(time.newest_ms + max(lead_ms, 1), taken_ms, headers=(), lead=Lead())
        with suppress(ValidationError):
            time.advance(taken_ms + lead_ms, taken_ms, headers=(), lead=Lead())
        assert time.newest_ms <= taken_ms + LEAD_MS


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_topic_of_an_earlier_version_is_judged_as_that_version_did(claim: tuple[str, bytes]) -> None:
    time, undeclared = EventTime(), Lead(lambda: None)
    for step in (1, 2, 3):
        time.advance(NOW_MS + step * LEAD_MS, NOW_MS, headers=(), lead=undeclared)
    with pytest.raises(ValidationError):
        time.advance(NOW_MS + 5 * LEAD_MS, NOW_MS, headers=(), lead=undeclared)
    time.advance(NOW_MS + 5 * LEAD_MS, NOW_MS, headers=[claim], lead=undeclared)
    assert time.newest_ms == NOW_MS + 5 * LEAD_MS


def test_dead_letters_stay_out_of_what_is_read_again() -> None:
    messages = [Message("t", 0, at, b"42", CODEC.encode(listen("x"))) for at in range(3)]
    found = iter_valid(messages, Listen, CODEC, {3: {1}, 0: {2}})
    assert [message.offset() for message, _ in found] == [0, 1]
