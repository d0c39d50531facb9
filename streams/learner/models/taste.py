"""What a session so far says about the next track, as recommenders compute it; `factors_kernels` learns by the same.

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
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

INDIFFERENT = 0.4  # the fraction that is neither positive nor negative evidence
MOST_EARLIER = 16  # listens of an artist are counted up to here
USER_BIAS_PRIOR = 0.5  # prior weight, in listens, that holds the user bias at 0
MOST_USER_BIAS = 8.0


def earlier_of_artist(artists: NDArray[np.integer[Any]], valid: NDArray[np.bool_]) -> Ints:
    """Count, for each listen, the session's earlier ones of the same artist, up to `MOST_EARLIER`; all of shape (b, n).

    `valid` says where a session has a listen; sessions begin at column 0.
    """
    b, n = artists.shape
    if not n:
        return np.zeros((b, n), dtype=np.int64)
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
