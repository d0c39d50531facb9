"""The contract of an agent."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from rich.console import Console

from core.keyed_random import integers, mix
from core.loading import load_object
from sim.agents.console import ConsoleAgent
from sim.agents.http import HttpAgent
from sim.errors import AgentError
from sim.listeners.model import AGENT, Ints
from sim.simulation import FinishedListens
from sim.world.model import World, WorldCatalogue


class Agent(Protocol):
    """Recommends the next track, for many listeners at a time."""

    def recommend(self, heard: FinishedListens) -> Ints:
        """Return a track for each listen just made, in the same order.

        Parameters
        ----------
        heard : FinishedListens
            None of them ended its session.
        """
        ...

    def finish(self, heard: FinishedListens) -> None:
        """Learn of listens that ended their sessions."""
        ...


class DummyAgent:
    """Draws every track with the same probability.

    Parameters
    ----------
    catalogue : WorldCatalogue
    seed : int
        The same listen gets the same answer, whatever the order of the listens.
    """

    def __init__(self, catalogue: WorldCatalogue, seed: int) -> None:
        self._tracks = len(catalogue)
        self._seed = seed

    def recommend(self, heard: FinishedListens) -> Ints:
        """Draw a track for each listen."""
        keys = mix(self._seed, heard.users, heard.ordinals, heard.positions)
        return integers(keys, AGENT, np.int64(self._tracks))

    def finish(self, heard: FinishedListens) -> None:
        """Learn nothing."""


AGENTS = ("dummy", "http", "console")


def load_agent(name: str, world: World, seed: int, url: str, console: Console) -> Agent:
    """Make the agent.

    Parameters
    ----------
    name : str
        One of `AGENTS`, or `module:Class` of a class that takes a catalogue and a seed.
    world : World
    seed : int
    url : str
        Of the server that the `http` agent asks.
    console : Console
        Where the `console` agent talks.

    Raises
    ------
    LoadError
        There is no agent of that name, it cannot be imported, or it takes other arguments.
    AgentError
        It lacks the methods of an agent.
    """
    match name:
        case "dummy":
            return DummyAgent(world.catalogue, seed)
        case "http":
            return HttpAgent(url, len(world.catalogue))
        case "console":
            return ConsoleAgent(world.catalogue, seed, console)
    wanted = f"an agent; there are kafka, {', '.join(AGENTS)}"
    agent: Agent = load_object(name, wanted, catalogue=world.catalogue, seed=seed)
    if not (callable(getattr(agent, "recommend", None)) and callable(getattr(agent, "finish", None))):
        raise AgentError(f"{name} is not an agent: it needs the methods recommend and finish")
    return agent
