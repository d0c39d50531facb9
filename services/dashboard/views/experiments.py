"""Running experiments: effect and interval as they grow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from services.dashboard.figures.effects import Effect, ExperimentReading
from services.dashboard.figures.history import EFFECT_POINTS, Bounds
from services.dashboard.figures.snapshot import Snapshot
from services.dashboard.views.chart import band_chart, interval, nice_ceiling
from services.dashboard.views.fragment import Fragment
from services.dashboard.views.html import badge, card, empty, number, prose, signed, text
from services.dashboard.views.overview import sampled

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
