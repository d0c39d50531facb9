"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass

from sim.simulation import Listens


@dataclass(slots=True)
class Progress:
    """What a run has done so far.

    Attributes
    ----------
    wall_s : float
    listens, recommendations : int
        `recommendations` that were played.
    sessions : int
        Sessions that came to their end.
    time : float
        Sum of the fractions (Botify's word).
    timed_out : int
        Sessions that ended because no answer came.
    retried : int
        Requests that were made a second time.
    dropped : int
        Answers to no open request: copies, late ones and those of other runs.
    unusable : int
        Answers that cannot be decoded or name no track.
    event_ms : int
        Event time of the listener who is furthest behind.
    """

    wall_s: float = 0.0
    listens: int = 0
    sessions: int = 0
    recommendations: int = 0
    time: float = 0.0
    timed_out: int = 0
    retried: int = 0
    dropped: int = 0
    unusable: int = 0
    event_ms: int = 0

    def count(self, heard: Listens) -> None:
        """Count listens that came to their end."""
        self.listens += len(heard)
        self.sessions += int(heard.ended.sum())
        self.time += float(heard.fractions.sum())
