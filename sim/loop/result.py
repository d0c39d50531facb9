"""What came out of a run of the loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from sim.loop.histogram import LatencyHistogram
from sim.progress import Progress


@dataclass(slots=True)
class RunResult(Progress):
    """A run that is over.

    Attributes
    ----------
    run_id : str
    measured_s : float
        Wall time without the warm-up.
    latency : LatencyHistogram
        Round trips after the warm-up, from sending a request to receiving its answer.
    """

    run_id: str = ""
    measured_s: float = 0.0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)

    @property
    def recommendations_per_s(self) -> float:
        """Recommendations received per second of wall time after the warm-up."""
        return self.latency.count / self.measured_s if self.measured_s > 0 else 0.0
