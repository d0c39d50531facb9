"""Agents: whoever recommends tracks to the listeners of a simulation, without Kafka."""

from sim.agents.agent import Agent, load_agent

__all__ = ["Agent", "load_agent"]
