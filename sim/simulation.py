"""The sessions of a world, side by side in columns, each at its own event time."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import Keys, mix, uniform
from botify.sim.listeners.model import BUDGET, Exposure, Floats, Ints, ListenerModel
from botify.sim.schedule import NO_USER, Schedule
from botify.sim.world.model import World

DECISION_MS = 20_000  # time to judge a track, in addition to the part of it that is heard
MOST_TRACKS = 500  # maximum length of a session, for a listener who likes everything
_FIRST_CAPACITY = 32  # most sessions are shorter, and the few long ones must not make all others compare as many tracks

_EMPTY, _LISTENING, _ASKING = 0, 1, 2


@dataclass(frozen=True, slots=True)
class FinishedListens:
    """Finished listens, earliest first, one row for each."""

    slots: Ints  # shape (n,); `ordinals` number the listener's sessions, `positions` the session's listens, both from 0
    users: Ints
    ordinals: Ints
    positions: Ints
    tracks: Ints
    fractions: Floats  # shape (n,)
    time_ms: Ints
    # shape (n,); whether the session ended with the listen; the others wait for a recommendation
    ended: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.slots)

    @classmethod
    def joined(cls, parts: Sequence["FinishedListens"]) -> "FinishedListens":
        """Return the rows of all parts, one part after the other."""
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))

    def where(self, chosen: NDArray[np.bool_ | np.integer]) -> "FinishedListens":
        return FinishedListens(*(getattr(self, column.name)[chosen] for column in fields(self)))


class Simulation:
    """The sessions of a world: slots on which listeners hear tracks and ask for the next.

    `finish_listens` and `answer` alternate. A listener's results depend on the seed, the world and the answers, and
    never on the order in which the slots are served.
    """

    def __init__(self, world: World, model: ListenerModel, schedule: Schedule, seed: int) -> None:
        self._world = world
        self._model = model
        self._schedule = schedule
        self._seed = seed
        self._accepting = True
        slots = schedule.slots
        self._state = np.full(slots, _EMPTY, dtype=np.int8)
        self._due_ms = np.zeros(slots, dtype=np.int64)
        self._user = np.zeros(slots, dtype=np.int64)
        self._ordinal = np.zeros(slots, dtype=np.int64)
        self._position = np.zeros(slots, dtype=np.int64)
        self._turn = np.zeros(slots, dtype=np.int64)
        self._key: Keys = np.zeros(slots, dtype=np.uint64)
        self._budget = np.zeros(slots, dtype=np.int64)
        self._length = np.zeros(slots, dtype=np.int64)
        self._taste = np.zeros((slots, world.catalogue.dimensions))
        # to allocate half a megabyte for each answer would cost more than to fill it
        self._tastes_of_answer = np.empty_like(self._taste)
        self._fraction = np.zeros(slots)
        # tracks and artists that the session has heard, by position; -1 behind its last listen
        self._tracks = np.full((slots, _FIRST_CAPACITY), -1, dtype=np.int32)
        self._artists = np.full((slots, _FIRST_CAPACITY), -1, dtype=np.int32)
        self._fill_slots(np.arange(slots), np.zeros(slots, dtype=np.int64))

    @property
    def running(self) -> bool:
        return bool((self._state != _EMPTY).any())

    @property
    def slots(self) -> int:
        return len(self._state)

    @property
    def asking(self) -> Ints:
        """Slots that wait for a recommendation."""
        return np.flatnonzero(self._state == _ASKING)

    def earliest_ms(self) -> int:
        """Return the earliest event time of an open session; there must be one."""
        return int(self._due_ms[self._state != _EMPTY].min())

    def next_ms(self) -> int | None:
        """Return the event time at which the next listen finishes, if any listener is listening."""
        due_ms = self._due_ms[self._state == _LISTENING]
        return int(due_ms.min()) if len(due_ms) else None

    def stop_accepting(self) -> None:
        """Stop starting sessions; open sessions continue to their end."""
        self._accepting = False
        waiting = (self._state == _LISTENING) & (self._position == 0)
        self._state[waiting] = _EMPTY

    def finish_listens(self, until_ms: int, most: int | None = None) -> FinishedListens:
        """Finish the listens that end at `until_ms` or before, the earliest first and at most `most` of them."""
        slots = np.flatnonzero((self._state == _LISTENING) & (self._due_ms <= until_ms))
        if most is not None and most < len(slots):
            slots = np.sort(slots[np.argpartition(self._due_ms[slots], most)[:most]])
        slots = slots[np.argsort(self._due_ms[slots], kind="stable")]
        positions = self._position[slots]
        ended = (self._budget[slots] <= 0) | (positions + 1 >= self._length[slots])
        heard = self._tracks[slots, positions].astype(np.int64), self._fraction[slots], self._due_ms[slots]
        listens = FinishedListens(slots, self._user[slots], self._ordinal[slots], positions, *heard, ended)
        self._state[slots[~ended]] = _ASKING
        self._fill_slots(slots[ended], listens.time_ms[ended])
        return listens

    def answer(self, slots: Ints, tracks: Ints) -> None:
        """Play a track on each of some slots that wait for one; no slot twice."""
        exposure = self.exposure(slots, tracks)
        positions, fractions = exposure.positions, self._model.fractions(exposure)
        self._make_room(int(positions.max(initial=0)))
        self._tracks[slots, positions] = tracks
        self._artists[slots, positions] = self._world.catalogue.artist_of[tracks]
        self._position[slots] = positions
        self._fraction[slots] = fractions
        self._budget[slots] -= uniform(mix(self._key[slots], positions), BUDGET) >= fractions
        self._play(slots, tracks, fractions)

    def exposure(self, slots: Ints, tracks: Ints) -> Exposure:
        """Return what the listener model is told if each of some slots that wait plays a track; no slot twice."""
        repeated, artist_counts = self._heard_before(slots, tracks, self._world.catalogue.artist_of[tracks])
        return Exposure(
            users=self._user[slots],
            tracks=tracks,
            tastes=self._taste.take(slots, axis=0, out=self._tastes_of_answer[: len(slots)], mode="clip"),
            repeated=repeated,
            artist_counts=artist_counts,
            time_ms=self._due_ms[slots],
            keys=self._key[slots],
            positions=self._position[slots] + 1,
        )

    def abandon(self, slots: Ints) -> None:
        """End sessions without a recommendation."""
        self._fill_slots(slots, self._due_ms[slots])

    def _heard_before(self, slots: Ints, tracks: Ints, artists: NDArray[np.integer]) -> tuple[NDArray[np.bool_], Ints]:
        """Return whether each session has had its track, and how often its artist."""
        repeated, artist_counts = np.empty(len(slots), dtype=np.bool_), np.empty(len(slots), dtype=np.int64)
        positions = self._position[slots]
        is_long = positions >= _FIRST_CAPACITY
        for rows in (np.flatnonzero(~is_long), np.flatnonzero(is_long)):
            if len(rows):
                of, width = slots[rows], int(positions[rows].max()) + 1
                repeated[rows] = (self._tracks[of, :width] == tracks[rows, None]).any(axis=1)
                artist_counts[rows] = (self._artists[of, :width] == artists[rows, None]).sum(axis=1)
        return repeated, artist_counts

    def _play(self, slots: Ints, tracks: Ints, fractions: Floats) -> None:
        heard_ms = fractions * self._world.catalogue.duration_ms[tracks]
        self._due_ms[slots] += DECISION_MS + heard_ms.astype(np.int64)
        self._state[slots] = _LISTENING

    def _fill_slots(self, slots: Ints, after_ms: Ints) -> None:
        self._state[slots] = _EMPTY
        if not self._accepting or not len(slots):
            return
        arrivals = self._schedule.arrivals(slots, self._turn[slots], after_ms)
        there = arrivals.users != NO_USER
        slots, users, ordinals = slots[there], arrivals.users[there], arrivals.ordinals[there]
        keys = mix(self._seed, users, ordinals)
        start = self._model.open(users, keys, arrivals.start_ms[there])
        for heard in (self._tracks, self._artists):  # what the sessions before have heard
            heard[slots, :_FIRST_CAPACITY] = -1
            heard[slots[self._position[slots] >= _FIRST_CAPACITY]] = -1
        self._turn[slots] += 1
        self._user[slots], self._ordinal[slots], self._key[slots] = users, ordinals, keys
        self._position[slots] = 0
        budgets = self._world.listeners.session_budget[users] if start.budgets is None else start.budgets
        self._budget[slots] = budgets
        self._length[slots] = MOST_TRACKS if start.lengths is None else np.minimum(start.lengths, MOST_TRACKS)
        self._taste[slots] = start.tastes
        self._fraction[slots] = 1.0 if start.fractions is None else start.fractions
        self._tracks[slots, 0] = start.tracks
        self._artists[slots, 0] = self._world.catalogue.artist_of[start.tracks]
        self._due_ms[slots] = arrivals.start_ms[there]
        self._play(slots, start.tracks, self._fraction[slots])

    def _make_room(self, position: int) -> None:
        capacity = self._tracks.shape[1]
        if position >= capacity:
            more = ((0, 0), (0, capacity))
            self._tracks = np.pad(self._tracks, more, constant_values=-1)
            self._artists = np.pad(self._artists, more, constant_values=-1)
