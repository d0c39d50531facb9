"""What goes wrong in a universe, and when: a list that shrinking makes shorter."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from tests.simulation.timeline import Timeline

FAULTS_FROM_S, FAULTS_UNTIL_S = 2.0, 60.0
"""The last fault, and what it makes slow, has ended by `FAULTS_UNTIL_S`."""

CRASH, STOP, PAUSE, REBALANCE, ROLLBACK = "crash", "stop", "pause", "rebalance", "rollback"
STORE_SLOW, STORE_LOSES_REQUESTS, STORE_LOSES_REPLIES = "store-slow", "store-loses-requests", "store-loses-replies"
STORE_DUPLICATES, STORE_SWALLOWS, STORE_REFUSES = "store-duplicates", "store-swallows", "store-refuses"
BROKER_SLOW, BROKER_REFUSES, BROKER_LOSES_REPLIES = "broker-slow", "broker-refuses", "broker-loses-replies"
LEADER_CHANGES = "leader-changes"
SWAP, POINTER_SWALLOWS, CLOCK = "swap", "pointer-swallows", "clock"

LONGEST_S = {
    CRASH: 12.0,
    STOP: 0.0,
    PAUSE: 25.0,
    REBALANCE: 0.0,
    ROLLBACK: 15.0,
    STORE_SLOW: 15.0,
    STORE_LOSES_REQUESTS: 30.0,
    STORE_LOSES_REPLIES: 15.0,
    STORE_DUPLICATES: 15.0,
    STORE_SWALLOWS: 20.0,
    STORE_REFUSES: 25.0,
    BROKER_SLOW: 15.0,
    BROKER_REFUSES: 8.0,
    BROKER_LOSES_REPLIES: 8.0,
    LEADER_CHANGES: 10.0,
    SWAP: 15.0,
    POINTER_SWALLOWS: 20.0,
    CLOCK: 20.0,
}
"""How long a fault lasts at most; of a rollback and a swap, how old the state is."""

KINDS = sorted(LONGEST_S)
"""What plans draw from."""
JUST_CLAIMED_S = 2.5
STRIKES = 0.5
"""Probability that a fault which lasts hits a call."""


class Fault(NamedTuple):
    at_s: float
    kind: str
    lasts_s: float
    process: int

    def __str__(self) -> str:
        who = f" process {self.process}" if self.kind in (CRASH, STOP, PAUSE, CLOCK) else ""
        return f"{self.at_s:.3f} {self.kind}{who} {self.lasts_s:.3f} s"


def planned(rng: Random, processes: int, of: Timeline) -> Sequence[Fault]:
    faults = []
    for _ in range(rng.randint(5, 10)):
        kind = rng.choice(KINDS)
        lasts_s = rng.uniform(0.0, LONGEST_S[kind])
        after_s = FAULTS_FROM_S + (lasts_s if kind in (ROLLBACK, SWAP) else 0.0)
        before_s = FAULTS_UNTIL_S - (0.0 if kind in (ROLLBACK, SWAP) else lasts_s)
        at_s = rng.uniform(after_s, before_s)
        fault = Fault(at_s, kind, lasts_s, rng.randrange(processes))
        faults += [_at(of, one) for one in (fault, *_beside(rng, fault))]
    return sorted(faults)


def _beside(rng: Random, fault: Fault) -> Sequence[Fault]:
    if rng.random() < 0.5:
        return ()
    at_s, kind, lasts_s, process = fault
    before_s = max(FAULTS_FROM_S, at_s - rng.uniform(0.0, JUST_CLAIMED_S))
    match kind:
        case "pause" | "stop" | "swap":  # soon after a claim, or during it
            return (Fault(before_s, REBALANCE, 0.0, 0),)
        case "rollback":  # which forgets a claim, whose epoch the next one has again
            claimed_s = at_s - rng.uniform(0.0, lasts_s)
            return Fault(max(FAULTS_FROM_S, claimed_s), REBALANCE, 0.0, 0), Fault(before_s, REBALANCE, 0.0, 0)
        case "store-swallows" | "pointer-swallows":
            return (Fault(at_s + rng.uniform(0.0, lasts_s), STOP, 0.0, process),)
    return ()


def _at(of: Timeline, fault: Fault) -> Fault:
    """Return a fault, planned in busy seconds, at its virtual time. What goes back in time, and pauses, span a lull."""
    at_s, kind, lasts_s, _ = fault
    if kind in (ROLLBACK, SWAP):
        lasts_s = of.at(at_s) - of.at(at_s - lasts_s)
    elif kind == PAUSE:
        lasts_s = of.at(at_s + lasts_s) - of.at(at_s)
    return fault._replace(at_s=of.at(at_s), lasts_s=lasts_s)


class Faults:
    def __init__(self, faults: Sequence[Fault], rng: Random) -> None:
        self._rng = rng
        self._during: dict[str, list[tuple[float, float]]] = {}
        for fault in faults:
            self._during.setdefault(fault.kind, []).append((fault.at_s, fault.at_s + fault.lasts_s))

    def planned(self, kind: str) -> bool:
        return kind in self._during

    def strikes(self, kind: str, now_s: float) -> bool:
        for begin_s, end_s in self._during.get(kind, ()):
            if begin_s <= now_s < end_s:
                return self._rng.random() < STRIKES
        return False
