"""The learned factors, and the tracks that a session is offered.

Scoring the whole catalogue for each request would cost several times what all else does. The catalogue is therefore cut
into clusters of tracks with similar vectors and labels. A session is offered all tracks of the artists that it heard,
and those of the `OFFERED_CLUSTERS` clusters that it values most on average (of many tracks, `OFFERED_OF_MANY`). Labels
with few values become one table for each session, so that thousands of tracks are valued by looking their values up;
artists are many, and a session has heard few of them.

A track's logit is l = ⟨z, x⟩ + b + Σ v_l m_l, see `streams.learner.models.factors`; that of a track whose artist the
session has heard is logit(ρ_k σ(l + u)) − u. So the user bias u matters for these only.

A track that was heard to f in a session which was after the same with probability a (see `candidates.liked_before`) has
logit((1 − a) σ(l + u) + a f) − u in place of l. The taste z is that of a session that has also heard it, a times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from botify.core.keyed_random import mix
from botify.schemas.track_columns import UNKNOWN
from botify.services.recommender.candidates import Candidates, Liked, not_heard, places_of, tracks_of
from botify.services.recommender.catalogue import Catalogue, Integers, Numbers
from botify.services.recommender.clusters import Clusters, Coded, Floats, is_many, most_frequent, nearest_clusters
from botify.services.recommender.protocol import Ints
from botify.services.recommender.sessions import SessionsSoFar
from botify.streams.learner.models.factors import BIAS, INDIFFERENT, MOST_EARLIER, Factors
from botify.streams.learner.models.scoring import TrackScorer, earlier_of_artist, liking_of, user_biases, weights
from botify.streams.learner.models.tables import small_noise

OFFERED_CLUSTERS = 4
OFFERED_OF_MANY = 24
"""Of many tracks, four clusters may lack most of the best; `python -m botify.bench retrieval` compares."""
ROWS_AT_ONCE = 1 << 20  # offered tracks of all sessions that are valued together: 40 bytes each
CLUSTERS = "clusters"  # what answers call the clusters that they were chosen from; see `snapshot_and_catalogue`
MAXIMUM_OF_CLUSTER = 2.75
"""Expected maximum of 200 normal numbers, in standard deviations: a cluster is chosen for its best tracks."""
FIRST_HEARD = 0.9  # expected of the first track of an earlier session, whose own fraction tells nothing
MOST_HEARD = 0.98  # expected of any track
MOST_CHANGED = 1 / 16  # share of new tracks that join the clusters of others, or of deleted ones; of more, all are cut
CODE = 16  # dimensions in which the values of a label lie apart when clusters are made


MOST_VALUES = 2_000  # a label with more values is not looked at, nor one with a single value


class LabelTable:
    """The labels of a catalogue other than the artist, all in one numbering of `values` values.

    `value_of`, shape (used labels, n), is the number of each row's value, the last number for one that is unknown.
    `worth`, shape (used labels,), and `artist` are what a match is worth.
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

    def shares(self, cluster_of: Numbers, clusters: int) -> Floats:
        """Return the share of each cluster's rows that has each value, shape (values, clusters)."""
        shares = np.zeros((self.values, clusters), dtype=np.float32)
        for value_of in self.value_of:
            both = value_of * np.int64(clusters) + cluster_of
            shares += np.bincount(both, minlength=shares.size).reshape(shares.shape)
        shares /= np.maximum(np.bincount(cluster_of, minlength=clusters), 1)
        return shares


class Matches:
    """What labels add to the logits of tracks of b sessions, and what hearing their artists again leaves of them.

    The sessions have likings in place of fractions. `by_value`, shape (b, values), is what each value of a label is
    worth; `bias`, shape (b,), that of each session's listener, 0 until it is set.
    """

    def __init__(self, so_far: SessionsSoFar, table: FactorTable) -> None:
        self._catalogue = catalogue = table.catalogue
        labels, b = table.labels, len(so_far)
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
        left = table.kept[np.minimum(counts, MOST_EARLIER)]
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

    def hear_as_before(self, logits: Floats, liked: Liked) -> Candidates:
        """Return tracks with what hearing them as before is worth; `logits` are without their artists' match."""
        at, same = self._places(liked.sessions, liked.rows)
        logits[same] += self._worth[at]
        bias = self.bias[liked.sessions]
        predicted = expit(logits.astype(np.float64) + bias)
        heard = np.where(liked.first, FIRST_HEARD, np.minimum(liked.fractions, MOST_HEARD))
        values = logit(predicted + liked.alike * (heard - predicted)) - bias
        values[same] = self._left(values[same].astype(np.float32), liked.sessions[same], at)
        return Candidates(liked.sessions, liked.rows, values)

    def _places(self, sessions: Ints, rows: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Return the places of those artists that their session has heard, and which ones they are, shape (m,)."""
        at, same = places_of(self._heard, sessions * self._artists + self._catalogue.artist_of[rows])
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
        """Return the logits of tracks of `heard_artists`, given those without their artist's match; shape (m,)."""
        at = heard.scores.astype(np.int64)
        return self._left(logits + self._worth[at], heard.sessions, at)


def _vectors(
    factors: Factors, catalogue: Catalogue, rows: Integers | slice, dtype: type[np.floating[Any]] = np.float32
) -> NDArray[Any]:
    artist_of, genre_of = catalogue.artist_of[rows], catalogue.genre_of[rows]
    return factors.of(catalogue.tracks[rows], catalogue.artists, artist_of, catalogue.genres, genre_of, dtype)


class Cut(NamedTuple):
    """Clusters as they were cut: of which catalogue, and by which snapshot."""

    catalogue: Catalogue
    clusters: Clusters
    snapshot: str

    def label_for(self, catalogue: Catalogue) -> str:
        """Return what answers from a catalogue call it; see `snapshot_and_catalogue`."""
        of_same = catalogue.label == self.catalogue.label
        return self.snapshot if of_same else f"{self.snapshot}@{self.catalogue.label}"

    def joined(self, catalogue: Catalogue) -> Clusters | None:
        """Return these clusters for another catalogue, not measured yet; None if too many tracks are new or gone.

        A new track joins the cluster that has most tracks of its artist, or else of its genre. So the clusters depend
        on the cut and the catalogue, not on those between.
        """
        rows = self.catalogue.rows_of(catalogue.tracks)
        kept = int((rows >= 0).sum())
        if max(len(catalogue), len(self.catalogue)) - kept > MOST_CHANGED * kept:
            return None
        cluster_of = np.where(rows >= 0, self.clusters.cluster_of[rows], -1)
        for groups in (catalogue.artist_of, catalogue.genre_of):
            cluster_of = np.where(cluster_of >= 0, cluster_of, most_frequent(groups, cluster_of)[groups])
        return Clusters(np.maximum(cluster_of, 0))


def snapshot_and_catalogue(clusters: str) -> tuple[str, str | None]:
    """Return the labels of the snapshot and the catalogue of a cut; None if it is the catalogue of the answer."""
    snapshot, _, catalogue = clusters.partition("@")
    return snapshot, catalogue or None


class FactorTable:
    """Vectors and biases of the catalogue's rows in the order of their clusters, which sessions are offered.

    Cutting tracks into clusters takes five to ten times as long as all else, so those of `before`, an earlier table of
    the same catalogue, are kept for as long as they hold what is alike. With `joins` (while somebody waits), those of
    another catalogue are kept, too, if few tracks have changed. `spread`, shape (clusters,), is how far above its mean
    the best of a cluster is expected, for a taste of length 1; `shares`, shape (values, clusters), the share of each
    cluster's tracks that has each value of a label.
    """

    def __init__(
        self,
        factors: Factors,
        catalogue: Catalogue,
        before: FactorTable | None = None,
        label: str = "",
        *,
        joins: bool = False,
    ) -> None:
        self.catalogue = catalogue
        self.labels = LabelTable(catalogue, factors.matches)
        self.kept = factors.kept
        self.cut, clusters, vectors = self._clusters_and_vectors(factors, before, label, joins=joins)
        self.clusters: Clusters = clusters
        self.offered = min(OFFERED_OF_MANY if is_many(len(catalogue)) else OFFERED_CLUSTERS, len(clusters.size))
        self.sessions_at_once = 1 + ROWS_AT_ONCE * len(clusters.size) // (1 + self.offered * len(catalogue))
        self.spread: Floats = np.float32(MAXIMUM_OF_CLUSTER) * np.sqrt(clusters.variance)
        self.shares = self.labels.shares(clusters.cluster_of, len(clusters.size))
        self.tracks = TrackScorer(vectors, self.labels.value_of[:, clusters.order])

    def _clusters_and_vectors(
        self, factors: Factors, before: FactorTable | None, label: str, *, joins: bool
    ) -> tuple[Cut, Clusters, Floats]:
        """Keep the clusters or cut new ones; the vectors are made in their order, so that there is no second copy."""
        catalogue, many = self.catalogue, is_many(len(self.catalogue))
        if before is not None:
            same = before.cut.catalogue.label == catalogue.label
            kept = before.cut.clusters if same else before.cut.joined(catalogue) if joins else None
            if kept is not None:
                vectors = _vectors(factors, catalogue, kept.order)
                clusters = kept.measured(vectors)
                if not clusters.is_loose:
                    return before.cut, clusters, vectors
                del vectors
        # cutting many takes long, and is done with half the memory
        rows = _vectors(factors, catalogue, slice(None), np.float16 if many else np.float32)
        clusters = Clusters(nearest_clusters(Coded(rows, self._codes())))
        del rows
        vectors = _vectors(factors, catalogue, clusters.order)
        clusters = clusters.measured(vectors)
        return Cut(catalogue, clusters, label), clusters, vectors

    def _codes(self) -> tuple[tuple[Floats, Integers], ...]:
        codes = [
            small_noise(mix(at, np.arange(self.labels.values)), CODE, float(np.sqrt(max(worth, 0.0) / CODE)))
            for at, worth in enumerate(self.labels.worth.tolist())
        ]
        return tuple(zip(codes, self.labels.value_of, strict=True))

    def taste(self, so_far: SessionsSoFar) -> Floats:
        """Return the taste of each of b sessions, as of `liked`, then a 1 for the track bias; shape (b, d + 1)."""
        weight = weights(so_far.fractions, so_far.valid)
        return self.tracks.tastes(self.clusters.place_of[so_far.rows], weight, so_far.last() + 1)

    def taste_with(self, liked: Liked, so_far: SessionsSoFar) -> Floats:
        """Return `taste` as if the session had heard what was liked in earlier ones, each as often as it is alike."""
        taste, listens = self.taste(so_far), so_far.last() + 1.0
        weight = np.where(liked.first, 1.0, liked.fractions - INDIFFERENT) * liked.alike
        sessions, starts = np.unique(liked.sessions, return_index=True)
        vectors = self.tracks.vectors[self.clusters.place_of[liked.rows], :BIAS]
        before = np.add.reduceat(vectors * weight.astype(np.float32)[:, None], starts)
        n, more = listens[sessions], np.add.reduceat(liked.alike, starts)
        taste[sessions, :BIAS] = (taste[sessions, :BIAS] * np.sqrt(n)[:, None] + before) / np.sqrt(n + more)[:, None]
        return taste

    def cosines(self, rows: Ints, others: Ints) -> NDArray[np.float64]:
        """Return the cosines of the vectors of two tracks each, without their biases; shape (m,)."""
        one, other = (self.tracks.vectors[self.clusters.place_of[of], :BIAS] for of in (rows, others))
        products = [(a * b).sum(axis=1, dtype=np.float64) for a, b in ((one, other), (one, one), (other, other))]
        cosines: NDArray[np.float64] = products[0] / np.maximum(np.sqrt(products[1] * products[2]), 1e-9)
        return cosines

    def liked(self, so_far: SessionsSoFar) -> tuple[SessionsSoFar, Floats]:
        """Return the sessions with likings in place of fractions, and the share that each listen kept, (b, WINDOW)."""
        earlier = earlier_of_artist(self.catalogue.artist_of[so_far.rows], so_far.valid)
        kept = np.where(so_far.valid, self.kept[earlier], np.float32(0))
        return replace(so_far, fractions=liking_of(so_far.fractions, kept)), kept


class ServedFactors:
    """A snapshot and its table for the catalogue, rebuilt when that has changed; `before` may lend its clusters.

    The first table is made before the snapshot serves; later ones while somebody waits, so that they cut no clusters if
    few tracks have changed. `label` is that of the snapshot.
    """

    def __init__(self, factors: Factors, before: ServedFactors | None = None, label: str = "") -> None:
        self._factors, self._label = factors, label
        self.by_value = factors.by_value  # see `Factors`
        self._before = None if before is None else before._table
        self._table: FactorTable | None = None

    def table(self, catalogue: Catalogue) -> FactorTable:
        table = self._table
        if table is None or table.catalogue is not catalogue:
            before, joins = table or self._before, table is not None
            table = self._table = FactorTable(self._factors, catalogue, before, self._label, joins=joins)
            self._before = None
        return table

    @property
    def made_of(self) -> dict[str, str]:
        """Return the label of the clusters that the table has: rankings depend on them too."""
        table = self._table
        return {} if table is None else {CLUSTERS: table.cut.label_for(table.catalogue)}


LatestFactors = Callable[[], ServedFactors | None]  # returns the newest snapshot; None before the first

HEARD = np.float32(-np.inf)  # logit of a track that the session has heard
NOT_OFFERED = np.iinfo(np.int64).min  # the shift of a cluster that a session is not offered


class OfferedTracks:
    """Logits of b sessions, each over the tracks of the clusters that it is offered."""

    def __init__(self, so_far: SessionsSoFar, table: FactorTable, before: Liked) -> None:
        self._table, clusters = table, table.clusters
        liked, kept = table.liked(so_far)
        self._taste = table.taste_with(before, liked)
        self._matches = Matches(liked, table)
        self._matches.bias = self._biases(liked, kept)
        values = self._taste @ clusters.centres.T
        for session, worth in enumerate(self._matches.by_value):
            known = np.flatnonzero(worth)  # a session has heard few of all values
            values[session] += worth[known] @ table.shares[known]
        values += np.linalg.norm(self._taste[:, :BIAS], axis=1)[:, None] * table.spread
        most = table.offered
        cluster = np.argpartition(-values, most - 1, axis=1)[:, :most]
        sizes = clusters.size[cluster]
        starts, stops = clusters.start[cluster], clusters.start[cluster] + sizes
        self._ends = np.cumsum(sizes.ravel())
        self._bounds = np.concatenate([[0], self._ends[most - 1 :: most]])
        # session s has the logit of the row at place p of the clusters' order at shift[s, its cluster] + p
        self._shift: Ints = np.full(values.shape, NOT_OFFERED)
        self._shifts = self._ends - stops.ravel()
        np.put_along_axis(self._shift, cluster, self._shifts.reshape(cluster.shape), axis=1)
        self._logits = table.tracks.of_cells(self._taste, self._matches.by_value, starts, stops)
        # unheard tracks of the artists heard that are in no cluster offered, and those liked before, with their logits
        remembered = self._matches.hear_as_before(self._without_artists(before.sessions, before.rows), before)
        self.others = Candidates.together(self._mark_heard(so_far), remembered)

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
        """Return which tracks are in a cluster that their session is offered, shape (m,)."""
        offered: NDArray[np.bool_] = self._shift[sessions, self._table.clusters.cluster_of[rows]] != NOT_OFFERED
        return offered

    def logits(self, sessions: Ints, rows: Ints) -> Floats:
        """Return the logits of any tracks, shape (m,)."""
        logits = self._without_artists(sessions, rows)
        self._matches.hear_again(logits, sessions, rows)
        return logits

    def _without_artists(self, sessions: Ints, rows: Ints) -> Floats:
        """Return what the factors and the labels but the artist say of tracks, shape (m,)."""
        places = self._table.clusters.place_of[rows]
        return self._table.tracks.of_tracks(self._taste, self._matches.by_value, sessions, places)

    def _biases(self, liked: SessionsSoFar, kept: Floats) -> Floats:
        sessions, columns = np.nonzero(liked.valid)
        rows = liked.rows[sessions, columns]
        of_heard = self._without_artists(sessions, rows)
        self._matches.add_artists(of_heard, sessions, rows)
        logits = np.zeros(liked.valid.shape, dtype=np.float32)
        logits[sessions, columns] = of_heard
        evidence = kept.copy()
        evidence[:, :1] = 0
        return user_biases(logits, liked.fractions, evidence)[:, -1]

    def _mark_heard(self, so_far: SessionsSoFar) -> Candidates:
        """Value tracks of artists heard, and mark heard tracks; return these artists' tracks of other clusters."""
        again = self._matches.heard_artists()
        offered = self.offers(again.sessions, again.rows)
        valued = again.where(offered)
        at = self._at(valued.sessions, valued.rows)
        self._logits[at] = self._matches.again(valued, self._logits[at])
        here = self.offers(so_far.session_of, so_far.heard)
        self._logits[self._at(so_far.session_of[here], so_far.heard[here])] = HEARD
        others = not_heard(again.where(~offered), so_far, self._table.catalogue)
        logits = self._matches.again(others, self._without_artists(others.sessions, others.rows))
        return others._replace(scores=logits.astype(np.float64))

    def _rows(self, at: Ints) -> Ints:
        places = at - self._shifts[np.searchsorted(self._ends, at, side="right")]
        rows: Ints = self._table.clusters.order[places].astype(np.int64)
        return rows

    def _at(self, sessions: Ints, rows: Ints) -> Ints:
        clusters = self._table.clusters
        at: Ints = self._shift[sessions, clusters.cluster_of[rows]] + clusters.place_of[rows]
        return at
