"""Invariant: a process that is ready compiles nothing more: it would neither answer nor stop for half a minute."""

import subprocess
import sys

import numpy as np

from botify.core.kafka.config import key_of
from botify.core.kafka.record_columns import read_batches
from botify.schemas.codec import Codec
from botify.schemas.events import Model
from botify.schemas.training import listens_of
from botify.schemas.validation import Intake
from botify.streams.compiled import fill_cache
from botify.streams.learner.learner import Learner
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_projection import model_of_snapshot
from tests.learning import CATALOGUE, TRACKS, batches
from tests.support import make_listens
from tests.unit.core.kafka.test_record_columns import batch
from tests.unit.streams.worker.records import Worker

LISTENS = make_listens(1_500, users=40, tracks=TRACKS, seed=6)
CODEC = Codec()


def test_what_runs_after_the_start_is_compiled_by_then() -> None:
    # in a process of its own: other tests here have compiled functions for arrays of their own
    program = [sys.executable, "-m", "tests.unit.streams.test_compiled"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=600, check=False)  # noqa: S603
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def work() -> None:
    learner = Learner(CATALOGUE)
    for some in batches(LISTENS, 700):
        learner = Learner.restore(learner.state(), CATALOGUE)
        learner.fold(some, listens_of(some, b""))
    for model in [*learner.take_models(), *learner.newest()]:
        decoded = CODEC.decode(CODEC.encode(model), Model)
        if decoded.name == NextTrack.name:
            rank(decoded.body)
    fold_in_columns()


def rank(snapshot: bytes) -> None:
    model = model_of_snapshot(snapshot)
    tracks = np.frombuffer(np.arange(6).tobytes(), np.int64)
    for values in (np.ones(6, np.float32), np.frombuffer(bytes(24), np.float32), np.ones((6, 2), np.float32)[:, 0]):
        model.rank_histories(tracks, values, [2, 4], 3)


def fold_in_columns() -> None:
    """Fold fetches, good listens and bad ones, and read the state again between them."""
    from botify.streams.worker.by_columns import BY_COLUMNS

    worker = Worker(BY_COLUMNS, intake=Intake(CODEC, set(range(TRACKS - 1)), lambda: None))
    rows = [(key_of(listen.user), CODEC.encode(listen), [], listen.timestamp_ms) for listen in LISTENS]
    rows[7] = (b"7", b"rubbish", [], 0)
    fetches = [batch(at, rows[at : at + 300]) for at in range(0, len(rows), 300)]
    for before, raw in zip([b"", *fetches], fetches, strict=False):
        worker.claim_again()
        read = read_batches("listens", 0, before + raw, 0)
        assert read is not None
        worker.process(read[0][:40])
        worker.process(read[0])


def compiled() -> dict[str, int]:
    """Return for how many types each function is compiled."""
    from numba.core.dispatcher import Dispatcher

    return {
        f"{module.__name__}.{name}": len(found.signatures)
        for module in list(sys.modules.values())
        if module.__name__.split(".")[0] in ("core", "schemas", "streams")
        for name, found in vars(module).items()
        if isinstance(found, Dispatcher)
    }


if __name__ == "__main__":
    fill_cache()
    before = compiled()
    work()
    sys.stdout.writelines(f"{name}\n" for name, count in compiled().items() if count != before.get(name))
