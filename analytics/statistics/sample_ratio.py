"""Did the users split as they should have? If not, the experiment is broken and its effects mean nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from scipy import stats

from analytics.errors import AnalyticsError

ALARM = 0.001
"""So improbable a split is called a mismatch: the check is made often, and a false alarm stops an experiment."""


class SampleRatio(NamedTuple):
    """How the users split, and how probable so uneven a split is by chance."""

    expected: Mapping[str, float]
    observed: Mapping[str, int]
    p_value: float

    @property
    def mismatch(self) -> bool:
        """Whether chance can be ruled out."""
        return self.p_value < ALARM


def sample_ratio(users: Mapping[str, int], split: Mapping[str, float] | None = None) -> SampleRatio:
    """Compare the users of each treatment with the declared split (chi-square; Fabijan et al., KDD 2019).

    Parameters
    ----------
    users : mapping of treatment to number of users
    split : mapping of treatment to weight, optional
        As declared, in any unit; equal by default.

    Raises
    ------
    AnalyticsError
        Fewer than two treatments, a weight that is not above zero, or treatments that the split does not name.

    Examples
    --------
    >>> sample_ratio({"C": 5_000, "T1": 5_050}).mismatch
    False
    >>> sample_ratio({"C": 5_000, "T1": 5_500}).mismatch
    True
    """
    weights = dict.fromkeys(users, 1.0) if split is None else dict(split)
    if len(weights) < 2 or min(weights.values()) <= 0 or not users.keys() <= weights.keys():
        raise AnalyticsError(
            f"split {weights} must give each of the treatments {', '.join(users) or '(none)'}, and at least two, "
            "a weight above 0"
        )
    observed = {treatment: users.get(treatment, 0) for treatment in weights}
    share = sum(observed.values()) / sum(weights.values())
    expected = {treatment: weight * share for treatment, weight in weights.items()}
    if share == 0:
        return SampleRatio(expected, observed, 1.0)
    p_value = float(stats.chisquare(list(observed.values()), list(expected.values())).pvalue)
    return SampleRatio(expected, observed, p_value)
