"""What the pages show, as HTML: Python prepares the values, the Jinja2 templates escape and arrange them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from botify.core.times import utc
from botify.schemas.events import Track
from botify.services.dashboard import troubles
from botify.services.dashboard.figures import (
    RANGES,
    SCANNED,
    ListenerReading,
    Snapshot,
    TracksById,
    Verdict,
    by_session,
    track_of,
)
from botify.services.dashboard.history import POINTS, Interval, LineChart, interval, line_chart, nice_ceiling

MOUNT = "/ui"
SIDES = ("", "good", "bad")  # colours of an effect that is neither better nor worse, better, or worse (-1)
SHOWN_SESSIONS = 20
# of the resolutions of dead letters, the roles of namespaces, the states of processes, and of decisions
_COLOURS = {
    "good": ("redriven", "live", "ready", "running", "ship"),
    "accent": ("redriving", "excluded", "under way", "go on"),
    "warn": ("", "partial", "paused", "stop undecided"),
    "bad": ("ended", "given up", "roll back"),
}


def prose(value: str) -> Markup:
    """Return a sentence as HTML; text between backticks is a command or a name.

    Examples
    --------
    >>> prose("`botify up` makes <them>")
    Markup('<code>botify up</code> makes &lt;them&gt;')
    """
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(value))))  # noqa: S704 - escaped before


def number(value: float | None, decimals: int = 0, sign: str = "") -> str:
    """Return a number with thousands separators, a dash for NaN, which is None in JSON.

    Examples
    --------
    >>> number(12345.6), number(-0.3), number(None), number(2.0, 1, "+")
    ('12,346', '0', '–', '+2.0')
    """
    if value is None or math.isnan(value):
        return "–"
    rounded = round(value, decimals) + 0.0  # which makes −0 a 0
    return f"{rounded:{sign},.{decimals}f}".replace("-", "−")


def severity(share: float) -> str:
    """Return the colour of a share that should be zero.

    Examples
    --------
    >>> severity(0.0), severity(0.02), severity(0.5)
    ('', 'warn', 'bad')
    """
    return "bad" if share >= troubles.MOSTLY_REPLACED else "warn" if share >= troubles.REPLACED else ""


def span(seconds: float) -> str:
    """Return a length of time in its largest unit.

    Examples
    --------
    >>> span(9), span(120), span(5400), span(200_000)
    ('9 s', '2 min', '1.5 h', '2.3 days')
    """
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.0f} s"


def short(value: float) -> str:
    """Return a number in few characters.

    Examples
    --------
    >>> short(950), short(12_500), short(3_000_000)
    ('950', '12.5k', '3M')
    """
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def printable(value: bytes) -> str:
    r"""Return bytes as text: ASCII as it is, the rest as escapes.

    Examples
    --------
    >>> printable(bytes([0, 1]) + b"ok")
    '\\x00\\x01ok'
    """
    return repr(value)[2:-1]


def cover_style(track: Track) -> str:
    """Return the colours of a track's cover: two hues and an angle that follow from its names."""
    digest = hashlib.blake2b(f"{track.artist}\0{track.title}".encode(), digest_size=4).digest()
    first = digest[0] * 360 // 256
    second = (first + 40 + digest[1] // 3) % 360
    return f"--a:{first};--b:{second};--turn:{digest[2] * 360 // 256}deg"


def _environment() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    for each in (prose, number, severity, short, span, printable, cover_style, utc, drawn):
        templates.filters[each.__name__] = each
    templates.filters["side"] = SIDES.__getitem__
    templates.filters["percent"] = "{:.0%}".format
    templates.filters["significant"] = "{:.3g}".format
    kinds = {kind: colour for colour, kinds in _COLOURS.items() for kind in kinds}
    templates.globals |= {"mount": MOUNT, "kinds": kinds, "scanned": SCANNED, "ranges": RANGES, "points": POINTS}
    templates.globals |= {"limits": troubles, "track_of": track_of}
    templates.globals["ui"] = templates.get_template("macros.html").module
    return templates


def drawn(verdict: Verdict) -> Iterator[tuple[Mapping[str, Any], Interval | None, Mapping[str, Any]]]:
    """Yield each effect of an experiment with its interval, and with what is tested of its metric."""
    effects = verdict.results["effects"] if verdict.results else []
    bounds = [abs(at) for effect in effects for at in (effect["lower"], effect["upper"]) if at is not None]
    reach = nice_ceiling(max(bounds, default=1.0))
    for effect in effects:
        shown = interval(effect, SIDES[effect["better"]], reach)
        yield effect, shown, verdict.tested(effect["treatment"], effect["metric"])


_TEMPLATES = _environment()


def render(template: str, block: str, **values: object) -> Markup:
    """Return one block of a template."""
    return _render_blocks(template, (block,), values)[0]


def _render_blocks(template: str, blocks: Iterable[str], values: dict[str, Any]) -> list[Markup]:
    page = _TEMPLATES.get_template(f"{template}.html")
    context = page.new_context(values)
    return [Markup("".join(page.blocks[block](context)).strip()) for block in blocks]  # noqa: S704 - Jinja2 escapes


class Fragment(NamedTuple):
    """A piece of HTML with a name that is unique on its page; `css` is its width: `wide`, `half` or `third`."""

    name: str
    html: Markup
    css: str = "wide"


@dataclass(frozen=True, slots=True)
class View:
    """A page as a function of the snapshot: its problems, then the blocks of a template, each as a fragment.

    `places` maps blocks to their widths, in order; `prepare` returns what the template needs in addition to the
    snapshot.
    """

    template: str
    places: Mapping[str, str]
    prepare: Callable[[Snapshot], dict[str, Any]] = lambda _: {}

    def __call__(self, snapshot: Snapshot) -> list[Fragment]:
        """Return the fragments, always of the same names; only the problems where nothing was read yet."""
        if snapshot.problems and snapshot.traffic is None:
            rendered = [Markup() for _ in self.places]
        else:
            rendered = _render_blocks(self.template, self.places, {"snapshot": snapshot, **self.prepare(snapshot)})
        places = zip(self.places.items(), rendered, strict=True)
        return [
            Fragment("problems", render("page", "problems", snapshot=snapshot)),
            *(Fragment(block.replace("_", "-"), html, css) for (block, css), html in places),
        ]


def laid_out(fragments: Iterable[Fragment]) -> Markup:
    """Return a page's content: the places in their order, on a grid."""
    return render("page", "grid", fragments=fragments)


def _overview(snapshot: Snapshot, shown: str) -> dict[str, Any]:
    traffic, history = snapshot.traffic, snapshot.history.get(shown, ())

    def chart(unit: str, scale: float = 1.0, **fields: str) -> LineChart | None:
        series = [(label, [scale * getattr(moment, field) for moment in history]) for label, field in fields.items()]
        return line_chart(series, unit, POINTS)

    return {
        "waiting": sum(traffic.worker_lag) + sum(traffic.recommender_lag) if traffic else 0,
        "shown": shown,
        "charts": {
            "Through the loop": chart("/s", listens="listens_per_s", recommendations="recommendations_per_s"),
            "Request → recommendation": chart("ms", p50="p50_ms", p99="p99_ms"),
            "Waiting": chart("", worker="worker_lag", recommender="recommender_lag", learner="learner_lag"),
            "Not as asked": chart("%", 100.0, fallbacks="replaced", errors="errors"),
        },
    }


_HALVES = ("worker_lag", "recommender_lag", "policies", "models", "processes")
overviews = {
    shown: View(
        "overview",
        {"tiles": "wide", "charts": "wide", **dict.fromkeys(_HALVES, "half")},
        partial(_overview, shown=shown),
    )
    for shown in RANGES
}
overview = overviews["2 min"]
popular = View("popular", {"nothing": "wide", "now": "third", "rising": "third", "month": "third"})
experiments = View("popular", {"experiments": "wide"})
letters = View("operations", {"tiles": "wide", "letters": "wide"})
replays = View("operations", {"replays": "wide"})


def listener(name: str, reading: ListenerReading, catalogue: TracksById, page: int = 1) -> Markup:
    """Return a listener's page `page`, from 1 on, of `SHOWN_SESSIONS` sessions; the last for what lies beyond."""
    state = reading.state
    if state is None:
        return render("listener", "unknown", user=name)
    tiles = render("listener", "tiles", user=name, state=state, partition=reading.partition)
    every = by_session(reading.listens)
    pages = max(1, math.ceil(len(every) / SHOWN_SESSIONS))
    page = min(max(page, 1), pages)
    sessions = render(
        "listener",
        "sessions",
        sessions=every[(page - 1) * SHOWN_SESSIONS : page * SHOWN_SESSIONS],
        newest=every[0].session_id if every else None,
        page=page,
        pages=pages,
        kept=[listen[1:] for listen in state.last_listens()[::-1].tolist()],
        catalogue=catalogue,
    )
    return laid_out([Fragment("tiles", tiles), Fragment("sessions", sessions)])
