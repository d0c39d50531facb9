"""Agents: whoever recommends tracks to the listeners of a simulation, without Kafka."""

from sim.agents.agent import Agent
from sim.agents.load import load_agent

__all__ = ["Agent", "load_agent"]
