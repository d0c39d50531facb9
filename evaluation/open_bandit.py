"""Off-policy estimates on real logged propensities: the Open Bandit sample (Saito et al., NeurIPS 2021).

A shop showed three items at a time, chosen by one of two policies in the same week: uniformly at random, or by
Bernoulli Thompson sampling (`bts`). Both were logged with the probability of each item, so what one policy's log says
about the other can be held against the other's own clicks: three campaigns, two directions, six estimates.

`bts` learned during the week. Its mean over the week stands for it: how often its log shows each item at each position.
The reward model is the click rate of an item, fitted on the half of the log that the decision is not in.

The sample is inside the wheel `obp`, which is read as the archive it is: `pip download --no-deps obp==0.4.1`, then
`python -m botify.evaluation.open_bandit obp-0.4.1-py3-none-any.whl`.
"""

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from botify.analytics.offline.off_policy import Decisions, Interval, PolicyValue, doubly_robust, ips, snips
from botify.evaluation import EvaluationError

Floats = NDArray[np.float64]

CAMPAIGNS = ("all", "men", "women")
POLICIES = ("random", "bts")
PRIOR_DECISIONS = 200  # decisions of average clicks that are added to each item's own in the reward model
CLIP = 10.0  # largest weight: a single decision in the log of `bts` had a probability of one in a million
FEW_DECISIONS = 1_000  # estimates that rest on fewer effective decisions are marked
RESAMPLES = 1_000


class Question(NamedTuple):
    """One policy's log, and the other policy, with `own_clicks` of its own log.

    `predicted` and `under_target`, shape (n,), are the reward model's click rate of the item shown, and of what the
    target policy would show.
    """

    campaign: str
    logged: str
    target: str
    decisions: Decisions
    predicted: Floats
    under_target: Floats
    own_clicks: Floats

    def estimates(self, rows: NDArray[np.int64] | slice = slice(None)) -> dict[str, PolicyValue]:
        """Return IPS, SNIPS and DR, of all decisions or of some."""
        log = Decisions(self.decisions.rewards[rows], self.decisions.propensities[rows], self.decisions.targets[rows])
        return {
            "IPS": ips(log, CLIP, Interval.SKEWED),
            "SNIPS": snips(log, CLIP, Interval.SKEWED),
            "DR": doubly_robust(log, self.predicted[rows], self.under_target[rows], CLIP, Interval.SKEWED),
        }

    def own(self) -> PolicyValue:
        """Return the target policy's click rate in its own log."""
        sure = np.ones(len(self.own_clicks))
        return ips(Decisions(self.own_clicks, sure, sure), interval=Interval.SKEWED)


def questions(wheel: Path) -> Iterator[Question]:
    """Read the sample, and yield the six questions; raises `EvaluationError` for a file that is not that wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            logs = {
                (campaign, policy): _log(archive, campaign, policy) for campaign in CAMPAIGNS for policy in POLICIES
            }
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise EvaluationError(f"{wheel} is not the wheel of obp with the sample: {error}") from error
    for campaign in CAMPAIGNS:
        for logged, target in (POLICIES, POLICIES[::-1]):
            yield _question(campaign, logged, target, logs[campaign, logged], logs[campaign, target])


def _log(archive: zipfile.ZipFile, campaign: str, policy: str) -> pd.DataFrame:
    with archive.open(f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv") as file:
        return pd.read_csv(file, usecols=["item_id", "position", "click", "propensity_score"])


def _question(campaign: str, logged: str, target: str, log: pd.DataFrame, own: pd.DataFrame) -> Question:
    items, positions, clicks = (log[name].to_numpy(np.int64) for name in ("item_id", "position", "click"))
    count = int(max(log["item_id"].max(), own["item_id"].max())) + 1
    policy = np.full((int(positions.max()) + 1, count), 1.0 / count)
    if target == "bts":
        policy = pd.crosstab(own["position"], own["item_id"], normalize="index").reindex(
            index=range(len(policy)), columns=range(count), fill_value=0.0
        ).to_numpy()  # fmt: skip
    predicted, under_target = np.empty(len(log)), np.empty(len(log))
    half = np.random.default_rng(0).permutation(len(log)) % 2
    for part in (0, 1):
        here, rest = half == part, half != part
        shown = np.bincount(items[rest], minlength=count)
        rate = np.bincount(items[rest], clicks[rest], count) + PRIOR_DECISIONS * clicks[rest].mean()
        rate /= shown + PRIOR_DECISIONS
        predicted[here], under_target[here] = rate[items[here]], (policy[positions[here]] * rate).sum(axis=1)
    decisions = Decisions(clicks.astype(np.float64), log["propensity_score"].to_numpy(), policy[positions, items])
    return Question(campaign, logged, target, decisions, predicted, under_target, own["click"].to_numpy(np.float64))


def coverage(question: Question, resamples: int = RESAMPLES) -> dict[str, float]:
    """Return how often the interval of a resampled log covers the value of the whole log, by estimator."""
    generator, size = np.random.default_rng(0), len(question.predicted)
    truth = {name: one.value for name, one in question.estimates().items()}
    covered = dict.fromkeys(truth, 0)
    for _ in range(resamples):
        for name, one in question.estimates(generator.integers(size, size=size)).items():
            covered[name] += one.lower <= truth[name] <= one.upper
    return {name: count / resamples for name, count in covered.items()}


def render(wheel: Path, resamples: int = RESAMPLES) -> Table:
    """Draw a row an estimate; clicks in 1,000 decisions."""
    table = Table(title="Open Bandit sample: clicks in 1,000 decisions", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("campaign", "log", "of", "own clicks", "", "estimate", "coverage"):
        table.add_column(heading, no_wrap=True)
    few = False
    for question in questions(wheel):
        covered = coverage(question, resamples)
        for name, one in question.estimates().items():
            is_few = one.effective_decisions < FEW_DECISIONS
            few |= is_few
            table.add_row(
                question.campaign, question.logged, question.target, _text(question.own()), name,
                _text(one) + "*" * is_few, f"{covered[name]:.1%}",
            )  # fmt: skip
    table.caption = f"95 % intervals, coverage in {resamples:,} resamples; weights of {CLIP:g} at most"
    if few:
        table.caption += f"\n* fewer than {FEW_DECISIONS:,} effective decisions: the policies hardly overlap"
    return table


def _text(value: PolicyValue) -> str:
    rate, lower, upper = (1000 * one for one in value[:3])
    return f"{rate:.2f} ({lower:.2f} to {upper:.2f})"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m botify.evaluation.open_bandit WHEEL")
    Console().print(render(Path(sys.argv[1])))
