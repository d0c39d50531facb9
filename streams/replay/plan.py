"""What a replay is going to do. Made before anything is touched."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from streams.folds.partition import ALWAYS_FOLDED, PROJECTIONS
from streams.replay.errors import ReplayError
from streams.worker.topic_state import TopicState


@dataclass(frozen=True, slots=True)
class Plan:
    """From where to where, in which partitions.

    Attributes
    ----------
    topic : str
    topic_id : str
    start, end : mapping of partition to offset
        The first record, and the one after the last.
    projections : sequence of str
    partial : sequence of str
        Why what comes out is not the whole state; empty where it is.
    """

    topic: str
    topic_id: str
    start: Mapping[int, int]
    end: Mapping[int, int]
    projections: Sequence[str]
    partial: Sequence[str]

    @property
    def records(self) -> int:
        """How many offsets are between start and end."""
        return sum(self.end[partition] - offset for partition, offset in self.start.items())


def make_plan(
    topic: str,
    state: TopicState,
    start: Mapping[int, int],
    end: Mapping[int, int],
    partitions: Collection[int] | None = None,
    projections: Collection[str] = PROJECTIONS,
) -> Plan:
    """Return the plan.

    State is a fold of *all* records: what begins later, or leaves something out, is partial, and says why.

    Raises
    ------
    ReplayError
        A partition or projection does not exist.

    Examples
    --------
    >>> state = TopicState("an-id", start={0: 0, 1: 0}, end={0: 50, 1: 20})
    >>> plan = make_plan("botify.listens", state, start={0: 0, 1: 10}, end=state.end, partitions=[1])
    >>> plan.records
    10
    >>> plan.partial
    ['partition 1 begins at offset 10', 'partitions 0 are left out']
    """
    chosen = sorted(state.end if partitions is None else set(partitions))
    for partition in chosen:
        if partition not in state.end:
            raise ReplayError(f"{topic} has no partition {partition}; it has 0 to {len(state.end) - 1}")
    for name in projections:
        if name not in PROJECTIONS:
            raise ReplayError(f"there is no projection {name!r}; there are {', '.join(PROJECTIONS)}")
    begin = {partition: start[partition] for partition in chosen}
    stop = {partition: max(end[partition], begin[partition]) for partition in chosen}
    partial = [f"partition {partition} begins at offset {offset}" for partition, offset in begin.items() if offset > 0]
    if missing := sorted(state.end.keys() - begin.keys()):
        partial.append(f"partitions {', '.join(map(str, missing))} are left out")
    if left_out := [name for name in PROJECTIONS if name not in projections and name not in ALWAYS_FOLDED]:
        partial.append(f"projections {', '.join(left_out)} are left out")
    return Plan(topic, state.topic_id, begin, stop, list(projections), partial)
