"""Solutions of the exercises in notebooks 09 and 10."""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from botify.analytics.offline.off_policy import ips
from botify.analytics.offline.slates import Slates, cascade_ips, drawn_slates, whole_slates

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def cosine_scores(counts: sparse.csr_array) -> Floats:
    """Compare tracks by the rows of the matrix of counts, shape (tracks, tracks) (notebook 09, exercise 1).

    With few listens most rows have nothing in common and the score is zero: the decomposition also sees tracks that are
    together with the same third one. With many listens the difference shrinks.

    Examples
    --------
    >>> counts = sparse.csr_array(np.array([[0.0, 2.0, 1.0], [2.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))
    >>> cosine_scores(counts).round(2).tolist()
    [[1.0, 0.2, 0.63], [0.2, 1.0, 0.63], [0.63, 0.63, 1.0]]
    """
    lengths = np.maximum(np.sqrt(counts.multiply(counts).sum(axis=1)), 1e-12)
    rows = sparse.diags_array(1.0 / lengths) @ counts
    return np.asarray((rows @ rows.T).toarray())


def weighted_together(sessions: Ints, tracks: Ints, fractions: Floats, size: int) -> sparse.csr_array:
    """Count a pair of tracks by the product of the fractions heard, shape (size, size) (notebook 09, exercise 2).

    Examples
    --------
    >>> weighted_together(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([1.0, 0.5, 1.0]), 2).toarray().tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    heard = sparse.coo_array((fractions, (sessions, tracks)), shape=(int(sessions.max()) + 1, size)).tocsr()
    pairs = sparse.csr_array(heard.T @ heard)
    pairs.setdiag(0.0)
    pairs.eliminate_zeros()
    return pairs


def capped(ranked: Sequence[int], artist_of: Mapping[int, str], most: int = 2) -> list[int]:
    """Keep the first tracks of each artist (notebook 09, exercise 3).

    The hit rate falls a little: the next liked track often is of the same artist. Whether listeners stay longer is a
    question for an experiment, because the hit rate knows nothing of boredom.

    Examples
    --------
    >>> capped([3, 1, 2, 4], {1: "a", 2: "a", 3: "a", 4: "b"})
    [3, 1, 4]
    """
    taken: dict[str, int] = {}
    kept = []
    for track in ranked:
        artist = artist_of[track]
        taken[artist] = taken.get(artist, 0) + 1
        if taken[artist] <= most:
            kept.append(track)
    return kept


def bootstrap_interval(control: Floats, treated: Floats, resamples: int = 2_000, seed: int = 0) -> tuple[float, float]:
    """Return the interval of the difference of means by resampling listeners (notebook 10, exercise 1).

    With hundreds of listeners an arm it is as wide as Welch's, to a few percent: a mean of that many values is nearly
    normal even though a session's time is not.

    Examples
    --------
    >>> generator = np.random.default_rng(1)
    >>> control, treated = generator.exponential(2.0, 400), generator.exponential(2.5, 400)
    >>> lower, upper = bootstrap_interval(control, treated)
    >>> welch = stats.ttest_ind(treated, control, equal_var=False).confidence_interval()
    >>> bool(abs((upper - lower) / (welch.high - welch.low) - 1) < 0.1)
    True
    """
    generator = np.random.default_rng(seed)
    differences = [
        generator.choice(treated, len(treated)).mean() - generator.choice(control, len(control)).mean()
        for _ in range(resamples)
    ]
    lower, upper = np.percentile(differences, [2.5, 97.5]).tolist()
    return lower, upper


def epsilon_greedy(times: Floats, ends: Floats, epsilon: float = 0.1) -> Floats:
    """Return the share of each arm (notebook 10, exercise 2); untried arms first.

    An ε of some percent comes close after a few thousand sessions, but loses for ever: its regret ends as a straight
    line, Thompson sampling's a logarithm.

    Examples
    --------
    >>> epsilon_greedy(np.array([30.0, 50.0]), np.array([10.0, 10.0])).round(2).tolist()
    [0.05, 0.95]
    """
    means = np.where(ends > 0, times / np.maximum(ends, 1.0), np.inf)
    share = np.full(len(times), epsilon / len(times))
    share[int(np.argmax(means))] += 1.0 - epsilon
    return share


def listeners_needed(values: Floats, effect: float = 0.02, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return the listeners an arm that an effect needs (notebook 10, exercise 3).

    Examples
    --------
    >>> listeners_needed(np.random.default_rng(1).exponential(2.0, 10_000)) > 30_000
    True
    """
    reach = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    return int(np.ceil(2 * (reach * values.std(ddof=1) / (effect * values.mean())) ** 2))


def slate_errors(appeals: Floats, is_cascade: bool) -> tuple[float, float]:
    """Return by how much `ips` and `cascade_ips` are wrong about the slate of the last two (notebook 10, exercise 4).

    Random pairs show each slate equally often, so an estimator's mean is its value on all of them: no simulation is
    needed. IPS is never wrong. The cascade's weights do not see what comes after a place, so they are right about
    listeners who play the first that pleases, and wrong about those who compare both, the second with half the weight.
    `appeals` are the probabilities that a track alone is chosen; a chosen one is heard to its end.

    Examples
    --------
    >>> appeals = np.array([0.1, 0.3, 0.6, 0.9])
    >>> [round(abs(error), 3) for error in slate_errors(appeals, is_cascade=True)]
    [0.0, 0.0]
    >>> [round(abs(error), 3) for error in slate_errors(appeals, is_cascade=False)]
    [0.0, 0.034]
    """
    slates = np.array(list(permutations(range(len(appeals)), 2)), dtype=np.int64)
    shown, rows = appeals[slates], np.arange(len(slates))
    if is_cascade:
        heard = shown * np.stack([np.ones(len(shown)), 1 - shown[:, 0]], axis=1)
    else:
        odds = shown / (1 - shown) / np.array([1, 2])
        heard = odds / (1 + odds.sum(axis=1, keepdims=True))
    lists = np.tile(np.arange(len(appeals))[::-1], (len(slates), 1))
    log, targets = Slates(rows, rows, slates, drawn_slates(lists, slates), heard), drawn_slates(lists, slates, 0.0)
    truth = float(heard[targets.prod(axis=1) == 1].sum())
    return ips(whole_slates(log, targets)).value - truth, cascade_ips(log, targets).value - truth
