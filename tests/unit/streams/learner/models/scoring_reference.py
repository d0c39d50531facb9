"""The loops of `scoring` in numpy: the reference that the compiled loops are held to."""

import numpy as np

from botify.streams.learner.models.factors import BIAS
from botify.streams.learner.models.scoring import Floats, Ints, Numbers, Values


def score_cells(
    vectors: Floats, numbers: Values, tastes: Floats, by_value: Floats, starts: Ints, stops: Ints, logits: Floats
) -> None:
    """Write the logits of all tracks of the cells of each session, one after another."""
    places = [np.arange(*cell) for cell in zip(starts.ravel(), stops.ravel(), strict=True)]
    sessions = np.repeat(np.arange(len(starts)), (stops - starts).sum(axis=1))
    score_tracks(vectors, numbers, tastes, by_value, sessions, np.concatenate(places).astype(np.int32), logits)


def score_tracks(
    vectors: Floats, numbers: Values, tastes: Floats, by_value: Floats, sessions: Ints, places: Numbers, logits: Floats
) -> None:
    np.vecdot(tastes[sessions], vectors[places], out=logits)
    for number in numbers.T:
        logits += by_value[sessions, number[places]]


def find_best(logits: Floats, bounds: Ints, best: Ints, free: Ints) -> None:
    """Write where each session's highest logit is, and how many of its logits are above minus infinity."""
    for session, (begin, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        best[session] = begin + int(logits[begin:end].argmax())
        free[session] = np.count_nonzero(logits[begin:end] > -np.inf)


def sum_tastes(vectors: Floats, places: Numbers, weights: Floats, lengths: Ints, tastes: Floats) -> None:
    """Write the sum of each session's vectors times their weights, over the root of its length."""
    read = np.where(np.arange(weights.shape[1]) < lengths[:, None], weights, np.float32(0))
    tastes[:, :BIAS] = np.einsum("bn,bnd->bd", read, vectors[places][..., :BIAS])
    tastes[:, :BIAS] /= np.sqrt(lengths, dtype=np.float32)[:, None]
