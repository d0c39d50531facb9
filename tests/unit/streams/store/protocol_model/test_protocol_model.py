"""Every state that the claim/apply protocol can reach, within bounds, is the fold of a prefix of the topic."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from botify.streams.store.protocol import UNCLAIMED, Claim, MemoryStore, Outcome
from tests.unit.streams.store.protocol_model.world import RECORDS, Rules, World, moves, truths

TRUTHS = (truths(takes_doubtful=True), truths(takes_doubtful=False))


class Explored:
    """All states that can be reached, breadth first, and the shortest way to the first violation."""

    def __init__(self, rules: Rules) -> None:
        start = World()
        self.came_from: dict[World, tuple[World, str] | None] = {start: None}
        self.outcomes: set[Outcome | None] = set()
        self.violation: list[str] | None = None
        waiting = deque([start])
        while waiting:
            world = waiting.popleft()
            for move in moves(world, rules):
                self.outcomes.add(move.outcome)
                known = move.world in self.came_from
                if not known:
                    self.came_from[move.world] = (world, move.name)
                wrong = [] if known else broken(move.world)
                wrong += [
                    f"sent {event!r} of offset {at}"
                    for at, event in move.sent
                    if all(event != truth[at + 1][1] for truth in TRUTHS)
                ]
                if wrong:
                    self.violation = [*self.way_to(world), move.name, *wrong]
                    return
                if not known:
                    waiting.append(move.world)

    def way_to(self, world: World) -> list[str]:
        way = []
        while (step := self.came_from[world]) is not None:
            world, name = step
            way.append(name)
        return way[::-1]


def broken(world: World) -> list[str]:
    """Hold the invariant against a state."""
    if world.stored is None:
        return []
    prefix = world.stored.checkpoint.next_offset or 0
    may_be = [truth[prefix][0] for truth in TRUTHS]
    wrong = f"at checkpoint {prefix} there is {world.stored.fields}, and not {may_be}"
    return [] if world.stored.fields in may_be else [wrong]


@pytest.mark.parametrize("transactions", [False, True], ids=["scripts", "transactions"])
def test_the_state_is_the_fold_of_a_prefix_wherever_the_protocol_can_go(transactions: bool) -> None:
    explored = Explored(Rules(transactions=transactions))
    assert explored.violation is None, "\n".join(explored.violation)
    assert explored.outcomes >= set(Outcome)
    assert any(w.stored and w.stored.checkpoint.next_offset == len(RECORDS) for w in explored.came_from)
    assert len(explored.came_from) > 10_000


def without(believed: Callable[[Claim, Claim, int | None], tuple[Claim, int | None]]) -> type[MemoryStore]:
    """Return a store that applies as if under another claim and expectation, made of (stored, claim, expected)."""

    class Without(MemoryStore):
        async def apply(self, partition: int, claim: Claim, expected_next: int | None, *what: Any) -> Outcome:
            stored = self.checkpoints.get(partition, UNCLAIMED)
            return await super().apply(partition, *believed(stored, claim, expected_next), *what)

    return Without


WITHOUT_EPOCH = without(lambda stored, claim, expected: (stored, expected))
# knows claims by their epoch alone, which two have after a rollback
WITHOUT_OWNER = without(lambda stored, claim, expected: (replace(claim, owner=stored.owner), expected))
WITHOUT_EXPECTED_OFFSET = without(lambda stored, claim, expected: (claim, stored.next_offset))
# takes any batch where there is no checkpoint yet, not only the first
MISSING_MATCHES_ALL = without(lambda stored, claim, expected: (claim, None if stored.next_offset is None else expected))


class ReadsUnasked(MemoryStore):
    """Gives a reader what there is, wherever the reader believes it to be."""

    async def read_fields(self, partition: int, wanted: Any, under: object = None) -> Any:
        return await super().read_fields(partition, wanted)


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(Rules(store=WITHOUT_EPOCH), id="no-epoch"),
        pytest.param(Rules(store=WITHOUT_OWNER), id="no-owner"),
        pytest.param(Rules(store=WITHOUT_EXPECTED_OFFSET), id="no-expected-offset"),
        pytest.param(Rules(store=MISSING_MATCHES_ALL), id="missing-checkpoint-matches-all"),
        pytest.param(Rules(store=ReadsUnasked), id="reads-not-under-the-claim"),
        pytest.param(Rules(transactions=True, watches=False), id="exec-without-watch"),
        pytest.param(Rules(transactions=True, watch_ends_with_connection=False), id="exec-on-a-new-connection"),
        pytest.param(Rules(transactions=True, store=WITHOUT_EXPECTED_OFFSET), id="look-without-expected-offset"),
        pytest.param(Rules(transactions=True, store=WITHOUT_OWNER), id="look-without-owner"),
    ],
)
def test_without_one_of_its_rules_the_protocol_does_harm(rules: Rules) -> None:
    assert Explored(rules).violation
