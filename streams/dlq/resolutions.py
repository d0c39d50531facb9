"""What operators did with dead letters.

A Kafka topic cannot lose single records, so what was done stands in a hash in Redis, by the letter's origin: about
150 bytes each. A letter without an entry is open.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from schemas.dead_letters import Origin
from streams.store.keys import dead_letter_resolutions


class Deed(StrEnum):
    """What was done."""

    REDRIVING = "redriving"
    """It was about to be brought back; whether it was stands in its topic, from `from_offset` on."""
    REDRIVEN = "redriven"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Resolution:
    """What was done with a letter.

    Attributes
    ----------
    deed : Deed
    at_ms : int
        Wall clock.
    from_offset : int
        End of the letter's partition before it was brought back.
    """

    deed: Deed
    at_ms: int
    from_offset: int = 0


class Resolutions:
    """The resolutions of a deployment.

    Parameters
    ----------
    redis : redis.Redis or RedisCluster
        Blocking, with raw replies.
    prefix : str
        The settings' `topic_prefix`.
    """

    def __init__(self, redis: Any, prefix: str) -> None:
        self._redis = redis
        self._key = dead_letter_resolutions(prefix)

    def all(self) -> dict[str, Resolution]:
        """Return all, by the text of the origin."""
        found = {}
        for origin, text in self._redis.hscan_iter(self._key, count=1000):
            fields = json.loads(text)
            found[origin.decode()] = Resolution(Deed(fields["deed"]), fields["at_ms"], fields["from_offset"])
        return found

    def put(self, deed: Deed, letters: Mapping[Origin, int]) -> None:
        """Write what is done with letters.

        Parameters
        ----------
        letters : mapping of origin to offset
            The offset is `Resolution.from_offset`.
        """
        if letters:
            now_ms = int(time.time() * 1000)
            entries = {
                str(origin): json.dumps(asdict(Resolution(deed, now_ms, offset))) for origin, offset in letters.items()
            }
            self._redis.hset(self._key, mapping=entries)
