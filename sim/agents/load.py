"""Find an agent by its name, or one of the user's own by `module:Class`."""

from __future__ import annotations

from rich.console import Console

from sim.agents.agent import Agent
from sim.agents.console import ConsoleAgent
from sim.agents.dummy import DummyAgent
from sim.agents.http import HttpAgent
from sim.errors import AgentError
from sim.loading import make_own
from sim.world.model import World

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
    SimulationError
        There is none of that name, or it is no agent.
    """
    match name:
        case "dummy":
            return DummyAgent(world.catalogue, seed)
        case "http":
            return HttpAgent(url, len(world.catalogue))
        case "console":
            return ConsoleAgent(world.catalogue, seed, console)
    wanted = f"an agent; there are kafka, {', '.join(AGENTS)}"
    agent: Agent = make_own(name, wanted, catalogue=world.catalogue, seed=seed)
    if not (callable(getattr(agent, "recommend", None)) and callable(getattr(agent, "finish", None))):
        raise AgentError(f"{name} is no agent: it needs the methods recommend and finish")
    return agent
