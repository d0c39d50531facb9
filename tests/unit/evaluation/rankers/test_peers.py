"""Peers keep the rules, and find what goes together; those that are not installed are skipped."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from botify.evaluation import MissingPeerError
from botify.evaluation.evaluate import Job, replays
from botify.evaluation.log import Log
from botify.evaluation.protocols import Terms
from botify.evaluation.ranker import UNTUNED, Setup
from botify.evaluation.rankers.peers import Ease
from botify.evaluation.rankers.registry import PEERS, require_peer
from tests.unit.evaluation.logs import random_log, reported


def blocks_log(users: int = 60, blocks: int = 8, size: int = 8) -> Log:
    """Users who each hear six items of one block, in any order."""
    generator = np.random.default_rng(0)
    items = np.concatenate([user % blocks * size + generator.permutation(size)[:6] for user in range(users)])
    return Log.of("blocks", np.repeat(np.arange(users), 6), items)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_keeps_the_rules(name: str) -> None:
    _skip_without_package(name)
    for protocol in ("prequential", "leave-last-out"):
        (outcome,) = replays(Job(name, random_log(), Terms(protocol=protocol), range(1)))
        assert outcome.note == UNTUNED


@pytest.mark.parametrize("name", ["ease", "item_knn", "als", "rtrec_slim"])
def test_a_peer_finds_the_rest_of_a_block(name: str) -> None:
    _skip_without_package(name)
    terms = Terms(protocol="leave-last-out", k=3)
    assert (
        reported(replays(Job(name, blocks_log(), terms, range(1)))[0]) > 0.5
    )  # three of a block are left, of 64 items


def test_ease_has_the_weights_of_its_formula() -> None:
    dense = (np.random.default_rng(1).random((80, 30)) < 0.2).astype(np.float64)
    dense[:, 7] = 0.0  # an item that nobody heard
    heard = sparse.csr_matrix(dense, dtype=np.float32)
    ease = Ease(Setup(users=80, items=30, tracks=(), events=1, settings={"l2": 3.0}))
    ease.fit(heard)
    inverse = np.linalg.inv(dense.T @ dense + 3.0 * np.eye(30))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    np.testing.assert_allclose(ease.scores_of(np.arange(80), heard), dense @ weights, atol=1e-5)


@pytest.mark.parametrize("protocol", ["prequential", "leave-last-out"])
def test_sasrec_learns_what_comes_next(protocol: str) -> None:
    """Users walk along one ring, from anywhere: only the order says which neighbour of the last item is next."""
    _skip_without_package("sasrec")
    starts = np.random.default_rng(0).integers(0, 20, 80)
    log = Log.of("ring", np.repeat(np.arange(80), 8), (starts[:, None] + np.arange(8)).ravel() % 20)
    settings = {"epochs": 60.0, "n_factors": 32.0, "session_max_len": 10.0, "lr": 0.01}
    terms = Terms(protocol=protocol, k=1, repeats=True)
    (outcome,) = replays(Job("sasrec", log, terms, range(1), trainings=4, settings=settings))
    assert reported(outcome) > 0.8
    assert outcome.note == ""


def test_sasrec_says_nothing_while_no_user_has_two_items() -> None:
    _skip_without_package("sasrec")
    log = Log.of("firsts", np.tile(np.arange(40), 2), np.arange(80), times_ms=np.arange(80) * 1000)
    (outcome,) = replays(Job("sasrec", log, Terms(), range(1), trainings=4))
    assert outcome.figures["coverage"] == 0


def _skip_without_package(name: str) -> None:
    try:
        require_peer(name)
    except MissingPeerError as error:
        pytest.skip(str(error))


LASTFM = Path(__file__).parents[5] / "shared" / "real-data" / "lastfm.txt"


@pytest.fixture(scope="module")
def lastfm() -> Log:
    if not LASTFM.is_file():
        pytest.skip("lastfm.txt is not beside the project")
    lines = [[int(id_) for id_ in line.split()] for line in LASTFM.read_text().splitlines()]
    users = np.repeat(np.arange(len(lines)), [len(line) - 1 for line in lines])
    return Log.of("lastfm", users, np.array([item for line in lines for item in line[1:]]))


@pytest.mark.parametrize(("name", "least", "most"), [("toppop", 0.042, 0.046), ("ease", 0.078, 0.096)])
def test_leave_last_out_gives_the_known_figures(lastfm: Log, name: str, least: float, most: float) -> None:
    (outcome,) = replays(Job(name, lastfm, Terms(protocol="leave-last-out"), range(1)))
    assert np.count_nonzero(outcome.reported) == 1_090
    assert least < reported(outcome) < most
