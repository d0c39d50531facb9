"""Invariant: after a swap the last snapshots on the topic are those of the live namespace; a signal ends a learner."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Timer
from types import SimpleNamespace

import pytest

from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.models import model_of
from botify.schemas.validation import Intake
from botify.streams.folds.projection import Changes
from botify.streams.learner.__main__ import build_app
from botify.streams.learner.partition import SNAPSHOTS
from botify.streams.store.protocol import MemoryStore
from tests.unit.streams.learner.test_partition import Sent


async def test_each_shard_of_a_learner_follows_to_the_namespace(tmp_path: Path) -> None:
    rebuilt = [model_of(f"fism@{number}of2", 900, b"clean", 1) for number in range(2)]
    app, sent, former, new = build_app(Settings(home=tmp_path)), Sent(), MemoryStore(), MemoryStore()
    app.publisher = sent  # type: ignore[assignment]
    app.sources = SimpleNamespace(intake=Intake(Codec()), open=lambda *_: None)  # type: ignore[assignment]
    for number, model in enumerate(rebuilt):
        changes = Changes(hashes={SNAPSHOTS: {model.name.encode(): Codec().encode(model)}})
        await new.apply(number, await new.claim(number, "rebuild", "id"), None, 5, changes)
    for store in (former, former, new):  # a start, and a claim after a rebalance
        for number in range(2):
            await app.open_partition(number, await store.claim(number, "me", "id"), 5, store)
    assert sent.models == rebuilt


STARTING = """
import threading
from botify.streams.learner import __main__ as program
from botify.streams.worker import faust_app

def compile_for_ever():
    print("compiling", flush=True)
    threading.Event().wait()

program.factors.warm_up = compile_for_ever
"""
STUCK = """
async def never(self):
    threading.Event().wait()

faust_app.STOP_S = 0.2
program.LearnerApp.on_stop = never
"""


@pytest.mark.parametrize(("stuck", "status"), [("", 0), (STUCK, 1)], ids=["while it starts", "while it stops"])
def test_a_signal_ends_a_learner_whatever_it_does(tmp_path: Path, stuck: str, status: int) -> None:
    program = [sys.executable, "-c", f"{STARTING}{stuck}\nprogram.main()"]
    environ = {**os.environ, **Settings(home=tmp_path).to_env()}
    with subprocess.Popen(program, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as learner:  # noqa: S603
        assert learner.stdout is not None
        late = Timer(60, learner.kill)
        late.start()
        assert learner.stdout.readline() == "compiling\n"
        late.cancel()
        learner.terminate()
        _, told = learner.communicate(timeout=60)
    assert learner.returncode == status, told
    assert ("in never" in told) == bool(status)
