"""`next_track`, the model of `streams.learner.models.next_track`, asked without a snapshot in between."""

from __future__ import annotations

from evaluation.log import Events, Ints
from evaluation.ranker import Setup
from streams.learner.models.next_track import NextTrack


class NextTrackRanker:
    """The model as it is after each micro-batch."""

    def __init__(self, setup: Setup) -> None:
        self.note = ""
        self._excludes = not setup.repeats
        self._model = NextTrack(seed=setup.seed)

    def learn(self, events: Events) -> None:
        """Hand the events to the model; it takes equal times of a user for a tie, as this evaluation does."""
        self._model.learn(events.users, events.items, events.fractions, events.times_ms)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Return what the model ranks first."""
        tracks, _ = self._model.rank(users, k, exclude_history=self._excludes)
        return tracks
