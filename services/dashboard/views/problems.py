"""What could not be read, above every live page."""

from __future__ import annotations

from services.dashboard.figures.snapshot import Snapshot
from services.dashboard.views.fragment import Fragment, View
from services.dashboard.views.html import prose


def problems(snapshot: Snapshot) -> Fragment:
    """Return a line a problem; the figures below are as old as the problem is."""
    if not snapshot.at_s:
        return Fragment("problems", '<p class="problem waiting">the first reading is being taken</p>')
    lines = "".join(f'<p class="problem" role="alert">{prose(problem)}</p>' for problem in snapshot.problems)
    return Fragment("problems", lines)


def with_problems(view: View) -> View:
    """Return the view with the problems above it."""
    return lambda snapshot: [problems(snapshot), *view(snapshot)]
