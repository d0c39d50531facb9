"""What a fit estimates: tracks' vectors (ALS), tastes (a mixture of normals), and how long listeners stay."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit

from botify.sim.listeners.model import Floats, Ints
from botify.sim.simulation import MOST_TRACKS

CONFIDENCE = 20.0
REGULARISATION = 10.0
ROUNDS = 12


def track_vectors(heard: sparse.csr_array, dimensions: int, rng: np.random.Generator) -> Floats:
    """Factorise who heard what by alternating least squares, and return the tracks' vectors with length 1.

    Minimises ``Σ c (p − ⟨x, y⟩)² + λ (Σ|x|² + Σ|y|²)`` over all pairs of a user and a track, with p = 1 and c = 1 + 20
    where the user heard the track, and p = 0 and c = 1 elsewhere (Hu, Koren and Volinsky, "Collaborative filtering for
    implicit feedback datasets", ICDM 2008). The result, shape (tracks, dimensions), is zero where no user heard a
    track.
    """
    listeners = sparse.csr_array(heard.T)
    tracks = rng.normal(scale=0.1, size=(heard.shape[1], dimensions))
    for _ in range(ROUNDS):
        users = _solve(heard, tracks)
        tracks = _solve(listeners, users)
    lengths = np.linalg.norm(tracks, axis=1, keepdims=True)
    return np.asarray(np.divide(tracks, lengths, out=np.zeros_like(tracks), where=lengths > 0))


def _solve(seen: sparse.csr_array, fixed: Floats) -> Floats:
    """Return the best vector of each row of `seen`, given those of its columns."""
    everywhere = fixed.T @ fixed + REGULARISATION * np.eye(fixed.shape[1])
    solved = np.zeros((seen.shape[0], fixed.shape[1]))
    for row in np.flatnonzero(np.diff(seen.indptr)):
        own = fixed[seen.indices[seen.indptr[row] : seen.indptr[row + 1]]]
        solved[row] = np.linalg.solve(everywhere + CONFIDENCE * own.T @ own, (1 + CONFIDENCE) * own.sum(axis=0))
    return solved


class Mixture(NamedTuple):
    """A mixture of normals without covariances."""

    weights: Floats  # shape (components,)
    means: Floats  # shape (components, dimensions)
    deviations: Floats

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        """Draw vectors, shape (count, dimensions)."""
        component = rng.choice(len(self.weights), size=count, p=self.weights)
        return np.asarray(rng.normal(self.means[component], self.deviations[component]))


EM_ROUNDS = 40
LEAST_DEVIATION = 0.02
USERS_A_COMPONENT = 25  # fewer would let a component describe single users


def fit_mixture(vectors: Floats, components: int, rng: np.random.Generator) -> Mixture:
    """Fit a mixture by expectation and maximisation, from random vectors as means.

    A component stands for 25 users or more on average, so that no parameter is one user's taste.
    """
    components = max(1, min(components, len(vectors) // USERS_A_COMPONENT))
    means = vectors[rng.choice(len(vectors), size=components, replace=False)]
    spread = np.broadcast_to(np.maximum(vectors.std(axis=0), LEAST_DEVIATION), means.shape)
    mixture = Mixture(np.full(components, 1 / components), means, spread)
    for _ in range(EM_ROUNDS):
        away = (vectors[:, None, :] - mixture.means) / mixture.deviations
        logs = np.log(mixture.weights) - np.log(mixture.deviations).sum(axis=1) - 0.5 * (away**2).sum(axis=2)
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        sizes = shares.sum(axis=0) + 1e-9
        means = shares.T @ vectors / sizes[:, None]
        variances = shares.T @ vectors**2 / sizes[:, None] - means**2
        deviations = np.sqrt(np.maximum(variances, LEAST_DEVIATION**2))
        mixture = Mixture(sizes / sizes.sum(), means, deviations)
    return mixture


QUANTILES = np.linspace(0.01, 0.99, 25)


def length_quantiles(lengths: Ints) -> Floats:
    """Return 25 quantiles of the lengths of sessions, in tracks, from the first to the ninety-ninth percentile."""
    return np.asarray(np.quantile(lengths, QUANTILES))


MOST_BUDGET = 5  # Botify's budget, of listeners who stay long enough
_SHORTEST, _LONGEST = 2.0, 0.8 * MOST_TRACKS
_CHOICES, _STEPS, _BLOCK = 48, 40, 256


def draw_lengths(quantiles: Floats, users: int, rng: np.random.Generator) -> Floats:
    """Draw the median length of each listener's sessions, in tracks, between the quantiles of a log."""
    logs = np.interp(rng.random(users), QUANTILES, np.log(quantiles))
    return np.clip(np.exp(logs), _SHORTEST, _LONGEST)


def budgets_of(lengths: Floats) -> tuple[NDArray[np.int32], Floats]:
    """Return budgets, and the mean fractions of tracks that have to be heard for sessions of these median lengths.

    A session has its first track and then ``budget / (1 − fraction)`` more on average. Their number is negative
    binomial, with a median that is below the mean by about its share ``1 / (3 · budget)``.
    """
    budgets = np.clip(np.round((lengths - 1) / 3), 1, MOST_BUDGET)
    means = (lengths - 1) / (1 - 1 / (3 * budgets))
    return budgets.astype(np.int32), 1 - budgets / means


def own_choices(
    embeddings: NDArray[np.float32], tastes: NDArray[np.float32], heard: Floats, rng: np.random.Generator
) -> Floats:
    """Return what listeners think of tracks of their own choice, from the first to the last, shape (users, choices).

    Logits with Gumbel noise, in descending order, are choices without repetition.
    """
    scores = np.empty((len(tastes), _CHOICES))
    most = np.minimum(heard, len(embeddings)) - 1
    places = np.round(np.linspace(0, most, _CHOICES, axis=1)).astype(np.int64)
    for start in range(0, len(tastes), _BLOCK):
        rows = slice(start, start + _BLOCK)
        logits = tastes[rows] @ embeddings.T
        noisy = logits + rng.gumbel(size=logits.shape)
        order = np.argsort(-noisy, axis=1)
        scores[rows] = np.take_along_axis(logits, np.take_along_axis(order, places[rows], axis=1), axis=1)
    return scores


def biases_of(scores: Floats, sharpness: Floats, fractions: Floats) -> Floats:
    """Return the biases with which the mean fraction that is heard of tracks with these scores is as wanted."""
    low, high = scores.min(axis=1) - 20.0, scores.max(axis=1) + 20.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        heard = expit((scores - middle[:, None]) * sharpness[:, None]).mean(axis=1)
        low, high = np.where(heard > fractions, middle, low), np.where(heard > fractions, high, middle)
    return np.asarray((low + high) / 2)
