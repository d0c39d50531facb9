"""What pictures promise: names that can be read, colours that mean something, and the same bytes for the same data."""

import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import rcParams
from matplotlib.colors import to_hex

from botify.analytics.chart_style import DOWN, MUTED, UP, png, svg
from botify.analytics.charts import forest_plot, line_chart, spread

FRAME = pd.DataFrame({"C": [1.0, 0.5], "T1": [1.0, 0.5]})


@given(st.lists(st.floats(0, 1), max_size=12).map(sorted), st.floats(0.01, 0.2))
def test_names_are_apart_and_in_order(places: list[float], apart: float) -> None:
    moved = spread(places, apart)
    assert len(moved) == len(places)
    assert all(b - a >= apart - 1e-9 for a, b in pairwise(moved))
    if all(b - a >= apart for a, b in pairwise(places)):
        assert moved == pytest.approx(places)


def test_a_forest_is_green_where_it_is_surely_up() -> None:
    rows = pd.DataFrame(
        {"estimate": [2.0, -2.0, 0.1, 1.0], "lower": [1.0, -3.0, -1.0, np.nan], "upper": [3.0, -1.0, 1.0, np.nan]},
        index=["up", "down", "neither", "unknown"],
    )
    axes = forest_plot(rows, "t", "s", "x").axes[0]
    assert [to_hex(line.get_color()) for line in axes.lines if line.get_marker() == "o"] == [UP, DOWN, MUTED]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["up", "down", "neither"]


def test_equal_data_give_equal_bytes_and_nobody_elses_settings_change() -> None:
    before = dict(rcParams)
    first, second = (line_chart(FRAME, "t", "s", "x", "y", control="C") for _ in range(2))
    assert svg(first, "a") == svg(second, "a")
    assert png(first) == png(second)
    assert dict(rcParams) == before


def test_a_title_is_drawn_as_it_is_written() -> None:
    assert svg(line_chart(FRAME, "<b> & $x", "s", "x", "y"), "a").startswith("<svg")


@pytest.mark.parametrize("span", ["160s", "160min", "70h", "1060D"])
def test_a_span_of_nearly_three_units_has_ticks_and_no_warning(span: str) -> None:
    index = pd.date_range("2027-01-01", periods=50, freq=pd.Timedelta(span) / 49)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = line_chart(pd.DataFrame({"a": range(50)}, index=index), "A title", "about", "time", "value")
        assert 2 <= len(chart.axes[0].get_xticks()) <= 6
