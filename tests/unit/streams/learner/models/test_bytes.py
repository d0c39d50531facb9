"""Models have the bytes that the code says, whoever compiled it: Python runs the same loops without numba."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np

from botify.schemas.events import Track
from botify.streams.learner.models.factors import BIAS, FactorModel
from botify.streams.learner.models.scoring import TrackScorer
from tests.learning import learn_sessions
from tests.unit.streams.learner.models.test_models import sessions_of


def factors() -> bytes:
    model = FactorModel({id_: Track(id_, f"a{id_ % 7}", None, f"g{id_ % 3}", "x") for id_ in range(40)})
    learn_sessions(model, sessions_of(40, 1))
    return model.to_bytes()


def scores() -> bytes:
    rng = np.random.default_rng(5)
    scorer = TrackScorer(rng.normal(size=(50, BIAS + 1)).astype(np.float32), rng.integers(0, 9, (2, 50)))
    tastes = scorer.tastes(rng.integers(0, 50, (3, 6)), rng.normal(size=(3, 6)).astype(np.float32), np.array([6, 1, 4]))
    by_value = rng.normal(size=(3, 9)).astype(np.float32)
    of_cells = scorer.of_cells(tastes, by_value, np.array([[0], [7], [9]]), np.array([[5], [9], [20]]))
    of_tracks = scorer.of_tracks(tastes, by_value, np.repeat([0, 1, 2], 3), np.arange(9))
    return tastes.tobytes() + of_cells.tobytes() + of_tracks.tobytes()


def hashes() -> list[str]:
    return [hashlib.sha256(made()).hexdigest() for made in (factors, scores)]


def test_compiled_code_gives_the_bytes_that_python_gives() -> None:
    tell = f"import json; from {__name__} import hashes; print(json.dumps(hashes()))"
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", tell], env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, check=True
    )
    assert json.loads(told.stdout) == hashes()
