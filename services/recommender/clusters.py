"""Clusters of similar rows of a table, by k-means: the lists of an inverted file (Jégou et al., PAMI 2011)."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from botify.services.recommender.catalogue import Integers, Numbers
from botify.services.recommender.protocol import Ints
from botify.streams.learner.models.factors import BIAS
from botify.streams.learner.models.tables import blocks

Floats = NDArray[np.float32]

CLUSTER_TRACKS = 200  # mean number of tracks in a cluster; one of more than twice as many is cut
MOST_CLUSTERS = 1024
"""With more than so many times `CLUSTER_TRACKS` tracks, larger clusters are made first, and each is cut by itself."""
LOOSE = 1.1
"""Clusters are cut again when this many times more of the variance is inside them than at the cut."""
ROUNDS = 4  # rounds of k-means; further ones hardly change the answers
SAMPLE = 16_384  # maximum number of tracks that the centres are computed from
BLOCK = 256  # tracks that are compared with all centres at a time: what they are worth stays in the processor's cache


@dataclass(frozen=True, slots=True)
class Coded:
    """Rows of a table, each followed by a code of each of its labels' values; made when they are asked for."""

    rows: NDArray[Any]  # shape (n, d)
    # for each label the codes of its values, shape (values, c), and the value of each row, shape (n,)
    codes: tuple[tuple[Floats, Integers], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: slice | Integers) -> Floats:
        """Return some of the rows, shape (m, d + codes · c)."""
        rows = self.rows[at].astype(np.float32, copy=False)
        return np.hstack([rows, *(codes[value_of[at]] for codes, value_of in self.codes)]) if self.codes else rows


class Clusters:
    """Rows of a table in clusters of similar rows.

    `order`, shape (n,), has the rows cluster by cluster; `start` and `size`, shape (clusters,), say where each begins
    in `order` and its number of rows; `cluster_of` and `place_of`, shape (n,), the cluster of each row and its place in
    `order`. Of `measured` clusters, `centres`, shape (clusters, d), are the means of their vectors and `variance` the
    mean square of the distance from them, a dimension of the vectors.

    Examples
    --------
    >>> rows = np.repeat(np.eye(2, dtype=np.float32), 300, axis=0)
    >>> clusters = Clusters(nearest_clusters(Coded(rows)))
    >>> clusters.size.tolist(), clusters.measured(rows[clusters.order]).centres.tolist()
    ([300, 300], [[1.0, 0.0], [0.0, 1.0]])
    """

    centres: Floats
    variance: Floats
    _inside: float
    _inside_when_cut: float | None = None

    def __init__(self, nearest: Ints) -> None:
        n = len(nearest)
        parts = -(-np.bincount(nearest, minlength=1) // (2 * CLUSTER_TRACKS))
        # rows that are alike to the last bit, of which nothing was learned, may fill one cluster
        part = np.arange(n) % np.maximum(parts[nearest], 1)
        keys = nearest * (int(parts.max(initial=0)) + 1) + part
        numbers: Ints = np.cumsum(np.bincount(keys) > 0) - 1
        self.cluster_of: Numbers = numbers[keys].astype(np.int32)
        self.order: Numbers = np.argsort(self.cluster_of, kind="stable").astype(np.int32)
        self.place_of: Numbers = np.empty(n, dtype=np.int32)
        self.place_of[self.order] = np.arange(n)
        self.size: Ints = np.bincount(self.cluster_of)
        self.start: Ints = np.cumsum(self.size) - self.size

    def measured(self, vectors: Floats) -> Clusters:
        """Return the same clusters for vectors, shape (n, d), in the clusters' order; see `is_loose`."""
        clusters, cluster_of = copy(self), np.repeat(np.arange(len(self.size)), self.size)
        clusters.centres = _means(Coded(vectors), cluster_of, len(self.size))
        squares = np.zeros(len(self.size))
        for block in blocks(len(vectors)):
            cluster = cluster_of[block]
            apart = np.square(vectors[block, :BIAS] - clusters.centres[cluster, :BIAS]).mean(axis=1)
            squares += np.bincount(cluster, apart, len(self.size))
        clusters.variance = (squares / np.maximum(self.size, 1)).astype(np.float32)
        mean = self.size @ clusters.centres[:, :BIAS] / max(len(vectors), 1)
        between = np.square(clusters.centres[:, :BIAS] - mean).mean(axis=1) @ self.size
        clusters._inside = float(squares.sum() / max(squares.sum() + between, np.finfo(np.float64).tiny))
        if self._inside_when_cut is None:
            clusters._inside_when_cut = clusters._inside
        return clusters

    @property
    def is_loose(self) -> bool:
        """Whether too much of the vectors' variance is inside clusters, in comparison with when they were cut."""
        return self._inside_when_cut is not None and self._inside > LOOSE * self._inside_when_cut


def is_many(tracks: int) -> bool:
    """Return whether that number of tracks is cut into clusters in two steps."""
    return tracks > CLUSTER_TRACKS * MOST_CLUSTERS


def nearest_clusters(rows: Coded) -> Ints:
    """Return the cluster of each row, shape (n,)."""
    nearest = _nearest(rows, _centres(rows))
    return _cut_again(rows, nearest) if is_many(len(rows)) else nearest


def most_frequent(groups: Integers, cluster_of: Ints) -> Ints:
    """Return the cluster that most rows of each group are in, the higher one of two; -1 for none.

    `groups` and `cluster_of` have the shape (n,); the cluster of some rows may be -1, for unknown.

    Examples
    --------
    >>> most_frequent(np.array([0, 0, 0, 1, 2]), np.array([5, 7, 7, -1, 3])).tolist()
    [7, -1, 3]
    """
    known = np.flatnonzero(cluster_of >= 0)
    clusters = int(cluster_of.max(initial=0)) + 1
    pairs, counts = np.unique(groups[known] * np.int64(clusters) + cluster_of[known], return_counts=True)
    group, cluster = np.divmod(pairs[np.argsort(counts, kind="stable")], clusters)
    found = np.full(int(groups.max(initial=-1)) + 1, -1)
    found[group] = cluster  # the last of a group's, the most frequent one, stays
    return found


def _cut_again(rows: Coded, cluster_of: Ints) -> Ints:
    """Return a new cluster of each row, shape (n,): every cluster is cut by k-means among its own rows."""
    order = np.argsort(cluster_of, kind="stable")
    nearest, clusters = np.empty(len(rows), dtype=np.int64), 0
    for inside in np.split(order, np.cumsum(np.bincount(cluster_of))[:-1]):
        own = Coded(rows[inside])
        centres = _centres(own)
        nearest[inside] = clusters + _nearest(own, centres)
        clusters += len(centres)
    return nearest


def _centres(rows: Coded) -> Floats:
    """Return centres by Lloyd's algorithm, from rows evenly spread over the table; none is empty, no two are equal."""
    some = Coded(rows[:: -(-len(rows) // SAMPLE) or 1])
    if not len(some):
        return some.rows
    count = max(min(len(rows) // CLUSTER_TRACKS, MOST_CLUSTERS), 1)
    centres = some[np.linspace(0, len(some) - 1, count).astype(np.int64)]
    centres = centres[np.sort(np.unique(centres, axis=0, return_index=True)[1])]  # alike: nothing was learned of them
    for _ in range(ROUNDS):
        cluster_of, cluster = np.unique(_nearest(some, centres), return_inverse=True)
        centres = centres.copy()
        centres[cluster_of] = _means(some, cluster, len(cluster_of))
    return centres


def _nearest(rows: Coded, centres: Floats) -> Ints:
    half_squares = np.square(centres).sum(axis=1) / 2
    nearest = np.empty(len(rows), dtype=np.int64)
    for block in blocks(len(rows), BLOCK):
        nearest[block] = np.argmax(rows[block] @ centres.T - half_squares, axis=1)
    return nearest


def _means(rows: Coded, group: Integers, groups: int) -> Floats:
    order = np.argsort(group, kind="stable")
    sums = np.zeros((groups, rows[:0].shape[1]), dtype=np.float32)
    for block in blocks(len(rows)):
        present, first = np.unique(group[order[block]], return_index=True)
        sums[present] += np.add.reduceat(rows[order[block]], first, axis=0)
    means: Floats = (sums / np.bincount(group, minlength=groups)[:, None]).astype(np.float32)
    return means
