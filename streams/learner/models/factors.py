"""`fism`: vectors of genres, artists and tracks, learned from sessions as they end.

A track's vector is the sum of its own, its artist's and its genre's: what is learned of a genre holds at once for a
track without listens. The predicted fraction of track j after a session with the taste z (see `taste`) is ::

    ρ_k · σ(b_j + u + ⟨z, x_j⟩ + Σ v_l m_l)        x_j = own_j + artist_j + genre_j

where u is the user bias (see `taste`), k the number of the session's listens of j's artist, and ρ_k the share that they
leave: one number for each count, learned as least squares, and 1 for the first. It is a factor, because a term of the
logit would hardly lower what is liked most. m_l says how far label l of the track matches the session (see `labels`),
and v_l what that is worth. The loss is the cross-entropy of σ with the liking, which is the fraction without the effect
of ρ_k; a listen has the weight ρ_k. SGD with Adagrad's rates, one for each row (Duchi, Hazan and Singer, JMLR 2011),
over `SESSIONS_AT_ONCE` sessions at a time, through both the target's vector and those in z. After Kabbur et al. (KDD
2013), see `taste`; the hierarchy is that of Koenigstein, Dror and Koren (RecSys 2011).

Negative evidence is forgotten: a track that is worse than its artist and genre (its own part of b is negative) loses
half of its own part in `FORGET_SESSIONS` sessions, so that it is explored again. If another track does not fit, those
of which least was learned are forgotten: their own part is nearest to its initial noise. Artists and genres are removed
with their last track.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from botify.core.keyed_random import Keys, keys_of_texts, mix
from botify.schemas.events import Track
from botify.schemas.track_columns import LABELS, UNKNOWN, labels_of
from botify.streams.learner.models.tables import (
    LAYOUT_BYTES,
    Arrays,
    Growing,
    Table,
    all_but_an_eighth,
    blocks,
    mean_by_evidence,
    pack,
    small_noise,
    unpack,
    unpack_to_merge,
)
from botify.streams.learner.models.taste import (
    MOST_EARLIER,
    earlier_of_artist,
    liking_of,
    matches_before,
    root_lengths,
    tastes,
    user_biases,
    weights,
)
from botify.streams.learner.sessions import FinishedSession, pad

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

DIMENSIONS = 32
BIAS = DIMENSIONS  # column of the bias b, behind the vector
SQUARES = DIMENSIONS + 1
"""Column of the sum of the row's mean squared gradients, behind the bias; snapshots leave it out."""
RATE, ARTIST_RATE, GENRE_RATE, REPEAT_RATE, MATCH_RATE = 0.1, 0.1, 0.05, 0.1, 0.1
FIRST_MATCH = 1.0  # what a match of any label is worth before anything was learned
LEAST_KEPT = 0.05  # bound of ρ_k; it divides
FIRST_SQUARES = 0.05  # where the sums begin
DECAY = 0.002
FORGET_SESSIONS = 5_000
MOST_GRADIENT = 1.0
SESSIONS_AT_ONCE = 32
_SEED = 0x66697374
_ARTIST_STREAM, _GENRE_STREAM = 1, 2  # keep an artist and a genre of one name apart
_FIRST_BIAS = -2.0
_TRACK_NOISE, _ARTIST_NOISE, _GENRE_NOISE = 0.05, 0.1, 0.1
NO_GENRE = ""
VECTOR_BYTES = 2 * (DIMENSIONS + 1)
TRACK_BYTES = 4 + 4 + 2 + VECTOR_BYTES
"""Of a track in a snapshot: its id, where its artist and genre are, and its own part."""


class Rows(NamedTuple):
    """Indices of the tracks' three parts; all of shape (n,)."""

    track: Ints
    artist: Ints
    genre: Ints


class FactorModel:
    """The factors, and how they learn; a track is looked up in the catalogue when it is met for the first time.

    Examples
    --------
    >>> model = FactorModel({7: Track(7, "a", None, "jazz", "x"), 8: Track(8, "a", None, "jazz", "y")})
    >>> model.learn([FinishedSession(np.array([7, 8]), np.array([1.0, 0.9], dtype=np.float32))])
    >>> FactorModel.from_bytes(model.to_bytes(), {}).snapshot() == model.snapshot()
    True
    """

    name = "fism"

    def __init__(self, catalogue: Mapping[int, Track]) -> None:
        self._catalogue = catalogue
        self._tracks = Table[int](DIMENSIONS + 2, _new_tracks)
        self._artists = Table[str](DIMENSIONS + 2, _new_artists)
        self._genres = Table[str](DIMENSIONS + 2, _new_genres)
        self._kept = np.tile(np.array([1, FIRST_SQUARES], dtype=np.float32), (MOST_EARLIER + 1, 1))  # ρ_k, its squares
        self._matches = np.tile(np.array([FIRST_MATCH, FIRST_SQUARES], dtype=np.float32), (len(LABELS), 1))  # v_l, too
        self._labels = Growing(np.zeros((0, len(LABELS)), dtype=np.int64))
        self._artist_of = Growing(np.zeros(0, dtype=np.int64))
        self._genre_of = Growing(np.zeros(0, dtype=np.int64))
        self._names_bytes = 0

    def learn(self, sessions: Sequence[FinishedSession]) -> None:
        """Learn from finished sessions; the result depends on how they are split into calls."""
        for at in range(0, len(sessions), SESSIONS_AT_ONCE):
            self._step(sessions[at : at + SESSIONS_AT_ONCE])
        own, kept = self._tracks.values, np.float32(0.5 ** (len(sessions) / FORGET_SESSIONS))
        own[:, :SQUARES] *= np.where(own[:, BIAS] < 0, kept, np.float32(1))[:, None]

    def make_room(self, most_bytes: int) -> int:
        """Forget the tracks of which least was learned; see `OnlineModel.make_room`."""
        before = len(self._tracks.names)
        while self._tracks.names and self._snapshot_bytes() > most_bytes:
            self._keep(all_but_an_eighth(np.square(self._tracks.learned()[:, :SQUARES]).sum(axis=1)))
        return before - len(self._tracks.names)

    def to_bytes(self) -> bytes:
        return self._packed(np.float32, DIMENSIONS + 2, labels=self._labels.rows)

    def snapshot(self, *, to_merge: bool = False) -> bytes:
        """Return what recommenders need: the state in half precision, to merge also what each row has learned."""
        tables: dict[str, Table[Any]] = {"tracks": self._tracks, "artists": self._artists, "genres": self._genres}
        squares = {f"{name}_squares": table.values[:, SQUARES] for name, table in tables.items()} if to_merge else {}
        return self._packed(np.float16, DIMENSIONS + 1, **squares)

    @staticmethod
    def merged(snapshots: Sequence[bytes]) -> bytes:
        """Return the snapshot of all shards: the mean of each row, weighted by what each shard learned of it.

        A row begins as the same noise in all shards, so its vectors have the same meaning. Raises `ValueError` for
        bytes that are not a snapshot that was made to be merged.
        """
        return _merged([_ShardFactors.read(snapshot) for snapshot in snapshots])

    @classmethod
    def from_bytes(cls, state: bytes, catalogue: Mapping[int, Track]) -> Self:
        """Read what `to_bytes` wrote; a ValueError says that the bytes are not that."""
        about, arrays = unpack(state)
        model = cls(catalogue)
        model._tracks.restore(arrays["ids"].tolist(), arrays["tracks"])
        model._artists.restore(about["artists"], arrays["artists"])
        model._genres.restore(about["genres"], arrays["genres"])
        model._kept = arrays["kept"].copy()
        model._matches = arrays["matches"].copy()
        model._labels = Growing(arrays["labels"])
        model._artist_of = Growing(arrays["artist_of"].astype(np.int64))
        model._genre_of = Growing(arrays["genre_of"].astype(np.int64))
        model._names_bytes = _written_bytes(about["artists"]) + _written_bytes(about["genres"])
        return model

    def _snapshot_bytes(self) -> int:
        vectors = len(self._artists.names) + len(self._genres.names)
        return LAYOUT_BYTES + TRACK_BYTES * len(self._tracks.names) + VECTOR_BYTES * vectors + self._names_bytes

    def _keep(self, rows: Ints) -> None:
        self._tracks.keep(rows)
        self._labels = Growing(self._labels.rows[rows])
        artists, artist_of = np.unique(self._artist_of.rows[rows], return_inverse=True)
        genres, genre_of = np.unique(self._genre_of.rows[rows], return_inverse=True)
        self._artist_of, self._genre_of = Growing(artist_of), Growing(genre_of)
        self._artists.keep(artists)
        self._genres.keep(genres)
        self._names_bytes = _written_bytes(self._artists.names) + _written_bytes(self._genres.names)

    def _packed(self, kind: type[np.floating], width: int, **more: NDArray[Any]) -> bytes:
        return pack(
            {"artists": self._artists.names, "genres": self._genres.names},
            {
                "ids": np.array(self._tracks.names, dtype=np.int32),
                "artist_of": self._artist_of.rows.astype(np.int32),
                "genre_of": self._genre_of.rows.astype(np.int16),
                "tracks": self._tracks.values[:, :width].astype(kind),
                "artists": self._artists.values[:, :width].astype(kind),
                "genres": self._genres.values[:, :width].astype(kind),
                "kept": self._kept,
                "matches": self._matches,
                **more,
            },
        )

    def _rows(self, tracks: Ints) -> Rows:
        known, artists_known, genres_known = (len(table.names) for table in (self._tracks, self._artists, self._genres))
        track = self._tracks.rows_of(tracks.tolist())
        if new := [self._catalogue[id_] for id_ in self._tracks.names[known:]]:
            artists = self._artists.rows_of([met.artist for met in new])
            genres = self._genres.rows_of([met.genre or NO_GENRE for met in new])
            self._names_bytes += _written_bytes(self._artists.names[artists_known:])
            self._names_bytes += _written_bytes(self._genres.names[genres_known:])
            self._artist_of.extend(artists)
            self._genre_of.extend(genres)
            self._labels.extend(labels_of(new))
        return Rows(track, self._artist_of.rows[track], self._genre_of.rows[track])

    def _step(self, sessions: Sequence[FinishedSession]) -> None:
        heard = pad(sessions)
        valid = heard.valid
        rows = self._rows(heard.tracks[valid])
        parts = np.zeros((*valid.shape, DIMENSIONS + 1), dtype=np.float32)
        whole = self._tracks.values.take(rows.track, axis=0)
        whole += self._artists.values.take(rows.artist, axis=0)
        whole += self._genres.values.take(rows.genre, axis=0)
        parts[valid] = whole[:, :SQUARES]
        artists = np.full(valid.shape, -1, dtype=np.int64)
        artists[valid] = rows.artist
        earlier = earlier_of_artist(artists, valid)
        labels = np.full((*valid.shape, len(LABELS)), UNKNOWN)
        labels[valid] = self._labels.rows[rows.track]
        kept: Floats = np.where(valid, self._kept[:, 0][earlier], np.float32(0))
        liking = liking_of(heard.fractions, kept)
        matches = matches_before(labels, weights(liking, valid))
        gradient = session_gradient(parts, matches @ self._matches[:, 0], liking, kept)[valid]
        for table, at, rate in (
            (self._tracks, rows.track, RATE),
            (self._artists, rows.artist, ARTIST_RATE),
            (self._genres, rows.genre, GENRE_RATE),
        ):
            _descend(table.values, at, gradient, rate)
        predicted = liking[valid] + gradient[:, BIAS] / kept[valid]
        self._learn_kept(earlier[valid], gradient[:, BIAS], predicted.astype(np.float32))
        of_matches = gradient[:, BIAS] @ matches[valid]
        self._matches[:, 1] += np.square(of_matches)
        self._matches[:, 0] -= np.float32(MATCH_RATE) * of_matches / np.sqrt(self._matches[:, 1])

    def _learn_kept(self, earlier: Ints, errors: Floats, predicted: Floats) -> None:
        """Move the shares down the squared error of the fractions; the first listen of an artist keeps all."""
        gradient = np.bincount(earlier, errors * predicted, MOST_EARLIER + 1).astype(np.float32)
        gradient[0] = 0
        self._kept[:, 1] += np.square(gradient)
        self._kept[:, 0] -= np.float32(REPEAT_RATE) * gradient / np.sqrt(self._kept[:, 1])
        np.clip(self._kept[:, 0], LEAST_KEPT, 1, out=self._kept[:, 0])


def _descend(values: Floats, rows: Ints, gradient: Floats, rate: float) -> None:
    order = np.argsort(rows, kind="stable")
    first = np.flatnonzero(np.diff(rows[order], prepend=-1))
    summed, moved = np.add.reduceat(gradient[order], first, axis=0), rows[order[first]]
    moving = values.take(moved, axis=0)
    squares = moving[:, SQUARES]
    squares += np.vecdot(summed, summed) / np.float32(SQUARES)
    moving[:, :SQUARES] -= summed * (np.float32(rate) / np.sqrt(squares))[:, None]
    values[moved] = moving


def session_gradient(parts: Floats, known: Floats, liking: Floats, kept: Floats) -> Floats:
    """Return the gradient of the sessions' loss by each listen's vector and bias, shape (b, n, DIMENSIONS + 1).

    `parts` has that shape. Of shape (b, n): what matching labels add to each logit, and `kept`, the ρ_k, 0 where a
    session has no listen.
    """
    vectors, valid = parts[..., :BIAS], kept > 0
    weight = weights(liking, valid)
    evidence = kept.copy()
    evidence[:, 0] = 0  # nobody recommended the first
    before = np.zeros_like(vectors)
    before[:, 1:] = tastes(vectors, weight)[:, :-1]
    logits = parts[..., BIAS] + known + np.vecdot(before, vectors)
    logits[:, 1:] += user_biases(logits, liking, evidence)[:, :-1]
    error = evidence * (expit(logits) - liking)
    gradient = np.empty_like(parts)
    gradient[..., BIAS] = error
    # A vector takes part twice: as the target, and in the taste before every later listen.
    gradient[..., :BIAS] = error[..., None] * before
    scaled = vectors[:, 1:] * (error[:, 1:] / root_lengths(valid.shape[1] - 1))[..., None]
    later = np.cumsum(scaled[:, ::-1], axis=1)[:, ::-1]
    gradient[:, :-1, :BIAS] += weight[:, :-1, None] * later
    np.clip(gradient, -MOST_GRADIENT, MOST_GRADIENT, out=gradient)
    gradient += np.float32(DECAY) * parts
    return gradient


class _Named:
    """Rows of a table by name; nothing here holds the interpreter for long, as arrays made of long lists would."""

    def __init__(self, names: Sequence[str], table: Floats) -> None:
        self._row_of = {name: row for row, name in enumerate(names)}
        self._table = table

    def mean(self) -> Floats:
        return self._table.mean(axis=0) if len(self._table) else np.zeros(DIMENSIONS + 1, dtype=np.float32)

    def rows(self, names: Sequence[str], otherwise: NDArray[Any]) -> Floats:
        """Return the row of each name, shape (n, DIMENSIONS + 1); `otherwise` for one that has none."""
        unknown, row_of = len(self._table), self._row_of
        rows = np.fromiter((row_of.get(name, unknown) for name in names), dtype=np.int64, count=len(names))
        return np.vstack([self._table, otherwise]).astype(np.float32)[rows]


class Factors:
    """A snapshot, to look vectors up in."""

    def __init__(self, about: Mapping[str, list[str]], arrays: Arrays) -> None:
        sizes = {"tracks": len(arrays["ids"]), **{part: len(about[part]) for part in ("artists", "genres")}}
        for part, size in sizes.items():
            if arrays[part].shape != (size, DIMENSIONS + 1):
                raise ValueError(f"the factors of {size} {part} have the shape {arrays[part].shape}")
        matches = arrays.get("matches", np.zeros(0))  # a snapshot of format 4 has none
        kept = arrays.get("kept", np.zeros(0))  # nor one of format 5
        if kept.shape != (MOST_EARLIER + 1, 2) or matches.shape != (len(LABELS), 2):
            raise ValueError(f"the effects of an artist and of labels have the shapes {kept.shape}, {matches.shape}")
        # by number of earlier listens of the artist in the session, the share of a fraction that they leave
        self.kept: Floats = kept[:, 0].copy()
        self.matches: Floats = matches[:, 0].copy()  # what a match of each label is worth
        ids = arrays["ids"].astype(np.int64)
        self._order = np.argsort(ids)
        self._ids = ids[self._order]
        self._tracks = arrays["tracks"].astype(np.float32)
        self._artists = _Named(about["artists"], arrays["artists"].astype(np.float32))
        self._genres = _Named(about["genres"], arrays["genres"].astype(np.float32))

    def of(
        self,
        tracks: Ints,
        artists: Sequence[str],
        artist_of: NDArray[np.int32],
        genres: Sequence[str | None],
        genre_of: NDArray[np.int32],
        dtype: type[np.floating[Any]] = np.float32,
    ) -> NDArray[Any]:
        """Return vectors and biases of tracks, shape (n, DIMENSIONS + 1), computed in single precision.

        An unheard track is worth its artist and genre; `artist_of` and `genre_of`, shape (n,), are numbers of names.
        """
        of_artists = self._artists.rows(artists, np.zeros(DIMENSIONS + 1))
        of_genres = self._genres.rows([name or NO_GENRE for name in genres], self._genres.mean())
        vectors = np.empty((len(tracks), DIMENSIONS + 1), dtype=dtype)
        for some in blocks(len(tracks)):
            block = of_artists[artist_of[some]] + of_genres[genre_of[some]]
            if len(self._ids):
                at = np.minimum(np.searchsorted(self._ids, tracks[some]), len(self._ids) - 1)
                met = self._ids[at] == tracks[some]
                block[met] += self._tracks[self._order[at[met]]]
            vectors[some] = block
        return vectors


def read_factors(snapshot: bytes) -> Factors:
    """Read what `FactorModel.snapshot` wrote. Raises `ValueError`: the bytes are not that."""
    return Factors(*unpack(snapshot))


class _ShardFactors(NamedTuple):
    artists: list[str]
    genres: list[str]
    arrays: Arrays

    @classmethod
    def read(cls, snapshot: bytes) -> _ShardFactors:
        tables = ("tracks", "artists", "genres")
        squares = [f"{table}_squares" for table in tables]
        about, arrays = unpack_to_merge(
            snapshot, ("ids", "artist_of", "genre_of", "kept", "matches", *tables, *squares)
        )
        Factors(about, arrays)  # which checks the shapes
        return cls(about["artists"], about["genres"], arrays)

    def rows(self, table: str) -> tuple[Floats, Floats]:
        """Return vectors and biases of a table, and how much was learned of each."""
        squares = self.arrays[f"{table}_squares"]
        return self.arrays[table].astype(np.float32), squares - np.float32(FIRST_SQUARES)


def _merged(shards: Sequence[_ShardFactors]) -> bytes:
    ids, rows_of_tracks = _in_all([shard.arrays["ids"] for shard in shards])
    artists, rows_of_artists = _in_all([np.array(shard.artists, dtype=object) for shard in shards])
    genres, rows_of_genres = _in_all([np.array(shard.genres, dtype=object) for shard in shards])
    artist_of, genre_of = np.zeros(len(ids), dtype=np.int32), np.zeros(len(ids), dtype=np.int16)
    for shard, tracks, of_artist, of_genre in zip(shards, rows_of_tracks, rows_of_artists, rows_of_genres, strict=True):
        artist_of[tracks] = of_artist[shard.arrays["artist_of"]]
        genre_of[tracks] = of_genre[shard.arrays["genre_of"]]
    means = {
        table: mean_by_evidence(len(names), rows, [shard.rows(table) for shard in shards]).astype(np.float16)
        for table, names, rows in (
            ("tracks", ids, rows_of_tracks),
            ("artists", artists, rows_of_artists),
            ("genres", genres, rows_of_genres),
        )
    }
    effects = {}
    for name in ("kept", "matches"):
        numbers = [shard.arrays[name] for shard in shards]
        each = np.arange(len(numbers[0]))
        learned = [(one[:, :1], one[:, 1] - np.float32(FIRST_SQUARES)) for one in numbers]
        effects[name] = np.column_stack(
            [mean_by_evidence(len(each), [each] * len(shards), learned), sum(one[:, 1] for one in numbers)]
        )
    return pack(
        {"artists": artists.tolist(), "genres": genres.tolist()},
        {
            "ids": ids.astype(np.int32),
            "artist_of": artist_of,
            "genre_of": genre_of,
            **means,
            **{name: effect.astype(np.float32) for name, effect in effects.items()},
        },
    )


def _in_all(names: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], list[Ints]]:
    every, rows = np.unique(np.concatenate(names), return_inverse=True)
    return every, np.split(rows, np.cumsum([len(some) for some in names])[:-1])


def _written_bytes(names: Sequence[str]) -> int:
    return sum(len(json.dumps(name)) + 1 for name in names)


def _new_tracks(ids: Sequence[int]) -> Floats:
    return _first(mix(_SEED, np.array(ids)), _TRACK_NOISE)


def _new_artists(names: Sequence[str]) -> Floats:
    return _first(mix(keys_of_texts(names), _ARTIST_STREAM), _ARTIST_NOISE)


def _new_genres(names: Sequence[str]) -> Floats:
    rows = _first(mix(keys_of_texts(names), _GENRE_STREAM), _GENRE_NOISE)
    rows[:, BIAS] = _FIRST_BIAS
    return rows


def _first(keys: Keys, deviation: float) -> Floats:
    """Return the rows that are learned from: noise, which tells them apart, and the first sum of squares."""
    rows = small_noise(keys, DIMENSIONS + 2, deviation)
    rows[:, SQUARES] = FIRST_SQUARES
    return rows
