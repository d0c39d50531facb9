"""`fism`: vectors of genres, artists and tracks, learned from every listen.

A track's vector is the sum of its own, its artist's and its genre's: what is learned of a genre holds at once for a
track without listens. The predicted fraction of track j after a session with the taste z is ::

    ρ_k · σ(b_j + u + ⟨z, x_j⟩ + Σ v_l m_l)        x_j = own_j + artist_j + genre_j

where u is the user bias, k the number of the session's listens of j's artist, and ρ_k the share that they leave: one
number for each count, learned as least squares, and 1 for the first. It is a factor, because a term of the logit would
hardly lower what is liked most. m_l says how far label l of the track matches the session, and v_l what that is worth.
The loss is the cross-entropy of σ with the liking, which is the fraction without the effect of ρ_k; a listen has the
weight ρ_k. SGD with Adagrad's rates, one for each row (Duchi, Hazan and Singer, JMLR 2011), one listen at a time,
through both the target's vector and those in z. `scoring` defines z, u and m_l, after Kabbur et al. (KDD 2013); the
hierarchy is that of Koenigstein, Dror and Koren (RecSys 2011).

Negative evidence is forgotten: a track that is worse than its artist and genre (its own part of b is negative) loses
half of its own part in `FORGET_SESSIONS` sessions, so that it is explored again. If another track does not fit, those
of which least was learned are forgotten: their own part is nearest to its initial noise. Artists and genres are removed
with their last track. Of more than `MOST_SESSIONS` open sessions the eighth that is longest without a listen is.

What a recommender chose and the listener cut short tells what tracks are worth to a listener; what listeners choose
themselves tells what they play next, which is learned by `next_track`. The model counts both, older listens less.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import Keys, keys_of_texts, mix
from botify.core.numba_cache import plain_array, use_own_cache
from botify.schemas.events import Track
from botify.schemas.track_columns import LABELS, labels_of
from botify.schemas.training import TrainingColumns
from botify.streams.learner.models.tables import (
    LAYOUT_BYTES,
    Arrays,
    Growing,
    RowTable,
    Table,
    all_but,
    blocks,
    mean_by_evidence,
    pack,
    small_noise,
    unpack,
    unpack_to_merge,
)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

DIMENSIONS = 64
BIAS = DIMENSIONS  # column of the bias b, behind the vector
SQUARES = DIMENSIONS + 1
"""Column of the sum of the row's mean squared gradients, behind the bias; snapshots leave it out."""
RATE, ARTIST_RATE, GENRE_RATE, REPEAT_RATE, MATCH_RATE = 0.2, 0.2, 0.06, 0.1, 0.1
FIRST_MATCH = 1.0  # what a match of any label is worth before anything was learned
INDIFFERENT = 0.4  # the fraction that is neither positive nor negative evidence
MOST_EARLIER = 16  # listens of an artist are counted up to here
USER_BIAS_PRIOR = 0.5  # prior weight, in listens, that holds the user bias at 0
MOST_USER_BIAS = 8.0
LEAST_KEPT = 0.05  # bound of ρ_k; it divides
FIRST_SQUARES = 0.5  # where the sums begin
DECAY = 0.002
FORGET_SESSIONS = 5_000
TOLD_LISTENS = 100_000  # after which a listen counts half
MOST_LISTENS = 64  # kept of a session; later listens are not learned from
MOST_SESSIONS = 100_000  # open at a time: 56 MB
CHUNK = 512  # listens between two moments at which negative evidence is forgotten
CLOSE_EVERY = 32 * CHUNK  # listens between two moments at which ended sessions, and too many open ones, are forgotten
_SEED = 0x66697374
_ARTIST_STREAM, _GENRE_STREAM = 1, 2  # keep an artist and a genre of one name apart
_FIRST_BIAS = -2.0
_TRACK_NOISE, _ARTIST_NOISE, _GENRE_NOISE = 0.035, 0.07, 0.07
NO_GENRE = ""
TABLES = ("tracks", "artists", "genres")
VECTOR_BYTES = 2 * (DIMENSIONS + 1)
TRACK_BYTES = 4 + 4 + 2 + VECTOR_BYTES
"""Of a track in a snapshot: its id, where its artist and genre are, and its own part."""
NEW_TRACK_BYTES = TRACK_BYTES + 2 * (VECTOR_BYTES + 50)  # with an artist and a genre that are new, too


class Listens(NamedTuple):
    """Listens as columns of shape (n,), rows instead of ids; `first` is the number of those before them."""

    users: Ints
    tracks: Ints
    fractions: Floats
    sessions: NDArray[np.uint64]
    ended: NDArray[np.bool_]
    served: NDArray[np.bool_]  # whether a recommender chose the track
    first: int


class Learned(NamedTuple):
    """What a step moves: the parts of vectors, shape (rows, DIMENSIONS + 2), ρ_k and v_l, each with their squares.

    `told` counts the listens that a recommender chose and the listener cut short, and those that listeners chose.
    """

    tracks: Floats
    artists: Floats
    genres: Floats
    kept: Floats
    matches: Floats
    told: Floats


class Catalogued(NamedTuple):
    """Of each track the rows of its artist and its genre, shape (n,), and its labels, shape (n, len(LABELS))."""

    artist: Ints
    genre: Ints
    labels: Ints


class OpenSessions(NamedTuple):
    """The session of each of u users, shape (u,) or (u, width); its length is 0 where none is open."""

    lengths: Ints
    sessions: NDArray[np.uint64]
    last: Ints  # number of the last listen
    surprise: Floats  # numerator and denominator of the user bias, see `scoring`
    slope: Floats
    tracks: NDArray[np.int32]  # rows of the first `lengths`; -1 where the track was forgotten
    weights: Floats

    @classmethod
    def empty(cls) -> Self:
        """Return room for nobody."""
        tracks, weights = np.zeros((0, MOST_LISTENS), dtype=np.int32), np.zeros((0, MOST_LISTENS), dtype=np.float32)
        numbers, floats = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        return cls(numbers, numbers.astype(np.uint64), numbers, floats, floats, tracks, weights)

    def with_room(self, users: int) -> OpenSessions:
        """Return the sessions with room for at least this number of users."""
        if users <= len(self.lengths):
            return self
        more = max(1024, 2 * users) - len(self.lengths)
        wider = {name: np.pad(array, [(0, more), (0, 0)][: array.ndim]) for name, array in self._asdict().items()}
        return self._replace(**wider)


@cache
def loops() -> ModuleType:
    """Return the compiled loops, `factors_kernels`; importing them loads numba."""
    use_own_cache()
    from botify.streams.learner.models import factors_kernels

    return factors_kernels


class FactorModel:
    """The factors, and how they learn; a track is looked up in the catalogue when it is met for the first time.

    Examples
    --------
    >>> from botify.schemas.events import Listen
    >>> from botify.schemas.training import listens_of, training_batch_of
    >>> heard = [Listen(f"{at}", 42, 7 + at, 0.9, at, "a", at, False, None, {}, None, None) for at in range(2)]
    >>> model = FactorModel({7: Track(7, "a", None, "jazz", "x"), 8: Track(8, "a", None, "jazz", "y")})
    >>> expected = model.learn_listens(listens_of(training_batch_of("id", 0, 0, 2, list(enumerate(heard))), b""))
    >>> FactorModel.from_bytes(model.to_bytes(), {}).snapshot() == model.snapshot()
    True
    """

    name = "fism"
    is_dear = False
    learns_impressions = False

    def __init__(self, catalogue: Mapping[int, Track]) -> None:
        self._catalogue = catalogue
        self._tracks = Table[int](DIMENSIONS + 2, _new_tracks)
        self._artists = Table[str](DIMENSIONS + 2, _new_artists)
        self._genres = Table[str](DIMENSIONS + 2, _new_genres)
        self._kept = np.tile(np.array([1, FIRST_SQUARES], dtype=np.float32), (MOST_EARLIER + 1, 1))  # ρ_k, its squares
        self._matches = np.tile(np.array([FIRST_MATCH, FIRST_SQUARES], dtype=np.float32), (len(LABELS), 1))  # v_l, too
        self._told = np.zeros(2, dtype=np.float32)
        self._labels = Growing(np.zeros((0, len(LABELS)), dtype=np.int64))
        self._artist_of = Growing(np.zeros(0, dtype=np.int64))
        self._genre_of = Growing(np.zeros(0, dtype=np.int64))
        self._names_bytes = 0
        self._users = RowTable()
        self._open = OpenSessions.empty()
        self._listens = self._began = 0  # listens learned from; sessions since negative evidence was forgotten
        self.cut = 0

    def learn_listens(self, listens: TrainingColumns) -> Floats:
        """Learn from each listen, and return what was expected of it; the state does not depend on the calls' cuts."""
        expected, at = np.full(len(listens), np.nan, dtype=np.float32), 0
        while len(listens):
            chunk, listens = listens.split(CHUNK - self._listens % CHUNK)
            self._learn(chunk, expected[at : at + len(chunk)])
            at += len(chunk)
            if self._listens % CHUNK == 0:
                own, kept = self._tracks.values, np.float32(0.5 ** (self._began / FORGET_SESSIONS))
                own[:, :SQUARES] *= np.where(own[:, BIAS] < 0, kept, np.float32(1))[:, None]
                self._began = 0
                self._told *= np.float32(0.5 ** (CHUNK / TOLD_LISTENS))
            if self._listens % CLOSE_EVERY == 0:
                self._close()
        return expected

    def _learn(self, listens: TrainingColumns, expected: Floats) -> None:
        tracks, users = self._rows(listens.tracks.astype(np.int64)), self._users.rows_for(listens.users)
        self._open = self._open.with_room(self._users.places)
        fractions, sessions = plain_array(listens.fractions, np.float32), plain_array(listens.sessions, np.uint64)
        ended, served = (plain_array(column, np.bool_) for column in (listens.ended, listens.served))
        self._began += loops().learn(
            Listens(users, tracks, fractions, sessions, ended, served, self._listens),
            Learned(
                self._tracks.values, self._artists.values, self._genres.values, self._kept, self._matches, self._told
            ),
            Catalogued(self._artist_of.rows, self._genre_of.rows, self._labels.rows),
            self._open,
            expected,
        )
        self._listens += len(listens)

    def _close(self) -> None:
        lengths, ids = self._open.lengths[: self._users.places], self._users.ids
        self._users.free(np.flatnonzero((lengths == 0) & (ids >= 0)))
        if len(self._users) > MOST_SESSIONS:
            rows = np.flatnonzero(ids >= 0)
            oldest = rows[np.argsort(self._open.last[rows])[: len(rows) - MOST_SESSIONS * 7 // 8]]
            lengths[oldest] = 0
            self._users.free(oldest)

    def make_room(self, most_bytes: int) -> int:
        """Forget the tracks of which least was learned; see `OnlineModel.make_room`."""
        before = len(self._tracks.names)
        most_bytes -= min(most_bytes // 16, CHUNK * NEW_TRACK_BYTES)  # for what is met until room is made again
        while self._tracks.names and self._snapshot_bytes() > most_bytes:
            learned = np.square(self._tracks.learned()[:, :SQUARES]).sum(axis=1)
            self._keep(np.flatnonzero(~all_but(learned, len(learned) * 7 // 8)))
        return before - len(self._tracks.names)

    def to_bytes(self) -> bytes:
        used = self._users.places
        opened = {f"open_{name}": array[:used] for name, array in self._open._asdict().items()}
        is_used = np.arange(MOST_LISTENS) < opened["open_lengths"][:, None]
        opened |= {name: opened[name][is_used] for name in ("open_tracks", "open_weights")}
        counts = np.array([self._listens, self._began])
        return self._packed(
            np.float32, DIMENSIONS + 2, labels=self._labels.rows, users=self._users.ids, counts=counts, **opened
        )

    def snapshot(self, _most_bytes: int = 0, /, *, to_merge: bool = False) -> bytes:
        """Return what recommenders need: the state in half precision, to merge also what each row has learned."""
        tables: tuple[Table[Any], ...] = (self._tracks, self._artists, self._genres)
        squares = {f"{name}_squares": table.values[:, SQUARES] for name, table in zip(TABLES, tables, strict=True)}
        return self._packed(np.float16, DIMENSIONS + 1, **(squares if to_merge else {}))

    @staticmethod
    def merged(snapshots: Sequence[bytes]) -> bytes:
        """Return the snapshot of all shards: the mean of each row, weighted by what each shard learned of it.

        A row begins as the same noise in all shards, so its vectors have the same meaning. Raises `ValueError` for
        bytes that are not a snapshot that was made to be merged.
        """
        return _merged([_ShardFactors.read(snapshot) for snapshot in snapshots])

    @classmethod
    def from_bytes(cls, state: bytes, catalogue: Mapping[int, Track]) -> Self:
        about, arrays = unpack(state)
        model = cls(catalogue)
        model._tracks.restore(arrays["ids"].tolist(), arrays["tracks"])
        model._artists.restore(about["artists"], arrays["artists"])
        model._genres.restore(about["genres"], arrays["genres"])
        model._kept = arrays["kept"].copy()
        model._matches = arrays["matches"].copy()
        model._told = arrays["told"].copy()
        model._labels = Growing(arrays["labels"])
        model._artist_of = Growing(arrays["artist_of"].astype(np.int64))
        model._genre_of = Growing(arrays["genre_of"].astype(np.int64))
        model._names_bytes = _written_bytes(about["artists"]) + _written_bytes(about["genres"])
        model._users = RowTable(arrays["users"])
        model._listens, model._began = arrays["counts"].tolist()
        model._open = OpenSessions.empty().with_room(model._users.places)
        is_used = np.arange(MOST_LISTENS) < arrays["open_lengths"][:, None]
        for name, array in model._open._asdict().items():
            here = array[: len(is_used)]
            here[is_used if name in ("tracks", "weights") else slice(None)] = arrays[f"open_{name}"]
        return model

    def _snapshot_bytes(self) -> int:
        vectors = len(self._artists.names) + len(self._genres.names)
        return LAYOUT_BYTES + TRACK_BYTES * len(self._tracks.names) + VECTOR_BYTES * vectors + self._names_bytes

    def _keep(self, rows: Ints) -> None:
        row_of = np.full(len(self._tracks.names) + 1, -1, dtype=np.int32)  # the last one is of those forgotten before
        row_of[rows] = np.arange(len(rows))
        self._open.tracks[:] = row_of[self._open.tracks]
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
                "told": self._told,
                **more,
            },
        )

    def _rows(self, tracks: Ints) -> Ints:
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
        return track


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
        shapes = {
            "tracks": (len(arrays["ids"]), DIMENSIONS + 1),
            "artists": (len(about["artists"]), DIMENSIONS + 1),
            "genres": (len(about["genres"]), DIMENSIONS + 1),
            "kept": (MOST_EARLIER + 1, 2),
            "matches": (len(LABELS), 2),
            "told": (2,),
        }
        for name, shape in shapes.items():
            found = arrays[name].shape if name in arrays else None  # snapshots of earlier formats lack some
            if found != shape:
                raise ValueError(f"the array {name} of a snapshot has the shape {found}, expected {shape}")
        # by number of earlier listens of the artist in the session, the share of a fraction that they leave
        self.kept: Floats = arrays["kept"][:, 0].copy()
        self.matches: Floats = arrays["matches"][:, 0].copy()  # what a match of each label is worth
        served, chosen = arrays["told"].tolist()
        # of what listens tell, the share that tells what a track is worth; None where they tell nothing, see `Learned`
        self.by_value: float | None = served / (served + chosen) if served + chosen else None
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
    names: dict[str, NDArray[Any]]  # of each table
    arrays: Arrays

    @classmethod
    def read(cls, snapshot: bytes) -> _ShardFactors:
        needed = ("ids", "artist_of", "genre_of", "kept", "matches", "told", *TABLES)
        about, arrays = unpack_to_merge(snapshot, [*needed, *(f"{table}_squares" for table in TABLES)])
        Factors(about, arrays)  # which checks the shapes
        artists, genres = (np.array(about[table], dtype=object) for table in ("artists", "genres"))
        return cls({"tracks": arrays["ids"], "artists": artists, "genres": genres}, arrays)

    def rows(self, table: str) -> tuple[Floats, Floats]:
        """Return vectors and biases of a table, and how much was learned of each."""
        squares = self.arrays[f"{table}_squares"]
        return self.arrays[table].astype(np.float32), squares - np.float32(FIRST_SQUARES)


def _merged(shards: Sequence[_ShardFactors]) -> bytes:
    names, rows, means = {}, {}, {}
    for table in TABLES:
        names[table], rows[table] = _in_all([shard.names[table] for shard in shards])
        learned = [shard.rows(table) for shard in shards]
        means[table] = mean_by_evidence(len(names[table]), rows[table], learned).astype(np.float16)
    ids = names["tracks"]
    artist_of, genre_of = np.zeros(len(ids), dtype=np.int32), np.zeros(len(ids), dtype=np.int16)
    for shard, tracks, of_artist, of_genre in zip(shards, *rows.values(), strict=True):
        artist_of[tracks] = of_artist[shard.arrays["artist_of"]]
        genre_of[tracks] = of_genre[shard.arrays["genre_of"]]
    effects = {}
    for name in ("kept", "matches"):
        numbers = [shard.arrays[name] for shard in shards]
        each = np.arange(len(numbers[0]))
        learned = [(one[:, :1], one[:, 1] - np.float32(FIRST_SQUARES)) for one in numbers]
        effects[name] = np.column_stack(
            [mean_by_evidence(len(each), [each] * len(shards), learned), sum(one[:, 1] for one in numbers)]
        )
    return pack(
        {"artists": names["artists"].tolist(), "genres": names["genres"].tolist()},
        {
            "ids": ids.astype(np.int32),
            "artist_of": artist_of,
            "genre_of": genre_of,
            **means,
            **{name: effect.astype(np.float32) for name, effect in effects.items()},
            "told": np.sum([shard.arrays["told"] for shard in shards], axis=0),
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


def warm_up() -> None:
    """Compile the loop that learns, or read it from the cache; the learner does so before it is ready."""
    one = np.zeros(1, dtype=np.int64)
    listens = one.astype(np.uint32), one, one.astype(np.int32), one.astype(np.float32), one, one.astype(np.uint64)
    FactorModel({0: Track(0, "", None, None, "")}).learn_listens(TrainingColumns(*listens, one > 0, one > 0, one > 0))
