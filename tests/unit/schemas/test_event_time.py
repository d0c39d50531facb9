"""Invariant: a speed is a positive finite number or `max`; anything else is refused."""

from __future__ import annotations

import pytest

from core.errors import SpeedError, ValidationError
from core.kafka.layout import COPIED
from schemas.event_time import LEAD_MS, EventTime, parse_speed


@pytest.mark.parametrize("text", ["", "x", "fast", "0x", "-1x", "nan", "inf", "infx"])
def test_another_text_is_no_speed(text: str) -> None:
    with pytest.raises(SpeedError, match="neither max nor a number such as 1x or 60x"):
        parse_speed(text)


def test_a_copy_from_another_layout_was_judged_there() -> None:
    """Its partition has fewer listeners, and so an earlier event time."""
    time = EventTime(newest_ms=1_000)
    with pytest.raises(ValidationError):
        time.advance(LEAD_MS * 9, taken_ms=0, headers=[("trace", b"1")])
    time.advance(LEAD_MS * 9, taken_ms=0, headers=[(COPIED, b"botify.listens/3/17")])
    assert time.newest_ms == LEAD_MS * 9
