"""How the labels of tracks match the sessions of a batch, and what that and hearing an artist again are worth.

See `streams.learner.models.taste` and `botify.schemas.track_labels`. Labels with few values become one table for each
session, so that thousands of tracks are valued by looking their values up; artists are many, and a session has heard
few of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from botify.schemas.track_labels import UNKNOWN
from botify.services.recommender.candidates import Candidates, tracks_of
from botify.services.recommender.catalogue import Catalogue, Numbers
from botify.services.recommender.sessions import SessionsSoFar
from botify.streams.learner.models.taste import MOST_EARLIER, weights

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

MOST_VALUES = 2_000
"""A label with more values is not looked at, nor one with a single value."""


class LabelTable:
    """The labels of a catalogue other than the artist, all in one numbering of values.

    Parameters
    ----------
    matches : ndarray of float32, shape (len(LABELS),)
        What a match of each label is worth.

    Attributes
    ----------
    value_of : ndarray of uint16, shape (used labels, n)
        Number of each row's value; the last number for one that is unknown.
    values : int
        How many numbers there are.
    worth : ndarray of float32, shape (used labels,)
    artist : float
        What a match of the artist is worth.
    """

    def __init__(self, catalogue: Catalogue, matches: Floats) -> None:
        used, worth, count = [], [], 0
        for label, match in zip(catalogue.labels, matches[1:], strict=True):
            known = np.flatnonzero(label.values != UNKNOWN)
            if 1 < len(known) <= MOST_VALUES:
                numbers = np.full(len(label.values), -1, dtype=np.int32)
                numbers[known] = np.arange(count, count + len(known))
                used.append(numbers[label.number_of])
                worth.append(match)
                count += len(known)
        self.values = count + 1
        numbered = np.array(used, dtype=np.int32).reshape(len(used), len(catalogue)) % self.values
        self.value_of = numbered.astype(np.uint16)  # `MOST_VALUES` a label
        self.worth: Floats = np.array(worth, dtype=np.float32)
        self.artist = float(matches[0])

    def shares(self, cell_of: Numbers, cells: int) -> Floats:
        """Return the share of each cell's rows that has each value, shape (cells, values)."""
        shares = np.zeros((cells, self.values), dtype=np.float32)
        for value_of in self.value_of:
            both = cell_of * np.int64(self.values) + value_of
            shares += np.bincount(both, minlength=shares.size).reshape(shares.shape)
        shares /= np.maximum(np.bincount(cell_of, minlength=cells), 1)[:, None]
        return shares


class Matches:
    """What labels add to the logits of tracks, and what hearing their artists again leaves of them.

    Parameters
    ----------
    so_far : SessionsSoFar, of b sessions
        With likings in place of fractions.
    kept : ndarray of float32, shape (MOST_EARLIER + 1,)
        The share of a track's fraction that so many earlier listens of its artist leave.

    Attributes
    ----------
    by_value : ndarray of float32, shape (b, values)
        What each value of a label is worth.
    bias : ndarray of float32, shape (b,)
        Of each session's listener; 0 until it is set.
    """

    def __init__(self, so_far: SessionsSoFar, labels: LabelTable, kept: Floats, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        b = len(so_far)
        weight = weights(so_far.fractions, so_far.valid)
        weight /= np.sqrt(so_far.last() + 1, dtype=np.float32)[:, None]
        session, column = np.nonzero(so_far.valid)
        rows, weight = so_far.rows[session, column], weight[session, column]
        sums = np.zeros(b * labels.values)
        for value_of, worth in zip(labels.value_of, labels.worth, strict=True):
            sums += np.bincount(session * labels.values + value_of[rows], weight * worth, minlength=len(sums))
        self.by_value: Floats = sums.reshape(b, labels.values).astype(np.float32)
        self.by_value[:, -1] = 0
        self._artists = max(len(catalogue.artists), 1)
        keys = so_far.session_of * self._artists + catalogue.artist_of[so_far.heard]
        self._heard, counts = np.unique(keys, return_counts=True)
        at = np.searchsorted(self._heard, session * self._artists + catalogue.artist_of[rows])
        matched = np.bincount(at, weight, minlength=len(counts))
        self._worth: Floats = (labels.artist * matched).astype(np.float32)
        left = kept[np.minimum(counts, MOST_EARLIER)]
        self._log_kept: Floats = np.log(left)
        with np.errstate(divide="ignore"):
            self._log_lost: Floats = np.log1p(-left)  # -inf of what keeps all, as it should be
        self.bias: Floats = np.zeros(b, dtype=np.float32)

    def add_artists(self, logits: Floats, sessions: Ints, rows: Ints) -> None:
        """Add to the logits of tracks what their artists' match is worth; all of shape (m,)."""
        at, same = self._places(sessions, rows)
        logits[same] += self._worth[at]

    def hear_again(self, logits: Floats, sessions: Ints, rows: Ints) -> None:
        """Add to the logits of tracks what their artists' match is worth, less what hearing them again takes."""
        at, same = self._places(sessions, rows)
        logits[same] = self._left(logits[same] + self._worth[at], sessions[same], at)

    def _places(self, sessions: Ints, rows: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Return the places of those artists that their session has heard, and which ones they are, shape (m,)."""
        if not len(self._heard):
            return np.zeros(0, dtype=np.int64), np.zeros(len(rows), dtype=np.bool_)
        wanted = sessions * self._artists + self._catalogue.artist_of[rows]
        at = np.minimum(np.searchsorted(self._heard, wanted), len(self._heard) - 1)
        same = self._heard[at] == wanted
        return at[same], same

    def _left(self, logits: Floats, sessions: Ints, at: Ints) -> Floats:
        """Return logit(ρ σ(l + u)) − u for the logits l of tracks of heard artists, shape (m,)."""
        bias = self.bias[sessions]
        left: Floats = self._log_kept[at] - np.logaddexp(-(logits + bias), self._log_lost[at]) - bias
        return left

    def heard_artists(self) -> Candidates:
        """Return all tracks of the artists heard, scored by where `again` finds their artist."""
        sessions, artists = np.divmod(self._heard, self._artists)
        return tracks_of(sessions, artists, np.arange(len(self._heard), dtype=np.float64), self._catalogue)

    def again(self, heard: Candidates, logits: Floats) -> Floats:
        """Return the logits of tracks of heard artists, shape (m,).

        Parameters
        ----------
        heard : Candidates
            Some that `heard_artists` returned.
        logits : ndarray of float32, shape (m,)
            Without what the artist's match is worth.
        """
        at = heard.scores.astype(np.int64)
        return self._left(logits + self._worth[at], heard.sessions, at)
