"""The learned factors, the cells of similar tracks, and the tracks that a session is offered.

Scoring the whole catalogue for each request would cost several times what all else does. The catalogue is therefore
cut into cells of tracks with similar vectors and labels, by k-means, whenever a snapshot arrives. A session is offered
all tracks of the artists that it heard, and those of the `OFFERED_CELLS` cells that it values most on average (of many
tracks, `OFFERED_OF_MANY`): an inverted file, as in Jégou, Douze and Schmid, "Product quantization for nearest neighbor
search" (PAMI 2011). Which tracks are similar, and which labels say so, is learned from listening; a catalogue may have
genres or none.

A track's logit is l = ⟨z, x⟩ + b + Σ v_l m_l, see `streams.learner.models.factors`; that of a track whose artist the
session has heard is logit(ρ_k σ(l + u)) − u. So the user bias u matters for these only: it is computed from all listens
of the window after the last of them.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import mix
from botify.services.recommender.candidates import Candidates, not_heard
from botify.services.recommender.catalogue import Catalogue, Integers, Numbers
from botify.services.recommender.matches import LabelTable, Matches
from botify.services.recommender.sessions import SessionsSoFar
from botify.streams.learner.models.factors import BIAS, Factors
from botify.streams.learner.models.scoring import TrackScorer
from botify.streams.learner.models.tables import blocks, small_noise
from botify.streams.learner.models.taste import earlier_of_artist, liking_of, user_biases, weights

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

CELL_TRACKS = 200
"""Mean number of tracks in a cell; one of more than twice as many is cut."""
MOST_CELLS = 1024
"""Of more than so many times `CELL_TRACKS` tracks, larger cells are made first and each is then cut by itself: the work
grows with the number of centres that a track is compared with."""
OFFERED_CELLS = 4
OFFERED_OF_MANY = 64
"""Of so many tracks four cells may lack most of the best; `python -m botify.bench retrieval` compares."""
LOOSE = 1.1
"""Cells of many tracks are cut again when so many times more of the variance is inside them than when they were cut."""
ROWS_AT_ONCE = 1 << 20
"""Offered tracks of all sessions that are valued together: 40 bytes each."""
ROUNDS = 4
"""Rounds of k-means; further ones hardly change the answers."""
SAMPLE = 16_384
"""Maximum number of tracks that the centres are computed from."""
BLOCK = 256
"""Tracks that are compared with all centres at a time: what they are worth stays in the processor's cache."""
MAXIMUM_OF_CELL = 2.75
"""Expected maximum of 200 normal numbers, in standard deviations: a cell is chosen for its best tracks."""
CODE = 16
"""Dimensions in which the values of a label lie apart when cells are made."""


@dataclass(frozen=True, slots=True)
class Coded:
    """Rows of a table, each followed by a code of each of its labels' values; made when they are asked for.

    Attributes
    ----------
    rows : ndarray of float32 or float16, shape (n, d)
    codes : tuple of (ndarray of float32, shape (values, c); ndarray of integers, shape (n,))
        The codes of a label's values, and the value of each row.
    """

    rows: NDArray[Any]
    codes: tuple[tuple[Floats, Integers], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: slice | Integers) -> Floats:
        """Return some of the rows, shape (m, d + codes · c)."""
        rows = self.rows[at].astype(np.float32, copy=False)
        return np.hstack([rows, *(codes[value_of[at]] for codes, value_of in self.codes)]) if self.codes else rows


class Cells:
    """Rows of a table in cells of similar rows.

    Parameters
    ----------
    rows : Coded
        Of n rows.

    Attributes
    ----------
    order : ndarray of int32, shape (n,)
        Rows of the table, cell by cell.
    start, size : ndarray of int64, shape (cells,)
        Where each cell begins in `order`, and its number of rows.
    cell_of, place_of : ndarray of int32, shape (n,)
        Cell of each row, and its place in `order`.
    centres : ndarray of float32, shape (cells, d)
        Mean of the vectors of each cell's rows; of `measured` cells.
    variance : ndarray of float32, shape (cells,)
        Mean square of their distance from it, a dimension of the vectors; of `measured` cells.

    Examples
    --------
    >>> rows = np.repeat(np.eye(2, dtype=np.float32), 300, axis=0)
    >>> cells = Cells(Coded(rows))
    >>> cells.size.tolist(), cells.measured(rows[cells.order]).centres.tolist()
    ([300, 300], [[1.0, 0.0], [0.0, 1.0]])
    """

    centres: Floats
    variance: Floats
    _inside: float
    _inside_when_cut: float | None = None

    def __init__(self, rows: Coded) -> None:
        n = len(rows)
        nearest = _nearest(rows, _centres(rows))
        if is_many(n):
            nearest = _cut(rows, nearest)
        parts = -(-np.bincount(nearest, minlength=1) // (2 * CELL_TRACKS))
        # rows that are alike to the last bit, of which nothing was learned, may fill one cell
        part = np.arange(n) % np.maximum(parts[nearest], 1)
        keys = nearest * (int(parts.max(initial=0)) + 1) + part
        numbers: Ints = np.cumsum(np.bincount(keys) > 0) - 1
        self.cell_of: Numbers = numbers[keys].astype(np.int32)
        self.order: Numbers = np.argsort(self.cell_of, kind="stable").astype(np.int32)
        self.place_of: Numbers = np.empty(n, dtype=np.int32)
        self.place_of[self.order] = np.arange(n)
        self.size: Ints = np.bincount(self.cell_of)
        self.start: Ints = np.cumsum(self.size) - self.size

    def measured(self, vectors: Floats) -> Cells:
        """Return the same cells for vectors, shape (n, d), which are in the cells' order.

        The first ones that follow from a cut say how much of the variance has to be inside cells, see `is_loose`.
        """
        cells, cell_of = copy(self), np.repeat(np.arange(len(self.size)), self.size)
        cells.centres = _means(Coded(vectors), cell_of, len(self.size))
        squares = np.zeros(len(self.size))
        for block in blocks(len(vectors)):
            cell = cell_of[block]
            apart = np.square(vectors[block, :BIAS] - cells.centres[cell, :BIAS]).mean(axis=1)
            squares += np.bincount(cell, apart, len(self.size))
        cells.variance = (squares / np.maximum(self.size, 1)).astype(np.float32)
        mean = self.size @ cells.centres[:, :BIAS] / max(len(vectors), 1)
        between = np.square(cells.centres[:, :BIAS] - mean).mean(axis=1) @ self.size
        cells._inside = float(squares.sum() / max(squares.sum() + between, np.finfo(np.float64).tiny))
        if self._inside_when_cut is None:
            cells._inside_when_cut = cells._inside
        return cells

    @property
    def is_loose(self) -> bool:
        """Whether too much of the vectors' variance is inside cells, in comparison with when they were cut."""
        return self._inside_when_cut is not None and self._inside > LOOSE * self._inside_when_cut


def is_many(tracks: int) -> bool:
    """Return whether so many tracks are cut into cells in two steps."""
    return tracks > CELL_TRACKS * MOST_CELLS


def _cut(rows: Coded, cell_of: Ints) -> Ints:
    """Return a new cell of each row, shape (n,): every cell is cut by k-means among its own rows."""
    order = np.argsort(cell_of, kind="stable")
    cut, cells = np.empty(len(rows), dtype=np.int64), 0
    for inside in np.split(order, np.cumsum(np.bincount(cell_of))[:-1]):
        own = Coded(rows[inside])
        centres = _centres(own)
        cut[inside] = cells + _nearest(own, centres)
        cells += len(centres)
    return cut


def _centres(rows: Coded) -> Floats:
    """Return centres by Lloyd's algorithm, from rows evenly spread over the table; none is empty, no two are equal."""
    some = Coded(rows[:: -(-len(rows) // SAMPLE) or 1])
    if not len(some):
        return some.rows
    count = max(min(len(rows) // CELL_TRACKS, MOST_CELLS), 1)
    centres = some[np.linspace(0, len(some) - 1, count).astype(np.int64)]
    centres = centres[np.sort(np.unique(centres, axis=0, return_index=True)[1])]  # alike: nothing was learned of them
    for _ in range(ROUNDS):
        cell_of, cell = np.unique(_nearest(some, centres), return_inverse=True)
        centres = centres.copy()
        centres[cell_of] = _means(some, cell, len(cell_of))
    return centres


def _nearest(rows: Coded, centres: Floats) -> Ints:
    """Return the nearest centre of each row, shape (n,)."""
    half_squares = np.square(centres).sum(axis=1) / 2
    nearest = np.empty(len(rows), dtype=np.int64)
    for block in blocks(len(rows), BLOCK):
        nearest[block] = np.argmax(rows[block] @ centres.T - half_squares, axis=1)
    return nearest


def _means(rows: Coded, group: Integers, groups: int) -> Floats:
    """Return the mean row of each group, shape (groups, d); none is empty."""
    order = np.argsort(group, kind="stable")
    sums = np.zeros((groups, rows[:0].shape[1]), dtype=np.float32)
    for block in blocks(len(rows)):
        present, first = np.unique(group[order[block]], return_index=True)
        sums[present] += np.add.reduceat(rows[order[block]], first, axis=0)
    means: Floats = (sums / np.bincount(group, minlength=groups)[:, None]).astype(np.float32)
    return means


def _vectors(
    factors: Factors, catalogue: Catalogue, rows: Integers | slice, dtype: type[np.floating[Any]] = np.float32
) -> NDArray[Any]:
    """Return the vectors and biases of some rows of a catalogue, shape (m, d + 1)."""
    artist_of, genre_of = catalogue.artist_of[rows], catalogue.genre_of[rows]
    return factors.of(catalogue.tracks[rows], catalogue.artists, artist_of, catalogue.genres, genre_of, dtype)


class FactorTable:
    """Vectors and biases of the catalogue's rows, and their cells.

    Parameters
    ----------
    before : FactorTable, optional
        The table of an earlier snapshot. Cutting a million tracks into cells takes ten times as long as all else, so
        its cells are kept, if the catalogue is the same, for as long as they hold what is alike.

    Attributes
    ----------
    cells : Cells
        Of the catalogue's rows.
    offered : int
        Number of cells that a session is offered.
    sessions_at_once : int
        Number of sessions that are valued together.
    tracks : TrackScorer
        Of the rows' vectors and biases, in the order of the cells.
    spread : ndarray of float32, shape (cells,)
        How far above its mean the best of a cell is expected, for a taste of length 1.
    shares : ndarray of float32, shape (cells, values)
        Share of each cell's tracks that has each value of a label.
    kept : ndarray of float32, shape (MOST_EARLIER + 1,)
        See `Factors`.
    """

    def __init__(self, factors: Factors, catalogue: Catalogue, before: FactorTable | None = None) -> None:
        self.catalogue = catalogue
        self.labels = LabelTable(catalogue, factors.matches)
        self.kept = factors.kept
        cells, vectors = self._cells_and_vectors(factors, before)
        self.cells: Cells = cells
        self.offered = min(OFFERED_OF_MANY if is_many(len(catalogue)) else OFFERED_CELLS, len(cells.size))
        self.sessions_at_once = 1 + ROWS_AT_ONCE * len(cells.size) // (1 + self.offered * len(catalogue))
        self.spread: Floats = np.float32(MAXIMUM_OF_CELL) * np.sqrt(cells.variance)
        self.shares = self.labels.shares(cells.cell_of, len(cells.size))
        self.tracks = TrackScorer(vectors, self.labels.value_of[:, cells.order])

    def _cells_and_vectors(self, factors: Factors, before: FactorTable | None) -> tuple[Cells, Floats]:
        """Keep the cells or cut new ones; the vectors are made in their order, so that there is no second copy."""
        catalogue, many = self.catalogue, is_many(len(self.catalogue))
        if many and before is not None and before.catalogue is catalogue:
            vectors = _vectors(factors, catalogue, before.cells.order)
            cells = before.cells.measured(vectors)
            if not cells.is_loose:
                return cells, vectors
            del vectors
        # cutting many takes long, and is done with half the memory
        cells = self._cut(_vectors(factors, catalogue, slice(None), np.float16 if many else np.float32))
        vectors = _vectors(factors, catalogue, cells.order)
        return cells.measured(vectors), vectors

    def _cut(self, rows: NDArray[Any]) -> Cells:
        """Cut rows into cells by their vectors and labels."""
        codes = [
            small_noise(mix(at, np.arange(self.labels.values)), CODE, float(np.sqrt(max(worth, 0.0) / CODE)))
            for at, worth in enumerate(self.labels.worth.tolist())
        ]
        return Cells(Coded(rows, tuple(zip(codes, self.labels.value_of, strict=True))))

    def taste(self, so_far: SessionsSoFar) -> Floats:
        """Return the taste of each of b sessions after its last listen, then a 1 for the track bias; (b, d + 1).

        Parameters
        ----------
        so_far : SessionsSoFar
            With likings in place of fractions, as of `liked`.
        """
        weight = weights(so_far.fractions, so_far.valid)
        return self.tracks.tastes(self.cells.place_of[so_far.rows], weight, so_far.last() + 1)

    def liked(self, so_far: SessionsSoFar, catalogue: Catalogue) -> tuple[SessionsSoFar, Floats]:
        """Return the sessions with likings in place of fractions, and the share that each listen kept, (b, WINDOW)."""
        earlier = earlier_of_artist(catalogue.artist_of[so_far.rows], so_far.valid)
        kept = np.where(so_far.valid, self.kept[earlier], np.float32(0))
        return replace(so_far, fractions=liking_of(so_far.fractions, kept)), kept


class ServedFactors:
    """A snapshot and its table for the catalogue; the table is rebuilt when the catalogue has grown.

    Parameters
    ----------
    before : ServedFactors, optional
        An earlier snapshot, whose cells are kept if they can be.
    """

    def __init__(self, factors: Factors, before: ServedFactors | None = None) -> None:
        self._factors = factors
        self._before = None if before is None else before._table
        self._table: FactorTable | None = None

    def table(self, catalogue: Catalogue) -> FactorTable:
        """Return the table for a catalogue."""
        table = self._table
        if table is None or table.catalogue is not catalogue:
            table = self._table = FactorTable(self._factors, catalogue, table or self._before)
            self._before = None
        return table


LatestFactors = Callable[[], ServedFactors | None]
"""Returns the newest snapshot; None before the first."""

HEARD = np.float32(-np.inf)
"""Logit of a track that the session has heard."""
NOT_OFFERED = np.iinfo(np.int64).min
"""The shift of a cell that a session is not offered."""


class OfferedTracks:
    """Logits of b sessions, each over the tracks of the cells that it is offered.

    Parameters
    ----------
    catalogue : Catalogue
        The catalogue of the table.

    Examples
    --------
    >>> from botify.schemas.events import RecommendationRequest, Track
    >>> from botify.services.recommender.protocol import Batch
    >>> from botify.services.recommender.sessions import sessions_so_far
    >>> from botify.streams.learner.models.factors import FactorModel, read_factors
    >>> catalogue = Catalogue([Track(7, "a", None, None, "x"), Track(8, "a", None, None, "y")])
    >>> heard = RecommendationRequest("s-0", 42, "s", 0, 7, 1.0, 0, 0)
    >>> so_far = sessions_so_far(Batch.of([heard], [None]), catalogue)
    >>> table = ServedFactors(read_factors(FactorModel({}).snapshot())).table(catalogue)
    >>> rows, logits, free = OfferedTracks(so_far, table, catalogue).best()
    >>> rows.tolist(), logits.tolist(), free.tolist()
    ([1], [1.0], [1])
    """

    def __init__(self, so_far: SessionsSoFar, table: FactorTable, catalogue: Catalogue) -> None:
        self._table, cells = table, table.cells
        liked, kept = table.liked(so_far, catalogue)
        self._taste = table.taste(liked)
        self._matches = Matches(liked, table.labels, table.kept, catalogue)
        self._matches.bias = self._biases(liked, kept)
        values = self._taste @ cells.centres.T + self._matches.by_value @ table.shares.T
        values += np.linalg.norm(self._taste[:, :BIAS], axis=1)[:, None] * table.spread
        most = table.offered
        cell = np.argpartition(-values, most - 1, axis=1)[:, :most]
        sizes = cells.size[cell]
        starts, stops = cells.start[cell], cells.start[cell] + sizes
        self._ends = np.cumsum(sizes.ravel())
        self._bounds = np.concatenate([[0], self._ends[most - 1 :: most]])
        # session s has the logit of the row at place p of the cells' order at shift[s, its cell] + p
        self._shift: Ints = np.full(values.shape, NOT_OFFERED)
        self._shifts = self._ends - stops.ravel()
        np.put_along_axis(self._shift, cell, self._shifts.reshape(cell.shape), axis=1)
        self._logits = table.tracks.of_cells(self._taste, self._matches.by_value, starts, stops)
        self._of_artists = self._mark_heard(so_far, catalogue)

    def best(self) -> tuple[Ints, Floats, Ints]:
        """Return each session's best track as a row, its logit, and the number of unheard tracks."""
        best, free = self._table.tracks.best(self._logits, self._bounds)
        return np.where(free > 0, self._rows(best), -1), self._logits[best], free

    def top(self, k: int) -> tuple[Ints, Ints, Floats]:
        """Return the sessions, rows and logits of each session's k best unheard tracks, in no order."""
        found = []
        for begin, end in pairwise(self._bounds.tolist()):
            width = min(k, end - begin)
            at = begin + np.argpartition(-self._logits[begin:end], width - 1)[:width]
            found.append(at[self._logits[at] != HEARD])
        sessions, at = np.repeat(np.arange(len(found)), list(map(len, found))), np.concatenate(found)
        return sessions, self._rows(at), self._logits[at]

    def free_rows(self, session: int) -> Ints:
        """Return the rows of the offered tracks that a session has not heard."""
        begin, end = self._bounds[session : session + 2]
        return self._rows(begin + np.flatnonzero(self._logits[begin:end] != HEARD))

    def offers(self, sessions: Ints, rows: Ints) -> NDArray[np.bool_]:
        """Return which tracks are in a cell that their session is offered, shape (m,)."""
        offered: NDArray[np.bool_] = self._shift[sessions, self._table.cells.cell_of[rows]] != NOT_OFFERED
        return offered

    def logits(self, sessions: Ints, rows: Ints) -> Floats:
        """Return the logits of any tracks, shape (m,)."""
        logits = self._without_artists(sessions, rows)
        self._matches.hear_again(logits, sessions, rows)
        return logits

    def _without_artists(self, sessions: Ints, rows: Ints) -> Floats:
        """Return what the factors and the labels but the artist say of tracks, shape (m,)."""
        places = self._table.cells.place_of[rows]
        return self._table.tracks.of_tracks(self._taste, self._matches.by_value, sessions, places)

    def _biases(self, liked: SessionsSoFar, kept: Floats) -> Floats:
        """Return each listener's bias, shape (b,)."""
        sessions, columns = np.nonzero(liked.valid)
        rows = liked.rows[sessions, columns]
        of_heard = self._without_artists(sessions, rows)
        self._matches.add_artists(of_heard, sessions, rows)
        logits = np.zeros(liked.valid.shape, dtype=np.float32)
        logits[sessions, columns] = of_heard
        evidence = kept.copy()
        evidence[:, :1] = 0
        return user_biases(logits, liked.fractions, evidence)[:, -1]

    def of_artists(self) -> Candidates:
        """Return the unheard tracks of the artists heard that are in no cell offered, and their logits."""
        return self._of_artists

    def _mark_heard(self, so_far: SessionsSoFar, catalogue: Catalogue) -> Candidates:
        """Value tracks of artists heard, and mark heard tracks; return these artists' tracks of other cells."""
        again = self._matches.heard_artists()
        offered = self.offers(again.sessions, again.rows)
        valued = again.where(offered)
        at = self._at(valued.sessions, valued.rows)
        self._logits[at] = self._matches.again(valued, self._logits[at])
        here = self.offers(so_far.session_of, so_far.heard)
        self._logits[self._at(so_far.session_of[here], so_far.heard[here])] = HEARD
        others = not_heard(again.where(~offered), so_far, catalogue)
        logits = self._matches.again(others, self._without_artists(others.sessions, others.rows))
        return others._replace(scores=logits.astype(np.float64))

    def _rows(self, at: Ints) -> Ints:
        """Return the rows whose logits are at these places."""
        places = at - self._shifts[np.searchsorted(self._ends, at, side="right")]
        rows: Ints = self._table.cells.order[places].astype(np.int64)
        return rows

    def _at(self, sessions: Ints, rows: Ints) -> Ints:
        """Return where the logits of offered tracks are."""
        cells = self._table.cells
        at: Ints = self._shift[sessions, cells.cell_of[rows]] + cells.place_of[rows]
        return at
