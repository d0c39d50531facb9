"""What a run is asked to do, how far it is, and what came out."""

from __future__ import annotations

from dataclasses import dataclass, field

from sim.errors import SimulationError
from sim.loop.histogram import LatencyHistogram
from sim.schedule import ALL, Shard


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How to run the loop.

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
    days : bool
        Listeners follow a daily rhythm and return on later days, instead of one sitting down when another leaves.
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
    days: bool = False
    speed: float | None = None
    rate: float | None = None
    start_ms: int | None = None
    shard: Shard = ALL
    run_id: str | None = None
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("users", "in_flight", "sessions", "listens", "seconds", "speed", "rate", "timeout_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise SimulationError(f"{name} = {value} must be greater than 0")
        if self.speed is not None and self.rate is not None:
            raise SimulationError("speed and rate both say when a listen is due; give one of them")
        if self.run_id is not None and not 0 < len(self.run_id.encode()) <= 100:
            raise SimulationError(f"run id {self.run_id!r} must have 1 to 100 bytes")


@dataclass(slots=True)
class Progress:
    """What a run has done so far.

    Attributes
    ----------
    wall_s : float
    listens, sessions, recommendations : int
        `sessions` that ended, `recommendations` that were played.
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
    timed_out: int = 0
    retried: int = 0
    dropped: int = 0
    unusable: int = 0
    event_ms: int = 0


@dataclass(slots=True)
class RunResult(Progress):
    """A run that is over.

    Attributes
    ----------
    run_id : str
    interrupted : bool
        It was stopped by hand; the sessions that ran are unfinished.
    measured_s : float
        Wall time without the warm-up.
    latency : LatencyHistogram
        Round trips after the warm-up, from sending a request to receiving its answer.
    """

    run_id: str = ""
    interrupted: bool = False
    measured_s: float = 0.0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)

    @property
    def recommendations_per_s(self) -> float:
        """Recommendations received per second of wall time after the warm-up."""
        return self.latency.count / self.measured_s if self.measured_s > 0 else 0.0
