"""How far event time may lead; and a speed is a positive finite number or `max`, anything else is refused."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.core.errors import IgnoredHeaderError, SpeedError, ValidationError
from botify.core.kafka.layout import ANY_LEAD_MS, COPIED
from botify.schemas.event_time import LEAD_MS, SIMULATED_TIME, EventTime, Lead, parse_speed

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize("text", ["", "x", "fast", "0x", "-1x", "nan", "inf", "infx"])
def test_another_text_is_no_speed(text: str) -> None:
    with pytest.raises(SpeedError, match="neither max nor a number such as 1x or 60x"):
        parse_speed(text)


UNDECLARED = Lead(lambda: None)
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


def test_simulated_times_lead_by_any_amount_where_the_topic_declares_it() -> None:
    time = EventTime()
    time.advance(NOW_MS + 1_000 * LEAD_MS, NOW_MS, headers=(), lead=Lead(lambda: ANY_LEAD_MS))
    assert time.newest_ms == NOW_MS + 1_000 * LEAD_MS


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_topic_of_an_earlier_version_is_judged_as_that_version_did(claim: tuple[str, bytes]) -> None:
    time = EventTime()
    for step in (1, 2, 3):
        time.advance(NOW_MS + step * LEAD_MS, NOW_MS, headers=(), lead=UNDECLARED)
    with pytest.raises(ValidationError):
        time.advance(NOW_MS + 5 * LEAD_MS, NOW_MS, headers=(), lead=UNDECLARED)
    time.advance(NOW_MS + 5 * LEAD_MS, NOW_MS, headers=[claim], lead=UNDECLARED)
    assert time.newest_ms == NOW_MS + 5 * LEAD_MS
