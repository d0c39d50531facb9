"""What a session so far says about many tracks, as recommenders compute it; `factors_kernels` learns by the same.

The session's taste after n listens with track vectors x is the sum of what was liked, less what was not, as in FISM
(Kabbur, Ning and Karypis, "FISM: factored item similarity models for top-N recommender systems", KDD 2013) with
n**-0.5 as its normalisation ::

    z = n**-0.5 · Σ w_i x_i        w_0 = 1, w_i = liking_i − 0.4        liking = min(1, fraction / ρ_k)

where ρ_k is the share of a fraction that k earlier listens of the track's artist leave (see `factors`). The first track
is the listener's own choice, so its fraction says nothing and its weight is 1.

A label (see `schemas.track_columns`) matches a track as far as the session liked what has it. With the same weights,
after n listens, label l of track j ::

    m_l = n**-0.5 · Σ w_i · [track i has the same value of l]

That is the inner product of the taste with the track, if each value of the label were a dimension of its own. How much
a match is worth is learned, one weight for each label: a few sessions tell it, where vectors need many listens.

A session is offered thousands of tracks, so `TrackScorer` is most of what serving the factors costs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from botify.core.numba_cache import plain_array
from botify.streams.learner.models.factors import (
    BIAS,
    INDIFFERENT,
    MOST_EARLIER,
    MOST_USER_BIAS,
    USER_BIAS_PRIOR,
    loops,
)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Integers = NDArray[np.integer[Any]]


def earlier_of_artist(artists: NDArray[np.integer[Any]], valid: NDArray[np.bool_]) -> Ints:
    """Count, for each listen, the session's earlier ones of the same artist, up to `MOST_EARLIER`; all of shape (b, n).

    `valid` says where a session has a listen; sessions begin at column 0.
    """
    b, n = artists.shape
    keyed = np.where(valid, artists, -1)
    order = np.argsort(keyed, axis=1, kind="stable")
    sorted_ = np.take_along_axis(keyed, order, axis=1)
    first = np.ones((b, n), dtype=bool)
    first[:, 1:] = sorted_[:, 1:] != sorted_[:, :-1]
    place = np.arange(n)
    started = np.maximum.accumulate(np.where(first, place, 0), axis=1)
    counts = np.empty((b, n), dtype=np.int64)
    np.put_along_axis(counts, order, np.minimum(place - started, MOST_EARLIER), axis=1)
    return counts


def liking_of(fractions: Floats, kept: Floats) -> Floats:
    """Return what would have been heard without the earlier listens of the artist; all of shape (b, n).

    `kept` is the share that the earlier listens leave; it and `fractions` are 0 where there is no listen.
    """
    liking: Floats = np.minimum(fractions / np.where(kept > 0, kept, np.float32(1)), np.float32(1))
    return liking


def weights(liking: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Return how much each listen adds to the taste; shape (b, n) like `liking`."""
    weighted = np.where(valid, liking - np.float32(INDIFFERENT), np.float32(0))
    weighted[:, 0] = valid[:, 0]
    return weighted


def user_biases(logits: Floats, liking: Floats, evidence: Floats) -> Floats:
    """Return the user bias after each listen, shape (b, n): how much more was liked than predicted.

    One Newton step for an intercept, from the listens so far, with a prior that holds it at 0::

        Σ e · (liking − σ(logit))  /  (Σ e · σ'(logit) + 0.5)

    The weight e of a listen is the share that the artist's earlier ones leave; 0 for the first, which nobody
    recommended, and where a session has no listen.
    """
    predicted = expit(logits)
    surprise = np.cumsum(evidence * (liking - predicted), axis=1)
    slope = np.cumsum(evidence * predicted * (1 - predicted), axis=1)
    return np.clip(surprise / (slope + np.float32(USER_BIAS_PRIOR)), -MOST_USER_BIAS, MOST_USER_BIAS)


class TrackScorer:
    """Logits of n tracks, which are named by their places in a table.

    The last dimension of `vectors`, shape (n, d), is the track's bias: that of a taste is 1. `numbers`, shape (labels,
    n), are each track's values of the labels, below 65,536.

    Examples
    --------
    >>> tracks = TrackScorer(np.eye(2, BIAS + 1), np.array([[0, 1]]))
    >>> tastes = tracks.tastes(np.array([[0, 1, 0, 0]]), np.array([[1, 0.5, 0, 0]]), np.array([4]))
    >>> tracks.of_tracks(tastes, np.array([[0, 0.25]]), np.array([0, 0]), np.array([0, 1])).tolist()
    [0.5, 0.5]
    """

    def __init__(self, vectors: Floats, numbers: Integers) -> None:
        self.vectors = plain_array(vectors, np.float32)
        self._numbers = plain_array(numbers.T, np.uint16)
        self._run = loops()

    def tastes(self, places: Integers, weights: Floats, lengths: Integers) -> Floats:
        """Return the taste of each of b sessions, z = n**-0.5 · Σ w x, then a 1; shape (b, d).

        Of `places` and `weights`, shape (b, w), as many columns of a row are read as `lengths` says, at least one.
        """
        tastes = np.zeros((len(places), self.vectors.shape[1]), dtype=np.float32)
        of_sessions = plain_array(places, np.int32), plain_array(weights, np.float32), plain_array(lengths, np.int64)
        self._run.sum_tastes(self.vectors, *of_sessions, tastes)
        tastes[:, -1] = 1
        return tastes

    def of_cells(self, tastes: Floats, by_value: Floats, starts: Ints, stops: Ints) -> Floats:
        """Return the logits of the tracks from each start to its stop, shape (b, cells), the first session first.

        `tastes` has shape (b, d); `by_value`, shape (b, values), is what each value of a label is worth to each
        session.
        """
        logits = np.empty(int((stops - starts).sum()), dtype=np.float32)
        of_sessions = plain_array(tastes, np.float32), plain_array(by_value, np.float32)
        cells = plain_array(starts, np.int64), plain_array(stops, np.int64)
        self._run.score_cells(self.vectors, self._numbers, *of_sessions, *cells, logits)
        return logits

    def of_tracks(self, tastes: Floats, by_value: Floats, sessions: Ints, places: Integers) -> Floats:
        """Return the logits of tracks, each for its session, shape (m,) like `sessions` and `places`."""
        logits = np.empty(len(sessions), dtype=np.float32)
        of_sessions = plain_array(tastes, np.float32), plain_array(by_value, np.float32)
        tracks = plain_array(sessions, np.int64), plain_array(places, np.int32)
        self._run.score_tracks(self.vectors, self._numbers, *of_sessions, *tracks, logits)
        return logits

    def best(self, logits: Floats, bounds: Ints) -> tuple[Ints, Ints]:
        """Return where the highest logit of each session is, and how many are above minus infinity, shape (b,).

        `bounds`, shape (b + 1,), are where the logits of each session begin, and the last ones end; no session is
        without.
        """
        best, free = np.zeros(len(bounds) - 1, dtype=np.int64), np.zeros(len(bounds) - 1, dtype=np.int64)
        self._run.find_best(logits, bounds, best, free)
        return best, free


def warm_up() -> None:
    """Compile the loops, or read them from the cache; processes that serve the factors do so before they are ready."""
    tracks = TrackScorer(np.zeros((1, BIAS + 1), dtype=np.float32), np.zeros((1, 1), dtype=np.int64))
    one, nothing = np.ones((1, 1), dtype=np.int64), np.zeros((1, 1), dtype=np.float32)
    tastes = tracks.tastes(one - 1, nothing, one[0])
    tracks.best(tracks.of_cells(tastes, nothing, one - 1, one), np.arange(2))
    tracks.of_tracks(tastes, nothing, one[0] - 1, one[0] - 1)
