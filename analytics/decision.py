"""Decides whether a treatment ships: a published rule on tests that stay valid under repeated looks.

The rule is Spotify's (Schultzberg, Ankargren and Frånberg, "Risk-aware product decisions in A/B tests with multiple
metrics", arXiv 2402.11609, 2024). A treatment ships if

1. at least one success metric is significantly better,
2. every guardrail is significantly non-inferior: the loss is below its margin,
3. no metric is significantly worse, and
4. the listeners split as declared.

Only success metrics share alpha: one of them is enough, so each is another chance to be wrong, whereas all guardrails
must hold, so each is another chance to miss. Guardrails therefore divide beta: with G of them, each test is planned
with the power 1 − β / (G + 1) (`analytics.planning.decision_users`). Questions have one side, and so do the tests
below: better and non-inferior up to a planned number of listeners, worse without an end.

Beyond the rule, a success metric that is worse, or a guardrail whose loss exceeds its margin, both significantly, ends
the experiment at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from botify.analytics import AnalyticsError
from botify.analytics.arms import METRIC_WORDS, arm_name
from botify.analytics.statistics import ALARM, RunningSample
from botify.core.drift import mixture_bound
from botify.core.goals import BETTER, Goals
from botify.core.welch import Sample

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Samples = tuple[Sample | RunningSample, Sample | RunningSample]  # of the control and of the treatment

SHIP, ROLL_BACK, GO_ON, STOP = "ship", "roll back", "go on", "stop undecided"


# Tests that stay valid under repeated looks, one-sided: how many standard errors an estimate must be from zero. All are
# asymptotic and need the same: each user counts once, with a final value.
BURN_IN = 50  # users that each sample needs before it is looked at: the theory is asymptotic


def horizon_bound(users: ArrayLike, alpha: float, horizon: int) -> Floats:
    """Return the bound of a one-sided sequence that ends with a planned number of users, in standard errors.

    Up to `horizon` users the sum of standardised values is a Brownian motion W on [0, 1], and by the reflection
    principle P(max W ≥ c) = 2 (1 − Φ(c)). So c = Φ⁻¹(1 − α / 2), divided by sqrt(n / horizon), may be looked at after
    each user: the continuous form of O'Brien and Fleming's bound (Biometrics 35, 1979; Lan and DeMets, Biometrika 70,
    1983). It is 1.96 at the end for α = 0.05, where the mixture without an end has 2.8, and high at the beginning. It
    says nothing after the horizon: only the first `horizon` users may be compared.
    """
    c = float(stats.norm.isf(alpha / 2))
    with np.errstate(divide="ignore"):
        bound: Floats = c * np.sqrt(horizon / np.asarray(users, dtype=np.float64))
    return bound


def horizon_power(shift: float, alpha: float) -> float:
    """Return the probability that the bound of `horizon_bound` is crossed at any look.

    P(max of W(t) + θ t ≥ c) = Φ(θ − c) + exp(2 θ c) Φ(−c − θ) (Siegmund, "Sequential Analysis", 1985), where `shift` is
    θ: the true difference in standard errors at the horizon.
    """
    c = float(stats.norm.isf(alpha / 2))
    log_reflected = 2 * shift * c + float(stats.norm.logcdf(-c - shift))
    return float(stats.norm.cdf(shift - c)) + float(np.exp(log_reflected))


def split_p_value(observed: ArrayLike, expected_shares: ArrayLike, strength: float = 100.0) -> float:
    """Return an always-valid p-value of a split: the sample-ratio check for an experiment that is looked at often.

    The inverse Bayes factor of a Dirichlet prior around the declared shares (Lindon and Malek, "Anytime-valid inference
    for multinomial count data", NeurIPS 2022); the higher its `strength`, the smaller the deviations that it is tuned
    for.
    """
    n = np.asarray(observed, dtype=np.float64)
    shares = np.asarray(expected_shares, dtype=np.float64)
    prior = strength * shares / shares.sum()
    log_factor = (
        special.gammaln(strength)
        - special.gammaln(strength + n.sum())
        + float(np.sum(special.gammaln(prior + n) - special.gammaln(prior) - n * np.log(shares / shares.sum())))
    )
    return float(np.exp(min(-log_factor, 0.0)))


def distance(samples: Samples, metric: str, margin: float = 0.0) -> Floats:
    """Return by how many standard errors the treatment is better than the control less a margin."""
    control, treatment = samples
    better = BETTER.get(metric, 1)
    scale = 1 - better * margin
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(
            np.asarray(treatment.variance) / treatment.n + np.asarray(control.variance) * scale**2 / control.n
        )
        found = better * (np.asarray(treatment.mean) - scale * np.asarray(control.mean)) / error
    return np.nan_to_num(found, nan=0.0, posinf=np.inf, neginf=-np.inf)


class Tested(NamedTuple):
    """What the tests of a metric say, at each look."""

    better: Bools  # significantly better; of success metrics only
    safe: Bools  # significantly non-inferior; true for metrics that are no guardrails
    worse: Bools  # significantly worse, by any amount
    harmed: Bools  # a success metric is significantly worse, or a guardrail's loss significantly exceeds its margin


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule with its error rates."""

    goals: Goals
    horizon: int  # planned users of both arms; it should not depend on the effect that was seen
    # probability of shipping without an improvement; success metrics, and treatments, divide it. Also that of a
    # guardrail to pass at its margin.
    alpha: float = 0.05
    # probability of finding any metric worse without a loss; all metrics, and treatments, divide it
    alpha_worse: float = 0.01
    treatments: int = 1  # treatments that are compared with the control
    tuned_for: int = 1_000  # users at which a loss is found best; few, because a bad treatment should not wait
    strict: bool = False  # whether a guardrail ends the experiment when it is worse at all, within its margin or not

    def test(self, metric: str, samples: Samples) -> Tested:
        """Test a metric at one look, or at all of them at once."""
        n0, n1 = (np.asarray(sample.n, dtype=np.float64) for sample in samples)
        n = n0 + n1
        enough = np.asarray(np.minimum(n0, n1) >= BURN_IN)
        up, margin = distance(samples, metric), self.goals.guardrails.get(metric)
        loss = mixture_bound(n, self.alpha_worse / self.treatments / len(BETTER), self.tuned_for)
        worse = np.asarray(enough & (-up >= loss))
        success = metric in self.goals.success
        gain = horizon_bound(n, self.alpha / self.treatments / max(len(self.goals.success), 1), self.horizon)
        better = np.asarray(enough & (n <= self.horizon) & (up >= gain) & success)
        if margin is None:
            return Tested(better, np.ones_like(worse), worse, np.asarray(worse & success))
        above = distance(samples, metric, margin)
        bound = horizon_bound(n, self.alpha / self.treatments, self.horizon)
        safe = np.asarray(enough & (n <= self.horizon) & (above >= bound))
        return Tested(better, safe, worse, worse if self.strict else np.asarray(enough & (-above >= loss)))


def ships(tested: Mapping[str, Tested]) -> Bools:
    """Apply the rule, but for the sample ratio, to the tests of all metrics."""
    better, safe, worse = (
        np.array([getattr(one, name) for one in tested.values()]) for name in ("better", "safe", "worse")
    )
    return np.asarray(better.any(axis=0) & safe.all(axis=0) & ~worse.any(axis=0))


def harmed(tested: Mapping[str, Tested]) -> Bools:
    """Return whether a metric with a goal got so much worse that the experiment ends."""
    return np.asarray(np.array([one.harmed for one in tested.values()]).any(axis=0))


class MetricRow(NamedTuple):
    """A metric in a decision: means, the effect in % of the control's mean, and what the tests say."""

    metric: str
    goal: str
    control: float
    treated: float
    effect: float
    says: str


class Decision(NamedTuple):
    """The decision about a treatment."""

    treatment: str
    outcome: str  # `ship`, `roll back`, `go on` or `stop undecided`
    sentence: str  # the verdict; it also names what got worse
    users: int  # users who were compared, of those that are planned
    horizon: int
    split_p: float  # always-valid p-value of the split
    metrics: list[MetricRow]


def decide(
    users: pd.DataFrame,
    treatment: str,
    rule: Rule,
    control: str = "C",
    split: Mapping[str, float] | None = None,
    recommenders: Mapping[str, str] | None = None,
) -> Decision:
    """Decide about a treatment; users after the horizon are left out.

    `users`, in the order in which they entered, each once with final values
    (`botify.analytics.experiment.settled_users`), have `treatment` and the metrics, adjusted by CUPED if wanted. The
    split is equal by default. Raises `AnalyticsError` if a metric of the rule is missing.
    """
    if missing := [name for name in (*rule.goals.success, *rule.goals.guardrails) if name not in users]:
        raise AnalyticsError(f"the users have no {missing[0]!r}; choose from {', '.join(users.columns)}")
    both = users[users["treatment"].isin([control, treatment])][: rule.horizon]
    arms = tuple(both[both["treatment"] == arm] for arm in (control, treatment))
    samples = {
        metric: (Sample.of(arms[0][metric]), Sample.of(arms[1][metric]))
        for metric in [*rule.goals.success, *rule.goals.guardrails, *rule.goals.watched]
        if metric in both
    }
    tested = {metric: rule.test(metric, of) for metric, of in samples.items()}
    weights = [1.0 if split is None else split[arm] for arm in (control, treatment)]
    split_p = split_p_value([len(arm) for arm in arms], weights)
    names = recommenders or {}
    rows = [_row(metric, samples[metric], tested[metric], rule) for metric in samples]
    outcome = _outcome(tested, split_p, len(both), rule.horizon)
    sentence = _sentence(
        outcome, rows, tested, rule, len(both), arm_name(treatment, names), arm_name(control, names), split_p
    )
    return Decision(treatment, outcome, sentence, len(both), rule.horizon, split_p, rows)


def _outcome(tested: Mapping[str, Tested], split_p: float, users: int, horizon: int) -> str:
    if split_p < ALARM:
        return STOP
    if harmed(tested):
        return ROLL_BACK
    if ships(tested):
        return SHIP
    return STOP if users >= horizon else GO_ON


def _row(metric: str, samples: Samples, tested: Tested, rule: Rule) -> MetricRow:
    control, treated = (float(sample.mean) for sample in samples)
    effect = 100 * (treated - control) / control if control else float("nan")
    margin = rule.goals.guardrails.get(metric)
    goal = "success" if metric in rule.goals.success else "" if margin is None else f"guardrail {margin:.1%}"
    says = [
        word
        for word, found in (
            ("worse" if margin is None or rule.strict else "beyond its margin", tested.harmed),
            ("worse", tested.worse & ~tested.harmed),
            ("better", tested.better),
            ("not worse than allowed", tested.safe if margin is not None else False),
        )
        if found
    ]
    return MetricRow(metric, goal, control, treated, effect, ", ".join(says))


def _sentence(
    outcome: str,
    rows: Sequence[MetricRow],
    tested: Mapping[str, Tested],
    rule: Rule,
    users: int,
    arm: str,
    control: str,
    split_p: float,
) -> str:
    """State the outcome, the reason, and what got worse, in one sentence."""
    if split_p < ALARM:
        return (
            f"Stop {arm}: the listeners did not split as declared (p = {split_p:.1g}), so nothing can be concluded; "
            "find out why listeners are missing."
        )
    worse = " and ".join(_told(row) for row in rows if tested[row.metric].worse or tested[row.metric].harmed)
    better = " and ".join(_told(row) for row in rows if tested[row.metric].better)
    unsafe = [METRIC_WORDS.get(row.metric, row.metric) for row in rows if not tested[row.metric].safe]
    than = f"than with {control}"
    if outcome == SHIP:
        return f"Ship {arm}: {better} {than}."
    if outcome == ROLL_BACK:
        also = f", although {better}" if better else ""
        return f"Roll back {arm}: {worse} {than}{also}."
    reasons = [f"{better} {than}" if better else f"no success metric is yet better {than}"]
    if worse:
        reasons.append(worse)
    if unsafe:
        reasons.append(f"a loss beyond the margin is not ruled out for {' and '.join(unsafe)}")
    after = f"after {users:,} of {rule.horizon:,} listeners"
    head = f"Go on with {arm}" if outcome == GO_ON else f"Stop {arm} undecided"
    return f"{head} {after}: {', but '.join(reasons)}."


def _told(row: MetricRow) -> str:
    words = METRIC_WORDS.get(row.metric, row.metric)
    verb = "are" if words == "sessions" else "is"
    return f"{words} {verb} {abs(row.effect):.1f} % {'higher' if row.effect > 0 else 'lower'}"
