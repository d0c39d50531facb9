"""Whose number a listener's name has, for all who publish the first events of new names.

A name has the first of its candidates that no other name has (`schemas/external_ids.py`). Before the first event of a
new name is published, its number is claimed in Redis, so that nobody else gives it to another name, and the name is
published on the feedback topic (`fact_of`), which workers fold into the state. A copy of that fact changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from botify.core.settings import Settings
from botify.schemas.events import NAMED, Feedback
from botify.schemas.external_ids import UserIdError, UserIds, chosen
from botify.schemas.topics import feedback_partitions
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from botify.streams.store.keys import gateway_name

TOGETHER = 1_000  # names that are asked for at once
CLAIMED_MS = 24 * 3_600_000  # longer than workers are away


def fact_of(name: str, number: int, time_ms: int) -> Feedback:
    """Return the fact that a number has a name."""
    return Feedback(f"named-{number}", number, 0, NAMED, time_ms, name)


class Numbers:
    """Numbers many names at once, in a blocking client; raises `RedisUnreachableError` and the client's errors."""

    def __init__(self, settings: Settings, users: UserIds) -> None:
        self._redis, self._prefix, self._users = connect(settings), settings.topic_prefix, users
        self._state = StateReader(self._redis, settings, feedback_partitions(settings))

    def of(self, names: Mapping[str, int]) -> tuple[dict[str, int], list[Feedback]]:
        """Return the numbers of names, which are their own from now on, and the facts that the state lacks.

        Given is the event time of each name's first event, in ms. A name whose candidates all have other names has no
        number.
        """
        ordered, numbers, new = sorted(names), dict[str, int](), list[str]()
        for begin in range(0, len(ordered), TOGETHER):
            new += self._number(ordered[begin : begin + TOGETHER], numbers)
        return numbers, [fact_of(name, numbers[name], names[name]) for name in new]

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _number(self, names: Sequence[str], numbers: dict[str, int]) -> list[str]:
        """Add the numbers of some names, and return those that the state does not know."""
        candidates = {name: self._users.candidates(name) for name in names}
        numbers |= {name: of_name[0] for name, of_name in candidates.items() if len(of_name) == 1}
        waiting = [name for name in names if name not in numbers]
        asked = list(dict.fromkeys(number for name in waiting for number in candidates[name]))
        owners = dict(zip(asked, self._state.names(asked), strict=True)) if asked else {}
        known = {*owners.values(), *numbers}
        while waiting:
            claims: dict[int, str] = {}
            for name in waiting:
                with suppress(UserIdError):
                    number = chosen(name, {number: owners[number] for number in candidates[name]})
                    if owners[number] == name:
                        numbers[name] = number
                    else:
                        claims.setdefault(number, name)
            owners |= self._claim(claims)
            waiting = [name for name in waiting if name not in numbers] if claims else []
        return [name for name in names if name in numbers and name not in known]

    def _claim(self, names: Mapping[int, str]) -> dict[int, str | None]:
        """Claim numbers until the state has the names, and return who has claimed each."""
        pipeline = self._redis.pipeline(transaction=False)
        for number, name in names.items():
            pipeline.set(gateway_name(self._prefix, number), name, nx=True, px=CLAIMED_MS, get=True)
        before = zip(names.items(), pipeline.execute(), strict=True)
        return {number: name if owner is None else owner.decode() for (number, name), owner in before}
