"""Invariant: a worker with a name in its group restarts within the session timeout, and no partition moves."""

from __future__ import annotations

import re

from core.settings import Settings
from schemas.topics import Topics
from tests.support import all_folded, eventually, make_listens, produce, running, write_catalogue

WORKER = "streams.worker"
TRACKS = 50
CLAIMED = re.compile(r"claimed partitions.*")


def test_a_restart_within_the_timeout_moves_no_partition(settings: Settings) -> None:
    patient = settings.with_(session_timeout_s=60)
    topic = Topics.of(settings).listens.name
    write_catalogue(settings, TRACKS)

    def claims(log: str) -> list[str]:
        return CLAIMED.findall((settings.home / log).read_text())

    def partitions(log: str) -> set[str]:
        return set(re.findall(r"(\d+): ", claims(log)[-1].split("{")[-1]))

    def shared() -> bool:
        return all(claims(log) and len(partitions(log)) == 2 for log in ("stays.log", "old.log"))

    with running(patient.with_(group_instance_id="worker-0"), WORKER, log="stays.log") as stays:
        with running(patient.with_(group_instance_id="worker-1"), WORKER, log="old.log"):
            eventually(shared)
            produce(settings, topic, make_listens(400, users=100, tracks=TRACKS, seed=61))
            eventually(all_folded(settings))
        before = claims("stays.log")
        produce(settings, topic, make_listens(400, users=100, tracks=TRACKS, seed=61, first=400))
        with running(patient.with_(group_instance_id="worker-1"), WORKER, log="new.log"):
            eventually(all_folded(settings))
            assert partitions("new.log") == partitions("old.log")
        assert claims("stays.log") == before
        assert stays.poll() is None
