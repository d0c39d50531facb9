"""Judges what happened by what is promised to listeners, readers and operators; it knows nothing of how that is kept.

1. A listen that was acknowledged is in the topic; the listener's count is that of their different listens there.
2. A listener who waits for each answer finds the acknowledged listens in the order in which they were made.
3. What was acknowledged is what was sent: track and share; no two calls were given one event id.
4. Some time after a swap every read is from the new namespace, or a later one; the former does not change any more.
5. The live namespace is the one that was swapped in last.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from botify.schemas.events import Listen

FOLLOWED_S = 5.0
"""Readers may look at the pointer so seldom, and workers."""
Operation = Mapping[str, Any]


def read_operations(path: Path) -> list[Operation]:
    """Return the operations of a file in order of their ends."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def acknowledged(operations: Sequence[Operation]) -> list[Operation]:
    return [one for one in operations if one["kind"] == "listen" and one["status"] == 200]


def judge_listens(operations: Sequence[Operation], topic: Iterable[Listen], counts: Mapping[int, int]) -> list[str]:
    """Return what is wrong with the listens.

    Parameters
    ----------
    topic : iterable of Listen
        Of each partition in its order.
    counts : mapping of user to int
        Listens of each listener by the state.
    """
    wrong: list[str] = []
    listens: dict[int, dict[str, Listen]] = defaultdict(dict)
    for listen in topic:
        listens[listen.user].setdefault(listen.event_id, listen)
    for user, different in listens.items():
        if (count := counts.get(user, 0)) != len(different):
            wrong.append(f"user {user} has {count} listens by the state, {len(different)} different ones in the topic")
    calls: dict[int, list[Operation]] = defaultdict(list)
    for call in acknowledged(operations):
        calls[call["user"]].append(call)
    for user, made in calls.items():
        place = {event: at for at, event in enumerate(listens[user])}
        there = [call for call in made if call["event"] in place]
        wrong += [
            f"user {user}'s listen {call['event']} was acknowledged and is not in the topic"
            for call in made
            if call["event"] not in place
        ]
        wrong += [
            f"user {user}'s listens {one['event']} and {other['event']} changed places, or are one"
            for one, other in pairwise(there)
            if place[one["event"]] >= place[other["event"]]
        ]
        for call in there:
            listen = listens[user][call["event"]]
            if (listen.track, listen.fraction) != (call["track"], call["time"]):
                wrong.append(f"user {user}'s listen {call['event']} is {listen}, the call was {call}")
    return wrong


def judge_swaps(
    operations: Sequence[Operation], first: str, live: str, frozen: Mapping[str, tuple[object, object]]
) -> list[str]:
    """Return what is wrong with the swaps.

    Parameters
    ----------
    first, live : str
        The live namespace at the beginning and at the end.
    frozen : mapping of str to (object, object)
        Former namespace to its checkpoints some time after it was replaced, and at the end.
    """
    wrong = [
        f"read from {read['namespace']} at {read['began_s']:.1f} s, not from {' or '.join(allowed)}"
        for read in operations
        if read["kind"] == "read"
        and read["namespace"] not in (allowed := _may_be_live(operations, first, read["began_s"]))
    ]
    if live not in (allowed := _may_be_live(operations, first, math.inf)):
        wrong.append(f"{live} is live at the end, not {' or '.join(allowed)}")
    wrong += [
        f"{name} has changed after it was replaced: {then}, then {now}"
        for name, (then, now) in frozen.items()
        if then != now
    ]
    return wrong


def _may_be_live(operations: Sequence[Operation], first: str, at_s: float) -> list[str]:
    """Return the namespaces from which may be read: the last one swapped in, and those that were tried since."""
    swapped = [(one["at_s"], one["new"]) for one in operations if one["kind"] == "swap"]
    since_s, newest = max([one for one in swapped if one[0] + FOLLOWED_S < at_s], default=(-math.inf, first))
    tried = [one["new"] for one in operations if one["kind"] == "swapping" and one["at_s"] > since_s]
    return [newest, *tried]
