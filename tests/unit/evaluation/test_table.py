"""A terminal of 80 columns shows every figure and the whole of every name."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from botify.evaluation.figures import Clustered, Difference, Row
from botify.evaluation.run import METRICS
from botify.evaluation.table import render

LONG = "a_recommender_of_your_own_with_a_long_name"


def row(name: str, difference: Difference | None) -> Row:
    figures = {
        "coverage": 1.0, "novelty_bits": 10.8, "popularity_percentile": 99.0,
        "learn_us": 12_345.0, "serve_us": 23_456.0, "memory_mb": 1_234.0,
    }  # fmt: skip
    metrics = {metric: Clustered(0.1234, 0.0123) for metric in METRICS}
    differences = dict.fromkeys(METRICS[:2], difference) if difference else {}
    return Row(name, "", metrics, {}, figures, differences, pd.DataFrame(), pd.DataFrame())


@pytest.mark.parametrize(("name", "baseline"), [(LONG, "toppop"), ("toppop", LONG), (LONG, LONG[2:])])
def test_eighty_columns_hold_names_of_any_length(name: str, baseline: str) -> None:
    rows = [row(baseline, None), row(name, Difference(-0.1234, -0.2345, -0.1111))]
    quality, rest = (lines_at_80(table) for table in render(rows, "title", baseline, [], 1000))
    for lines in (quality, rest):
        assert max(map(len, lines)) <= 80
        assert "-0.1234 [-0.2345, -0.1111]" in "\n".join(lines)
        folded = "".join(line.split(" ", 2)[1] for line in lines if line.startswith(" ") and line.strip())
        assert name in folded
        assert baseline in folded
    assert sum("0.1234 0.0123  0.1234 0.0123  0.1234" in line.replace("    ", "  ") for line in quality) == 2
    assert sum("100%  10.8    99  12,345  23,456  1,234" in line for line in rest) == 2


def lines_at_80(table: object) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    return text.splitlines()
