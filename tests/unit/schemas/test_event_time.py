"""Invariant: a speed is a positive finite number or `max`; anything else is refused."""

from __future__ import annotations

import pytest

from core.errors import SpeedError
from schemas.event_time import parse_speed


@pytest.mark.parametrize("text", ["", "x", "fast", "0x", "-1x", "nan", "inf", "infx"])
def test_another_text_is_no_speed(text: str) -> None:
    with pytest.raises(SpeedError, match="neither max nor a number such as 1x or 60x"):
        parse_speed(text)
