"""What is popular, and what experiments say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from schemas.event_time import utc
from services.dashboard.effects import Effect, ExperimentReading
from services.dashboard.figures import EFFECT_POINTS, Bounds, RankedTrack, Snapshot
from services.dashboard.views.chart import band_chart, interval, nice_ceiling
from services.dashboard.views.html import Fragment, badge, card, empty, named_track, number, prose, signed, table, text
from services.dashboard.views.overview import sampled

STEEP = 1.05
"""From how many times its share a track counts as rising."""


def popular(snapshot: Snapshot) -> list[Fragment]:
    """Return the rankings."""
    rankings = snapshot.rankings
    if rankings is None or not rankings.now:
        nothing = empty("nothing was heard yet", "`botify sim run` lets listeners listen, or be one yourself")
        return [
            Fragment("nothing", card("Popular now", nothing)),
            *(Fragment(name, "", "third") for name in ("now", "rising", "month")),
        ]
    rising = [each for each in rankings.rising if each.value >= STEEP]
    return [
        Fragment("nothing", ""),
        Fragment(
            "now",
            card(
                "Popular now",
                _ranking(rankings.now),
                f"fractions heard, halved every hour; {utc(rankings.event_time_ms)} UTC of event time",
            ),
            "third",
        ),
        Fragment(
            "rising",
            card(
                "Rising",
                _rising(rising)
                if rising
                else empty("nothing rises", "all tracks are as popular as over the last day", "→"),
                "popularity of the last hour, as a multiple of what the last day would give",
            ),
            "third",
        ),
        Fragment(
            "month",
            card("Popular for long", _ranking(rankings.month), "fractions heard, halved every 30 days"),
            "third",
        ),
    ]


def _ranking(tracks: Sequence[RankedTrack]) -> str:
    rows = [
        [f'<span class="rank">{rank}</span>', named_track(each.title, each.artist), number(each.value, 1)]
        for rank, each in enumerate(tracks, start=1)
    ]
    return table(["", "track", ">popularity"], rows, "ranking")


def _rising(tracks: Sequence[RankedTrack]) -> str:
    rows = [
        [
            f'<span class="rank">{rank}</span>',
            named_track(each.title, each.artist),
            badge(f"× {number(each.value, 2)}", "good"),
        ]
        for rank, each in enumerate(tracks, start=1)
    ]
    return table(["", "track", ">rise"], rows, "ranking")


NOTE = (
    "Counted: finished sessions {sampled}, those among the newest listens when this gateway started and all since. "
    "Intervals: 95 %, Welch, one value a listener. Each holds for one look; who stops the moment it leaves zero errs "
    "more often than that, so decide by `botify experiment results`."
)


def experiments(snapshot: Snapshot) -> list[Fragment]:
    """Return a card an experiment, in one fragment: experiments come and go."""
    if not snapshot.experiments:
        nothing = empty(
            "no experiment has been met yet",
            "declare one in services/experiments.toml; it shows up with the first listens that carry its treatment",
            "⚖",
        )
        return [Fragment("experiments", card("Experiments", nothing)), Fragment("note", "")]
    cards = "".join(_experiment(each, snapshot) for each in snapshot.experiments)
    note = prose(NOTE.format(sampled=sampled(snapshot.sample)))
    return [Fragment("experiments", cards), Fragment("note", f'<p class="note">{note}</p>')]


def _experiment(reading: ExperimentReading, snapshot: Snapshot) -> str:
    listeners = " ".join(
        badge(f"{arm}: {count:,} listeners", "" if arm == reading.control else "accent")
        for arm, count in reading.listeners.items()
    )
    head = f'<p class="arms">{listeners}</p>'
    if not reading.effects:
        waiting = empty("only one treatment so far", "the comparison begins with the first session of another", "⚖")
        return card(reading.name, head + waiting)
    bounds = [abs(at) for effect in reading.effects for at in (effect.lower, effect.upper) if math.isfinite(at)]
    reach = nice_ceiling(max(bounds, default=1.0))
    effects = "".join(
        _effect(effect, reach, snapshot.effect_history.get((reading.name, effect.treatment, effect.metric), ()))
        for effect in reading.effects
    )
    return card(reading.name, f'{head}<div class="effects">{effects}</div>')


def _effect(effect: Effect, reach: float, history: Sequence[Bounds]) -> str:
    return (
        f'<div class="effect"><h3>{text(effect.treatment)} · {text(effect.metric)}</h3>'
        f'<p class="figure"><b>{signed(effect.effect)} %</b>{_verdict(effect)}</p>'
        f"<p>{number(effect.control_mean, 2)} → {number(effect.treated_mean, 2)}</p>"
        f"{interval(effect.effect, effect.lower, effect.upper, reach)}"
        f'<p class="ends"><span>−{reach:g} %</span><span>{signed(effect.lower)} … {signed(effect.upper)} %</span>'
        f"<span>+{reach:g} %</span></p>{band_chart(history, EFFECT_POINTS)}</div>"
    )


def _verdict(effect: Effect) -> str:
    if math.isnan(effect.lower):
        return badge("too few listeners")
    if not effect.significant:
        return badge("too early to say")
    return badge("better", "good") if effect.effect > 0 else badge("worse", "bad")
