"""Invariant: a worker with a name in its group restarts within the session timeout, and no partition moves."""

from __future__ import annotations

import re
from contextlib import ExitStack

from botify.core.settings import Settings
from botify.schemas.topics import Topics
from tests.support import all_folded, eventually, make_listens, produce, running, write_catalogue

WORKER = "botify.streams.worker"
TRACKS = 50
TOPICS = ("listens", "feedback")
"""A worker is in a group of each."""


def test_a_restart_within_the_timeout_moves_no_partition(settings: Settings) -> None:
    """Both restart, so that one of them is the leader of the group; one politely, the other killed."""
    topic = Topics.of(settings).listens.name
    write_catalogue(settings, TRACKS)

    def named(name: str) -> Settings:
        return settings.with_(session_timeout_s=60, group_instance_id=name)

    def claims(log: str) -> list[list[str]]:
        text = (settings.home / log).read_text()
        return [re.findall(rf"claimed partitions.* topic=\S+\.{name}\b", text) for name in TOPICS]

    def partitions(log: str) -> list[set[str]]:
        return [
            set(re.findall(r"(\d+): ", claimed[-1].split("{")[-1])) if claimed else set() for claimed in claims(log)
        ]

    def two_each(*logs: str) -> bool:
        return all(len(found) == 2 for log in logs for found in partitions(log))

    def more_listens_are_folded(stretch: int) -> None:
        produce(settings, topic, make_listens(400, users=100, tracks=TRACKS, seed=61, first=400 * stretch))
        eventually(all_folded(settings))

    with ExitStack() as second:
        second.enter_context(running(named("worker-1"), WORKER, log="second.log"))
        with running(named("worker-0"), WORKER, log="first.log") as first:
            eventually(lambda: two_each("first.log", "second.log"))
            before = claims("first.log"), claims("second.log")
            second.close()
            second.enter_context(running(named("worker-1"), WORKER, log="second-again.log"))
            more_listens_are_folded(0)
            eventually(lambda: two_each("second-again.log"))
            assert partitions("second-again.log") == partitions("second.log")
            first.kill()
        with running(named("worker-0"), WORKER, log="first-again.log"):
            more_listens_are_folded(1)
            eventually(lambda: two_each("first-again.log"))
            assert partitions("first-again.log") == partitions("first.log")
            assert (claims("first.log"), claims("second.log")) == before
            assert [len(claimed) for claimed in claims("second-again.log")] == [1, 1]
