from __future__ import annotations

import pytest

from botify.core.errors import PositionError
from botify.core.kafka.admin import TopicPosition, TopicState, parse_position
from botify.core.settings import Settings

NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("earliest", TopicPosition("earliest")),
        ("latest", TopicPosition("latest")),
        ("offset:17", TopicPosition("offset", 17)),
        ("ts:2026-01-31T12:00:00Z", TopicPosition("timestamp", 1_769_860_800_000)),
        ("ts:2026-01-31T12:00:00", TopicPosition("timestamp", 1_769_860_800_000)),
        ("ts:2026-01-31T13:00:00.5+01:00", TopicPosition("timestamp", 1_769_860_800_500)),
        ("duration:PT1H", TopicPosition("timestamp", NOW_MS - 3_600_000)),
        ("duration:P2DT3M4S", TopicPosition("timestamp", NOW_MS - 172_984_000)),
    ],
)
def test_places_are_read(text: str, position: TopicPosition) -> None:
    assert parse_position(text, NOW_MS) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "begin",
        "offset:",
        "offset:-1",
        "offset:x",
        "ts:yesterday",
        "duration:1h",
        "duration:P",
        "duration:PT",
        "latest:1",
    ],
)
def test_what_is_no_place_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(PositionError, match=r"say earliest, latest, offset:N"):
        parse_position(text, NOW_MS)


@pytest.mark.parametrize(
    ("text", "offsets"),
    [
        ("earliest", {0: 10, 1: 0}),
        ("latest", {0: 50, 1: 20}),
        ("offset:30", {0: 30, 1: 20}),
        ("offset:5", {0: 10, 1: 5}),
    ],
)
def test_a_place_is_an_offset_in_each_partition(text: str, offsets: dict[int, int]) -> None:
    topic = TopicState("t", "an-id", {0: 10, 1: 0}, {0: 50, 1: 20})
    assert topic.offsets_of(parse_position(text, NOW_MS), Settings()) == offsets
