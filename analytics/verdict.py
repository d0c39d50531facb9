"""An experiment's finding in sentences, so that nobody has to read it off a table."""

from __future__ import annotations

from collections.abc import Mapping

from analytics.arms import METRIC_WORDS, arm_name, signed
from analytics.experiment import Effect, ExperimentResults

MAIN_METRIC = "mean_time_per_session"
"""What a verdict speaks of: how long listeners are kept once they are there."""


def verdict(results: ExperimentResults, recommenders: Mapping[str, str], metric: str = MAIN_METRIC) -> list[str]:
    """Return a sentence for each treatment, the best first.

    Parameters
    ----------
    results : ExperimentResults
    recommenders : mapping of treatment to recommender
        As `analytics.arms.recommender_of_arm`.
    metric : str
    """
    effects = [effect for effect in results.effects if effect.metric == metric]
    control = arm_name(results.control, recommenders)
    return [
        sentence(effect, arm_name(effect.treatment, recommenders), control)
        for effect in sorted(effects, key=lambda effect: -effect.effect)
    ]


def sentence(effect: Effect, arm: str, control: str) -> str:
    """Say what a treatment did to a metric, and how sure that is.

    Examples
    --------
    >>> effect = Effect("T1", "time", 9, 9, 2.0, 3.0, 50.0, 40.0, 60.0, 1e-9, 2e-9, True)
    >>> sentence(effect, "T1 sticky_artist", "C random")
    'T1 sticky_artist: time in all is 50.0 % higher than with C random (95 % interval +40.0 to +60.0).'
    """
    metric = METRIC_WORDS.get(effect.metric, effect.metric)
    interval = f"95 % interval {signed(effect.lower)} to {signed(effect.upper)}"
    if not effect.significant:
        return f"{arm}: {metric} cannot be told from that with {control} ({interval})."
    higher = "higher" if effect.effect > 0 else "lower"
    doubt = "" if effect.p_holm < 0.05 else "; not significant once corrected for the number of comparisons"
    return f"{arm}: {metric} is {abs(effect.effect):.1f} % {higher} than with {control} ({interval}{doubt})."
