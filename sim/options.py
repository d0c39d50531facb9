"""What a run is asked to do."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sim.errors import SimulationError
from sim.schedule import ALL, Shard


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a simulation.

    Attributes
    ----------
    users : int | None
        How many of the world's listeners take part; None for all.
    in_flight : int
        How many of them listen at a time (where the schedule is a relay).
    sessions, listens : int | None
        Stop when so many sessions were begun or so many listens made; running sessions go on to their end.
    seconds : float | None
        Stop after so much wall time and leave the running sessions unfinished.
    warm_up_s : float
        Wall time at the start that the latencies leave out.
    seed : int
    model : str
        Name of a listener model, or `module:Class`.
    days : float | None
        Listeners follow a daily rhythm for so many days of event time and return on later days; without it one sits
        down when another leaves.
    speed : float | None
        Event time per wall time; None for as fast as it goes.
    rate : float | None
        Offered load: requests per second, made when it is their turn whether or not earlier ones were answered.
    start_ms : int | None
        Event time of the beginning; None for now, or after the newest listen if that is later.
    shard : Shard
        Which part of the listeners.
    run_id : str | None
        First part of all session ids; None for one made from the time.
    timeout_s : float
        How long to wait for an answer before asking again, and then before giving up.
    """

    users: int | None = None
    in_flight: int = 2000
    sessions: int | None = None
    listens: int | None = None
    seconds: float | None = None
    warm_up_s: float = 0.0
    seed: int = 1
    model: str = "botify"
    days: float | None = None
    speed: float | None = None
    rate: float | None = None
    start_ms: int | None = None
    shard: Shard = ALL
    run_id: str | None = None
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("users", "in_flight", "sessions", "listens", "seconds", "days", "speed", "rate", "timeout_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:  # not a number is not either
                raise SimulationError(f"{name} = {value} must be greater than 0, and finite")
        if not -(2**63) <= self.seed < 2**63:
            raise SimulationError(f"seed = {self.seed} must fit into 64 bits")
        if self.speed is not None and self.rate is not None:
            raise SimulationError("speed and rate both say when a listen is due; give one of them")
        if self.days is not None and self.sessions is not None:
            raise SimulationError("days and sessions both say when the listeners stop coming; give one of them")
        if self.run_id is not None and not 0 < len(self.run_id.encode()) <= 100:
            raise SimulationError(f"run id {self.run_id!r} must have 1 to 100 bytes")
