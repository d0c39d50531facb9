"""Section: whether experiments on the same listeners can be read one by one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import pandas as pd

from analytics.arms import METRIC_WORDS
from analytics.assignment import assign
from analytics.errors import AnalyticsError
from analytics.interactions import interactions_of
from analytics.report.html import Row, Section, table
from analytics.sessions import sessions_of


def together_section(listens: pd.DataFrame, experiments: Sequence[str]) -> Section | None:
    """Tell which pairs of experiments change each other's effects; None where no two share listeners."""
    sessions = sessions_of(listens)
    assignments = {name: assign(listens, name) for name in experiments}
    rows, disturbed = [], []
    for first, second in combinations(experiments, 2):
        try:
            found = interactions_of(sessions, assignments[first], assignments[second])
        except AnalyticsError:  # of one layer, or one has begun just now: there is nothing to compare yet
            continue
        changed = [METRIC_WORDS.get(metric, metric) for metric in found.found()]
        least = found.table["p_holm"].min()
        rows.append(Row([first, second, ", ".join(changed) or "none seen", f"{found.users:,}", f"{least:.3f}"]))
        disturbed += [f"{first} and {second}"] if changed else []
    if not rows:
        return None
    finding = (
        f"The effects of {'; '.join(disturbed)} depend on each other: compare their combinations."
        if disturbed
        else "No experiment is seen to change what another does: each may be read as if it were alone."
    )
    headings = ["experiment", "and", "interaction in", "listeners in both", "smallest p (Holm)"]
    return Section("Experiments together", finding, table(headings, rows, texts=3))
