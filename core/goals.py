"""What an experiment is judged by: Botify's metrics, their directions, and the goals that a declaration gives them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

BETTER: Mapping[str, int] = MappingProxyType(
    {"mean_time_per_session": 1, "mean_tracks_per_session": 1, "time": 1, "sessions": 1, "mean_request_latency": -1}
)
"""Botify's metrics, by its names: 1 if more is better, -1 if less is."""

RAMP = (0.01, 0.1, 0.5, 1.0)  # shares of an experiment's listeners, step by step, unless the declaration has others


@dataclass(frozen=True, slots=True)
class Goals:
    """What an experiment must show before its treatment serves everyone.

    At least one metric of `success` must be significantly better. `guardrails` maps metrics to non-inferiority margins:
    the accepted loss as a share of the control's mean. `ramp` has ascending shares of the listeners; empty begins with
    all.
    """

    success: tuple[str, ...] = ("mean_time_per_session",)
    guardrails: Mapping[str, float] = field(default_factory=dict)
    ramp: tuple[float, ...] = ()

    @property
    def watched(self) -> tuple[str, ...]:
        """Return the metrics without a goal; they must only not get worse."""
        return tuple(name for name in BETTER if name not in self.success and name not in self.guardrails)
