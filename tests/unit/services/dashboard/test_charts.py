"""Charts with gaps, without data, and at the ends of their scale."""

from __future__ import annotations

import math

from botify.services.dashboard.charts import interval, line_chart


def test_a_gap_is_not_drawn_over() -> None:
    chart = line_chart([("a", [1.0, math.nan, 2.0, 3.0]), ("b", [4.0])], "/s", 10)
    assert chart is not None
    assert [(line.series, line.points.count(","), bool(line.area)) for line in chart.lines] == [
        (0, 1, True),
        (0, 2, True),
        (1, 1, False),
    ]


def test_without_values_there_is_no_chart() -> None:
    assert line_chart([("a", [math.nan])], "/s", 10) is None
    assert interval((1.0, math.nan, math.nan), "", 10.0) is None


def test_an_interval_stays_inside_its_drawing() -> None:
    drawn = interval((5.0, 1.0, 90.0), "good", 10.0)
    assert drawn is not None
    assert (drawn.left, drawn.width, drawn.middle) == ("55.0", "45.0", "75.0")
