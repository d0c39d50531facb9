"""The contract of an agent."""

from __future__ import annotations

from typing import Protocol

from sim.listeners.model import Ints
from sim.simulation import Listens


class Agent(Protocol):
    """Recommends the next track, for many listeners at a time."""

    def recommend(self, heard: Listens) -> Ints:
        """Return a track for each listen just made, in the same order.

        Parameters
        ----------
        heard : Listens
            None of them ended its session.
        """
        ...

    def finish(self, heard: Listens) -> None:
        """Learn of listens that ended their sessions."""
        ...
