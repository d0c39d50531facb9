"""What the charts show: rings of averaged seconds for up to a day, kept on the disk, and their drawings in SVG."""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from botify.core.files import write_durably
from botify.services.dashboard.figures import GAP, RANGES, Moment, Responses, Trouble

POINTS = 120  # of each range
MEANS = 3
"""Fields of a `Moment` that are averaged; of the others a point has the worst, so that a short peak stays visible."""
HOLD_S = 3  # how long a reading stands for those that come late; at least one step
RESPONSES_S = 60.0
OVER_S = 65.0
"""What is wrong again after less than this was wrong all the time; longer than two readings of a quiet dashboard."""
WRITE_EVERY_S = 60.0

log = logging.getLogger(__name__)


class Ring:
    """The last `POINTS` steps of time.

    Examples
    --------
    >>> ring = Ring(step_s=30)
    >>> for at_s, lag in ((0, 5.0), (29, 9.0), (60, 7.0)):
    ...     ring.add(at_s, GAP._replace(listens_per_s=lag, worker_lag=lag))
    >>> [(moment.listens_per_s, moment.worker_lag) for moment in ring.moments(60)[-3:]]
    [(7.0, 9.0), (7.0, 9.0), (7.0, 7.0)]
    """

    def __init__(self, step_s: int) -> None:
        self._step_s = step_s
        self.points: deque[tuple[int, int, Moment]] = deque(maxlen=POINTS)
        """Number of the step, number of its readings, and what they give."""

    def add(self, at_s: float, moment: Moment) -> None:
        """Add a reading; readings are in order."""
        step, count = int(at_s // self._step_s), 0
        if self.points and self.points[-1][0] >= step:
            step, count, before = self.points.pop()
            moment = _joined(before, count, moment)
        self.points.append((step, count + 1, moment))

    def moments(self, now_s: float) -> tuple[Moment, ...]:
        """Return all steps up to now, oldest first; one without a reading is a gap, unless one was just before."""
        newest, held = int(now_s // self._step_s), max(1, HOLD_S // self._step_s)
        known: dict[int, Moment] = {}
        for step, _, moment in self.points:
            known |= dict.fromkeys(range(step, step + held + 1), moment)
        return tuple(known.get(step, GAP) for step in range(newest - POINTS + 1, newest + 1))


def _joined(before: Moment, count: int, now: Moment) -> Moment:
    values = []
    for place, (old, new) in enumerate(zip(before, now, strict=True)):
        if math.isnan(old) or math.isnan(new):
            values.append(new if math.isnan(old) else old)
        else:
            values.append(old + (new - old) / (count + 1) if place < MEANS else max(old, new))
    return Moment(*values)


class History:
    """A ring for each range, and since when each trouble lasts; bounded, and kept in a file over restarts.

    The file has 60 KB, is written once a minute and at the end. Gateways of one data directory share it: the last to
    write wins, and all read the same servers.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._rings = {name: Ring(step_s) for name, step_s in RANGES.items()}
        self._responses: deque[tuple[float, Responses]] = deque()
        self._lasting: dict[tuple[str, str], tuple[float, float]] = {}
        self._begun_s = math.inf
        self._written_s = -math.inf
        self._cannot_write = False
        if file is not None and file.exists():
            self._restore(file)

    def add(self, at_s: float, moment: Moment) -> None:
        for ring in self._rings.values():
            ring.add(at_s, moment)
        if at_s - self._written_s >= WRITE_EVERY_S:
            self.write(at_s)

    def moments(self, now_s: float) -> Mapping[str, tuple[Moment, ...]]:
        """Return the points of each range, oldest first."""
        return {name: ring.moments(now_s) for name, ring in self._rings.items()}

    def lasting(self, now_s: float, troubles: Iterable[Trouble]) -> tuple[Trouble, ...]:
        """Return the troubles with the time since which they last, those that page first, then the oldest first."""
        found = []
        for trouble in troubles:
            since_s, _ = self._lasting.get(trouble.key, (now_s, now_s))
            self._lasting[trouble.key] = since_s, now_s
            found.append(trouble._replace(since_s=since_s))
        self._begun_s = min(self._begun_s, now_s)  # what lasted before a restart is read again within a few seconds
        for key, (_, seen_s) in list(self._lasting.items()):
            if now_s - max(seen_s, self._begun_s) > OVER_S:
                del self._lasting[key]
        return tuple(sorted(found, key=lambda trouble: (not trouble.pages, trouble.since_s)))

    def add_responses(self, at_s: float, counts: Mapping[tuple[str, int], int]) -> Responses:
        """Add the counts of responses by route and status so far; return those of the last minute."""
        errors = sum(count for (_, status), count in counts.items() if status >= httpx.codes.INTERNAL_SERVER_ERROR)
        now = Responses(sum(counts.values()), errors)
        self._responses.append((at_s, now))
        while at_s - self._responses[0][0] > RESPONSES_S:
            self._responses.popleft()
        first = self._responses[0][1]
        return Responses(now.all - first.all, now.errors - first.errors)

    def write(self, now_s: float) -> None:
        self._written_s = now_s
        if self._file is None:
            return
        rings = {
            name: [
                [step, n, *(None if math.isnan(value) else round(value, 4) for value in moment)]
                for step, n, moment in ring.points
            ]
            for name, ring in self._rings.items()
        }
        kept = {"rings": rings, "lasting": [[*key, *times] for key, times in self._lasting.items()]}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._file, lambda new: new.write_text(json.dumps(kept), encoding="utf-8"))
        except OSError as error:
            if not self._cannot_write:
                log.warning("the dashboard's history ends with this process: %s", error)
            self._cannot_write = True

    def _restore(self, file: Path) -> None:
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            points = {
                name: [
                    (int(step), int(n), Moment(*(math.nan if value is None else value for value in values)))
                    for step, n, *values in kept["rings"].get(name, ())
                ]
                for name in self._rings
            }
            self._lasting = {(alert, subject): (since, seen) for alert, subject, since, seen in kept["lasting"]}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("the dashboard's history begins again, because %s cannot be read: %r", file, error)
            return
        for name, ring in self._rings.items():
            ring.points.extend(points[name])


WIDTH, HEIGHT = 600, 150
_TOP, _BOTTOM = 8, 4
_STEPS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


def nice_ceiling(value: float) -> float:
    """Return the smallest round number that is not below the value."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _STEPS if value <= step * power * (1 + 1e-9))


class Line(NamedTuple):
    """A stretch without gaps: its points, and for the first series the polygon below it."""

    series: int
    points: str
    area: str


class LineChart(NamedTuple):
    """Lines over time; `top` is the value at the upper grid line, `grid` has the height of each grid line."""

    labels: tuple[str, ...]
    unit: str
    top: float
    grid: tuple[str, ...]
    lines: tuple[Line, ...]


def line_chart(series: Sequence[tuple[str, Sequence[float]]], unit: str, points: int) -> LineChart | None:
    """Return lines over time, of labels and values with the newest at the right; NaN is a gap, None means no values.

    The area below the first is filled; `points` is the number of values that the width has room for.
    """
    finite = [value for _, values in series for value in values if not math.isnan(value)]
    if not finite:
        return None
    top = nice_ceiling(max(finite))
    lines = []
    for index, (_, values) in enumerate(series):
        for run in _runs(values, top, points):
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
            area = f"{run[0][0]:.1f},{HEIGHT} {line} {run[-1][0]:.1f},{HEIGHT}" if index == 0 else ""
            lines.append(Line(index, line, area))
    grid = tuple(f"{_y(value, top):.1f}" for value in (top, top / 2))
    return LineChart(tuple(label for label, _ in series), unit, top, grid, tuple(lines))


class Interval(NamedTuple):
    """An interval around zero, which is at 50; positions and width are in % of the drawing's width."""

    side: str
    left: str
    width: str
    middle: str


def interval(effect: Mapping[str, float | None], side: str, reach: float) -> Interval | None:
    """Return the drawing of an effect with its bounds, None if one is unknown; `reach` is the value at both ends."""
    bounds = [value for name in ("effect", "lower", "upper") if (value := effect[name]) is not None]
    if len(bounds) < 3:
        return None
    middle, left, right = (50 + 50 * max(-1.0, min(1.0, value / reach)) for value in bounds)
    return Interval(side, f"{left:.1f}", f"{max(right - left, 0.6):.1f}", f"{middle:.1f}")


def _runs(values: Sequence[float], top: float, points: int) -> list[list[tuple[float, float]]]:
    """Return the stretches without a gap, as points of the drawing."""
    shown = values[-points:]
    first = points - len(shown)
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in enumerate(shown):
        if math.isnan(value):
            runs.append([])
        else:
            runs[-1].append(((first + at) * WIDTH / max(points - 1, 1), _y(value, top)))
    return [run for run in runs if run]


def _y(value: float, top: float) -> float:
    return _TOP + (1 - value / top) * (HEIGHT - _TOP - _BOTTOM)
