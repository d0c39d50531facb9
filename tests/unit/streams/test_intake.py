from __future__ import annotations

from schemas.errors import DecodeError, ValidationError
from streams.worker.intake import Intake
from tests.unit.streams.records import CODEC, KafkaRecord, listen, record


class Catalogue:
    """Tracks that become known at the first refresh."""

    def __init__(self, known: set[int], later: set[int]) -> None:
        self.known, self._later = known, later
        self.refreshes = 0

    def refresh(self) -> None:
        self.refreshes += 1
        self.known |= self._later

    def intake(self) -> Intake:
        return Intake(CODEC, self.known, self.refresh)


def test_good_and_bad_records_keep_their_order() -> None:
    seven = CODEC.encode(listen("x")._replace(fraction=7.0))
    records = [
        record(1),
        record(2, raw=b""),
        record(4),
        record(5, raw=b"\0\0\0\x7f\xff"),
        record(6, raw=seven),
        record(7, key=b"43"),
        record(8, raw=CODEC.encode(listen("x"))[:-1]),
        KafkaRecord(9, b"42", None),
        record(12),
    ]
    good, rejected = Catalogue({7}, set()).intake().take(records)
    assert [(offset, event.event_id) for offset, event in good] == [(1, "e1"), (4, "e4"), (12, "e12")]
    assert [(letter.record.offset, type(letter.reason)) for letter in rejected] == [
        (2, DecodeError),
        (5, DecodeError),
        (6, ValidationError),
        (7, ValidationError),
        (8, DecodeError),
        (9, DecodeError),
    ]


def test_the_catalogue_is_read_once_more_before_a_track_is_unknown() -> None:
    catalogue = Catalogue({7}, {8})
    good, rejected = catalogue.intake().take([record(0), record(1, listen("a", track=8))])
    assert len(good) == 2
    assert not rejected
    assert catalogue.refreshes == 1


def test_the_catalogue_is_read_at_most_once_a_run() -> None:
    catalogue = Catalogue({7}, set())
    good, rejected = catalogue.intake().take([record(i, listen(f"e{i}", track=100 + i)) for i in range(5)])
    assert not good
    assert [str(letter.reason) for letter in rejected][:1] == ["track 100 is not in the catalogue"]
    assert catalogue.refreshes == 1
    catalogue.intake().take([record(5, listen("e5", track=100))])
    assert catalogue.refreshes == 2


def test_a_catalogue_that_knows_all_tracks_is_not_read() -> None:
    catalogue = Catalogue({7}, set())
    catalogue.intake().take([record(0), record(1, raw=b"")])
    assert catalogue.refreshes == 0


def test_what_was_dead_lettered_before_stays_out() -> None:
    intake = Intake(CODEC, {7}, lambda: None, {0: {1}, 5: {0}})
    good, rejected = intake.take([record(0), record(1), record(2)])
    assert [offset for offset, _ in good] == [0, 2]
    assert "dead-lettered before" in str(rejected[0].reason)
