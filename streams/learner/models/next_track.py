"""`next_track`: what is played next, for any log of events and with no rule of a domain.

One pass, event by event. An *item graph* keeps for every item its neighbours: with an earlier item of the same user,
`l` events ago, both of value above 0 ::

    near += value · value' / l        wide += value · value' / l ** 0.3

`near` is kept by direction. *Vectors* of items are learned next to it (`next_track_gradients`). *Candidates* are the
neighbours of the user's last items, what is popular, and, where users play items again, their own last ones. A
*stacker*, a softmax over the candidates, learns online which features say what is played, by Adagrad (Duchi, Hazan and
Singer, JMLR 2011): linear weights, shared and by length of the history, and a layer of hidden units. Most features are
logarithms of sums over the history, so the stacker also learns how much popularity is divided out. One says how much of
a sum is the present session's, which ends after a pause of `SESSION_GAP_MS`; two are of sums over the last skips,
events with a value below `SKIP_BELOW`. Events of one user at the same instant have no order: the stacker
learns from none of them what predicts another. A time of 0 is unknown.

*Impressions* are items that were on a user's screen. What is played then was chosen from these, so the stacker learns
the choice among them, whoever chose them: otherwise it would learn what is shown often. Of each candidate one feature
says how often it was shown, and how long ago, since the user played it last.

Memory is bounded: `neighbours` an item, in sets as in a processor's cache, so that one cache line says whether an item
is there; the lightest of a set makes place, as in Space-Saving (Metwally, Agrawal and El Abbadi, ICDT 2005), and a
newcomer starts from its own weight. When all items have more than `most_links` neighbours, each keeps half as many. The
lightest items and the users longest away are forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from types import ModuleType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from botify.core.keyed_random import mix, uniform
from botify.core.numba_cache import plain_array, use_own_cache
from botify.streams.learner.models.next_track_state import (
    BEGUN,
    BY_EVENT,
    BY_IMPRESSION,
    BY_ITEM,
    BY_USER,
    COUNTED,
    CUT_WIDE,
    DEFAULTS,
    DIMENSIONS,
    FIRST_SPREAD,
    IMPRESSIONS,
    WAYS,
    Cells,
    Events,
    Floats,
    Histories,
    Ints,
    NextTrackSettings,
    Questions,
    Rows,
    State,
    begun_of,
    cells_of,
    empty_state,
    narrowed,
    popular,
    scratch_for,
)
from botify.streams.learner.models.tables import RowTable, all_but, pack, small_noise, unpack

log = logging.getLogger(__name__)

ONE_SERVED_IN = 8
CHUNK = 512  # events and impressions between two renewals of what changes slowly: decay, popular items, forgetting
POOL_EVERY = 2048
_RESCALE_AT = 40.0  # doublings after which forward decay starts again from 1
NO_TRACK = -1


def loops() -> ModuleType:
    """Return the compiled loops, `next_track_kernels`; importing them loads numba."""
    use_own_cache()
    from botify.streams.learner.models import next_track_kernels

    return next_track_kernels


class Impressions(NamedTuple):
    """What each of n users was shown, one after another in `tracks` and `times_ms`, oldest first, shape (m,)."""

    tracks: Ints
    times_ms: Ints
    lengths: Ints  # shape (n,)


class NextTrack:
    """Item graph, histories and stacker; the seed chooses the events that the stacker learns from.

    Examples
    --------
    >>> model = NextTrack()
    >>> model.learn([1, 1, 2, 2, 3], [7, 8, 7, 8, 7], [1, 1, 1, 1, 1], [1, 2, 3, 4, 5])
    >>> tracks, scores = model.rank([3], 2)
    >>> tracks.tolist()
    [[8, -1]]
    """

    name = "next_track"

    def __init__(self, settings: NextTrackSettings = DEFAULTS, seed: int = 0) -> None:
        self._settings = settings
        self._seed = seed
        self._run = loops()
        self._items = RowTable()
        self._users = RowTable()
        self._state = empty_state(settings, seed=seed)
        self._scratch = scratch_for(0, settings)
        self._constants = cells_of(settings, seed)

    @property
    def events(self) -> int:
        return int(self._state.clock[0])

    @property
    def items(self) -> int:
        return len(self._items)

    def knows(self, tracks: ArrayLike) -> NDArray[np.bool_]:
        """Return which tracks are known, shape as `tracks`: those that were learned from and not forgotten."""
        return self._items.rows_of(np.asarray(tracks, dtype=np.int64)) >= 0

    def learn(
        self,
        users: ArrayLike,
        tracks: ArrayLike,
        values: ArrayLike,
        times_ms: ArrayLike,
        served: ArrayLike | None = None,
        shown: ArrayLike | None = None,
    ) -> None:
        """Learn from events in order, all of shape (n,); the result does not depend on how they are cut into calls.

        A value of more than 0, at most 1, attracts, any other only excludes. Of those `served`, which a recommender
        chose, one in `ONE_SERVED_IN` teaches the vectors and the stacker: what is played there is what was served.
        Those `shown` are impressions; items are known by what was played.
        """
        whose, what = np.asarray(users, dtype=np.int64), np.asarray(tracks, dtype=np.int64)
        liked, when = plain_array(values, np.float32), plain_array(times_ms, np.int64)
        chosen = np.ones(len(whose), dtype=np.bool_) if served is None else ~np.asarray(served, dtype=np.bool_)
        seen = np.zeros(len(whose), dtype=np.bool_) if shown is None else plain_array(shown, np.bool_)
        for part in self._chunks(len(whose)):
            if self._counted % CHUNK == 0:
                self._renew()
            people, played = self._users.rows_for(whose[part]), ~seen[part]
            heard = self._items.rows_for(what[part][played])
            items = np.zeros(len(people), dtype=np.int64)
            items[played], items[~played] = heard, self._items.rows_of(what[part][~played])
            self._make_room()
            fresh = np.unique(heard[~self._state.inputs[heard].any(axis=1)])
            self._state.inputs[fresh] = small_noise(mix(self._seed, self._items.ids[fresh]), DIMENSIONS, FIRST_SPREAD)
            lessons = self._lessons(chosen[part], played)
            events = Events(people, items.astype(np.int32), liked[part], when[part], seen[part], *lessons)
            self._run.learn_events(self._state, events, self._cells(), self._scratch)

    def rank(
        self, users: ArrayLike, k: int, exclude_history: bool = True, asked_ms: ArrayLike | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rank for n users by their own kept events, best first; both results have the shape (n, k).

        `asked_ms` tells whether the last event's session is over; it is not where this is 0 or missing. A track is -1
        where there are fewer; scores are logarithms, up to a constant for each user.
        """
        rows = self._users.rows_of(np.asarray(users, dtype=np.int64))
        asked = Questions(rows, _moments(asked_ms, len(rows)), exclude_history)
        items, scores = _no_answers(len(rows), k)
        if self.events:
            self._run.rank_users(self._state, asked, self._cells(), self._scratch, items, scores)
        return self._tracks(items), scores

    def rank_histories(
        self,
        tracks: ArrayLike,
        values: ArrayLike,
        lengths: ArrayLike,
        k: int,
        exclude_history: bool = True,
        times_ms: ArrayLike | None = None,
        asked_ms: ArrayLike | None = None,
        among: ArrayLike | None = None,
        shown: Impressions | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rank for n histories as `rank`, one after another in `tracks` and `values`, oldest event first, shape (m,).

        `lengths`, shape (n,), add up to m. `times_ms` of events may be 0 or missing where unknown. `among` ranks as if
        there were no other tracks than these and those of the history.
        """
        rows = self._items.rows_of(np.asarray(tracks, dtype=np.int64)).astype(np.int32)
        starts = _starts(np.asarray(lengths, dtype=np.int64))
        liked, when = plain_array(values, np.float32), _moments(times_ms, len(rows))
        nothing = np.empty(0, dtype=np.int64)
        seen = shown or Impressions(nothing, nothing, np.zeros(len(starts) - 1, dtype=np.int64))
        on_screen = self._items.rows_of(seen.tracks).astype(np.int32), seen.times_ms, _starts(seen.lengths)
        asked = _moments(asked_ms, len(starts) - 1)
        histories = Histories(rows, liked, when, starts, asked, exclude_history, *on_screen)
        items, scores = _no_answers(len(starts) - 1, k)
        if self.events and among is None:
            self._run.rank_histories(self._state, histories, self._cells(), self._scratch, items, scores)
        elif self.events:
            state, taken = self._limited_to(np.asarray(among, dtype=np.int64))
            for at in range(len(items)):
                self._scratch.place_of[:-1] = taken  # which the kernel clears
                own = slice(at, at + 2)
                one = histories._replace(
                    starts=starts[own], now_ms=asked[at : at + 1], shown_starts=histories.shown_starts[own]
                )
                self._run.rank_histories(
                    state, one, self._cells(), self._scratch, items[at : at + 1], scores[at : at + 1]
                )
            self._scratch.place_of[:-1] = -1
        return self._tracks(items), scores

    def _limited_to(self, tracks: Ints) -> tuple[State, Rows]:
        """Return a state that offers some tracks only, and the places that keep the kernel from all others."""
        rows, places = np.sort(self._items.rows_of(tracks)), self._scratch.place_of
        rows = rows[rows >= 0]
        taken = np.full(len(places) - 1, len(places) - 1, dtype=places.dtype)
        taken[rows] = -1
        pool = rows[popular(self._state.plays[rows], self._state.recent[rows])].astype(np.int32)
        clock = self._state.clock.copy()
        clock[1] = len(pool)
        return self._state._replace(pool=pool, clock=clock), taken

    def evidence(self, tracks: ArrayLike, values: ArrayLike, candidates: ArrayLike) -> NDArray[np.float64]:
        """Return each of m events' part, oldest first, of the sum by which n candidates are cut, shape (m, n)."""
        rows, wanted = (self._items.rows_of(np.asarray(ids, dtype=np.int64)) for ids in (tracks, candidates))
        liked, cells, state = np.asarray(values), self._cells(), self._state
        anchors = np.flatnonzero((rows >= 0) & (liked > 0))[::-1][: len(cells.near_ranks)]
        found = np.zeros((len(rows), len(wanted)))
        for rank, at in enumerate(anchors.tolist()):
            forward, backward, wide = state.weights[rows[at]].T
            worth = cells.near_ranks[rank] * (forward + 0.5 * backward) + CUT_WIDE * cells.wide_ranks[rank] * wide
            linked = (state.neighbours[rows[at]][:, None] == wanted) & (wanted >= 0)
            found[at] = worth @ linked * liked[at] / np.sqrt(state.plays[rows[at]] / cells.growth + 2.0)
        return found

    def to_bytes(self) -> bytes:
        """Return the whole state; of the room for neighbours only what is taken, at first a tenth."""
        arrays = self.arrays()
        neighbours, weights = arrays.pop("neighbours"), arrays.pop("weights")
        taken = neighbours >= 0
        arrays |= {"taken": np.packbits(taken), "entries": neighbours[taken], "entry_weights": weights[taken]}
        return pack(self.about(), arrays)

    def about(self) -> dict[str, Any]:
        """Return what the arrays do not say: the settings and the seed."""
        return {"settings": asdict(self._settings), "seed": self._seed}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state's arrays by name, without free room; they are views."""
        ids = {"item_ids": self._items.ids, "user_ids": self._users.ids}
        sizes = dict.fromkeys(BY_ITEM, self._items.places)
        sizes |= dict.fromkeys(BY_USER, self._users.places) | dict.fromkeys(BY_EVENT, self.events)
        sizes |= dict.fromkeys(BY_IMPRESSION, int(self._state.clock[IMPRESSIONS]))
        return ids | {name: array[: sizes.get(name)] for name, array in self._state._asdict().items()}

    @classmethod
    def from_bytes(cls, state: bytes) -> Self:
        """Read what `to_bytes` wrote. Raises `ValueError`: the bytes are not that."""
        about, arrays = unpack(state)
        shape = len(arrays["plays"]), about["settings"]["neighbours"]
        taken = np.unpackbits(arrays.pop("taken"), count=shape[0] * shape[1]).reshape(shape) > 0
        return cls.from_arrays(about, arrays | with_room(taken, arrays.pop("entries"), arrays.pop("entry_weights")))

    @classmethod
    def from_arrays(cls, about: Mapping[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return the model that `about` and `arrays` describe; those of users and events may be missing."""
        model = cls(NextTrackSettings(**about["settings"]), about["seed"])
        model._items = RowTable(arrays.pop("item_ids"))
        model._users = RowTable(arrays.pop("user_ids", None))
        model._state.clock[:] = arrays["clock"]
        model._make_room()
        for name, array in arrays.items():
            getattr(model._state, name)[: len(array)] = array
        return model

    def _tracks(self, items: Rows) -> NDArray[np.int64]:
        return np.where(items >= 0, self._items.ids[items], NO_TRACK) if self.events else items.astype(np.int64)

    def _chunks(self, n: int) -> Iterator[slice]:
        begin = 0
        while begin < n:
            end = min(n, begin + CHUNK - self._counted % CHUNK)
            yield slice(begin, end)
            begin = end

    @property
    def _counted(self) -> int:
        return int(self._state.clock[COUNTED])

    def _lessons(
        self, chosen: NDArray[np.bool_], played: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Choose which of the next events teach the vectors, and which the stacker, by their place in the stream."""
        # Counted at the chunk's start, so that the choice does not depend on the cut into calls.
        begun = begun_of(self._state.clock, CHUNK)
        share = min(1.0, max(self._settings.least_share, (self._settings.trained_fully / max(begun, 1)) ** 2))
        keys = mix(self._seed, self.events + np.cumsum(played) - played)
        return chosen | (uniform(keys, 1) < 1 / ONE_SERVED_IN), uniform(keys, 0) < share

    def _cells(self) -> Cells:
        clock, begun = self._state.clock, begun_of(self._state.clock, CHUNK)
        return self._constants._replace(
            growth=float(2.0 ** ((begun - clock[2]) / self._settings.half_life)),
            recent_growth=float(2.0 ** ((begun - clock[3]) / self._settings.recent_half_life)),
        )

    def _renew(self) -> None:
        self._narrow()
        state, settings = self._state, self._settings
        state.clock[BEGUN] = self.events
        cells = self._cells()
        if np.log2(cells.growth) > _RESCALE_AT:
            state.weights[:] /= np.float32(cells.growth)
            state.plays[:] /= cells.growth
            state.clock[2] = self.events
        if np.log2(cells.recent_growth) > _RESCALE_AT:
            state.recent[:] /= cells.recent_growth
            state.clock[3] = self.events
        if len(self._items) > settings.most_items:
            self.forget_items(settings.most_items * 7 // 8)
        if len(self._users) > settings.most_users:
            self._forget_users()
        if self._counted % POOL_EVERY == 0 or self._counted < 4 * POOL_EVERY:
            known = self._items.places
            pool = popular(state.plays[:known], state.recent[:known])
            state.pool[: len(pool)] = pool
            state.clock[1] = len(pool)

    def _narrow(self) -> None:
        while len(self._items) * (width := self._settings.neighbours) > self._settings.most_links and width > WAYS:
            self._settings = replace(self._settings, neighbours=width // 2)
            self._state = narrowed(self._state, self._items.places)

    def forget_items(self, most: int) -> None:
        """Forget all but the `most` items of the most plays, decayed; between two chunks of `CHUNK` events."""
        state, used = self._state, self._items.places
        gone = all_but(np.where(self._items.ids >= 0, state.plays[:used], -1.0), most)
        state.weights[:used][gone] = 0
        state.neighbours[:used][gone] = -1
        lost = gone[state.neighbours[:used]] & (state.neighbours[:used] >= 0)
        state.neighbours[:used][lost] = -1
        state.weights[:used][lost] = 0
        state.plays[:used][gone] = 0
        state.recent[:used][gone] = 0
        for vectors in (state.inputs, state.outputs, state.vector_squares):
            vectors[:used][gone] = 0
        for kept in (state.ring_items, state.shown_items):
            kept[gone[kept] & (kept >= 0)] = -1
        self._items.free(np.flatnonzero(gone))

    def _forget_users(self) -> None:
        used = self._users.places
        gone = all_but(self._state.user_last[:used], self._settings.most_users * 7 // 8)
        self._state.user_last[:used][gone] = -1
        self._state.user_shown[:used][gone] = -1
        self._users.free(np.flatnonzero(gone))

    def _make_room(self) -> None:
        """Grow the arrays to the number of items and users, at least twofold."""
        state, items, users = self._state, self._items.places, self._users.places
        if items > len(state.plays):
            size = max(1024, 2 * items)
            grown = empty_state(self._settings, size)
            for name in BY_ITEM:
                getattr(grown, name)[: len(state.plays)] = getattr(state, name)
            state = state._replace(**{name: getattr(grown, name) for name in BY_ITEM})
            self._scratch = scratch_for(size, self._settings)
        if users > len(state.user_last):
            more = max(1024, 2 * users) - len(state.user_last)
            state = state._replace(
                user_last=np.pad(state.user_last, (0, more), constant_values=-1),
                user_shown=np.pad(state.user_shown, (0, more), constant_values=-1),
            )
        state = _with_room_in_ring(state, BY_EVENT, self.events, self._settings.most_events)
        impressions = int(state.clock[IMPRESSIONS])
        self._state = _with_room_in_ring(state, BY_IMPRESSION, impressions, self._settings.most_impressions)


def _with_room_in_ring(state: State, names: Sequence[str], used: int, most: int) -> State:
    """Return a state whose ring has room for a chunk more; its places are numbers modulo its size.

    The size is final before it wraps.
    """
    size = len(getattr(state, names[0]))
    if (wanted := min(used + CHUNK, most)) <= size:
        return state
    more = min(2 * wanted, most) - size
    return state._replace(**{name: np.pad(getattr(state, name), (0, more)) for name in names})


def with_room(taken: NDArray[np.bool_], entries: NDArray[Any], weights: Floats) -> dict[str, NDArray[Any]]:
    """Return `neighbours` and `weights` as `State` has them.

    `taken`, shape (items, width), marks the places with a neighbour; `entries`, shape (n,), and `weights`, shape (n,
    3), are those row by row.
    """
    arrays = {"neighbours": np.full(taken.shape, -1, np.int32), "weights": np.zeros((*taken.shape, 3), np.float32)}
    arrays["neighbours"][taken], arrays["weights"][taken] = entries, weights
    return arrays


def _starts(lengths: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(lengths)])


def _no_answers(n: int, k: int) -> tuple[Rows, Floats]:
    return np.full((n, k), NO_TRACK, dtype=np.int32), np.full((n, k), -np.inf, dtype=np.float32)


def _moments(times_ms: ArrayLike | None, n: int) -> Ints:
    return np.zeros(n, dtype=np.int64) if times_ms is None else plain_array(times_ms, np.int64)


def warm_up() -> None:
    """Compile the loops or read them from the cache; processes that learn or serve do so before they are ready."""
    model = NextTrack()
    model.learn([1, 1, 2], [7, 8, 7], [1.0, 1.0, 1.0], [1, 2, 3])
    model.rank_histories([7], [1.0], [1], 1)
    log.info("the loops of next_track are compiled")
