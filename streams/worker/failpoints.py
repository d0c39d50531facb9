"""Points at which a worker kills or stops itself, for tests of its failures. Off unless `BOTIFY_FAILPOINTS` is set.

`BOTIFY_FAILPOINTS=after-apply:3` sends SIGKILL to the worker after its third apply, before it acts on the outcome;
`before-apply:0.01` kills with that probability at each apply, drawn from `BOTIFY_FAILPOINTS_SEED`;
`before-apply:3:stop` sends SIGSTOP, so that the worker makes this write only after SIGCONT. Several are separated by
commas. The points wrap the store, so a worker without them has no additional cost.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping

import numpy as np

from botify.core.errors import SettingsError
from botify.streams.folds.projection import Changes
from botify.streams.store.protocol import Claim, Outcome, Store

VARIABLE = "BOTIFY_FAILPOINTS"
SEED_VARIABLE = "BOTIFY_FAILPOINTS_SEED"

BEFORE_APPLY = "before-apply"
AFTER_APPLY = "after-apply"
DURING_CLAIM = "during-claim"  # after the epoch is raised, before the state is read

POINTS = (BEFORE_APPLY, AFTER_APPLY, DURING_CLAIM)
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def with_failpoints(store: Store, environ: Mapping[str, str] | None = None) -> Store:
    """Return the store itself, or one with the failpoints of the environment; raises `SettingsError`."""
    env = os.environ if environ is None else environ
    if not (text := env.get(VARIABLE)):
        return store
    seed = env.get(SEED_VARIABLE) or "0"
    if not seed.isdecimal():
        raise SettingsError(f"{SEED_VARIABLE}: {seed!r} is not a whole number of 0 or more")
    return FailpointStore(store, Failpoints(text, int(seed)))


class Failpoints:
    """Signals that the process sends to itself, by default to the calling thread, so that it acts at once."""

    def __init__(self, text: str, seed: int, send: Callable[[signal.Signals], object] = signal.raise_signal) -> None:
        self._plan = dict(_parse(part) for part in text.split(","))
        self._visits = dict.fromkeys(POINTS, 0)
        self._rng = np.random.default_rng(seed)
        self._send = send

    def reach(self, point: str) -> None:
        if point not in self._plan:
            return
        self._visits[point] += 1
        at, sent = self._plan[point]
        if self._rng.random() < at if at < 1.0 else self._visits[point] == at:
            self._send(sent)


class FailpointStore:
    """A `Store` with failpoints around claims and applies."""

    def __init__(self, store: Store, failpoints: Failpoints) -> None:
        self._store = store
        self._reach = failpoints.reach
        self.read_whole = store.read_whole
        self.read_fields = store.read_fields

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        claim = await self._store.claim(partition, owner, topic_id)
        self._reach(DURING_CLAIM)
        return claim

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        self._reach(BEFORE_APPLY)
        outcome = await self._store.apply(partition, claim, expected_next, new_next, changes)
        self._reach(AFTER_APPLY)
        return outcome


def _parse(part: str) -> tuple[str, tuple[float, signal.Signals]]:
    point, _, rest = part.partition(":")
    value, _, name = rest.partition(":")
    try:
        at = float(value)
    except ValueError:
        at = 0.0
    sent = SIGNALS.get(name or "kill")
    if point not in POINTS or sent is None or not (0.0 < at < 1.0 or (at.is_integer() and at >= 1.0)):
        raise SettingsError(
            f"{VARIABLE}: {part!r} is not <point>:<probability or count>[:<signal>] with a point of "
            f"{', '.join(POINTS)} and a signal of {', '.join(SIGNALS)}"
        )
    return point, (at, sent)
