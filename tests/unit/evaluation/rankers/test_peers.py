"""Peers keep the rules, and find what goes together; those that are not installed are skipped."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from botify.analytics.offline.ranking import NO_TRACK
from botify.evaluation import MissingPeerError
from botify.evaluation.evaluate import Job, replays
from botify.evaluation.log import Events, Log
from botify.evaluation.protocols import Terms
from botify.evaluation.ranker import UNTUNED, Setup
from botify.evaluation.rankers.peers import Ease
from botify.evaluation.rankers.registry import PEERS, require_peer
from botify.evaluation.rankers.session_peers import LENGTH, Personal, VSknn
from tests.unit.evaluation.logs import random_log, reported


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_keeps_the_rules(name: str) -> None:
    _skip_without_package(name)
    for protocol in ("prequential", "leave-last-out"):
        (outcome,) = replays(Job(name, random_log(), Terms(protocol=protocol), range(1)))
        assert outcome.note == UNTUNED


@pytest.mark.parametrize("name", ["vsknn", "ease", "item_knn", "als", "rtrec_slim"])
def test_a_peer_finds_the_rest_of_a_block(name: str) -> None:
    """Users each hear six items of one block of eight, in any order."""
    _skip_without_package(name)
    generator = np.random.default_rng(0)
    items = np.concatenate([user % 8 * 8 + generator.permutation(8)[:6] for user in range(60)])
    log = Log.of("blocks", np.repeat(np.arange(60), 6), items)
    (outcome,) = replays(Job(name, log, Terms(protocol="leave-last-out", k=3), range(1)))
    assert reported(outcome) > 0.5  # three of a block are left, of 64 items


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


def votes_of_similar_sessions(events: Events, user: int, k: int, sample: int) -> dict[int, float]:
    """V-SKNN from the events so far, stated plainly."""
    sessions: dict[tuple[int, int], dict[int, int]] = {}  # when each item was first heard in each
    rows = zip(events.users.tolist(), events.items.tolist(), events.sessions.tolist(), strict=True)
    for at, (user_, item, number) in enumerate(rows):
        sessions.setdefault((user_, number), {}).setdefault(item, at)
    own = events.rows(events.users == user)
    asked = list(dict.fromkeys(own.items.tolist()[::-1]))[:LENGTH]
    similarity: dict[tuple[int, int], float] = {}
    places: dict[tuple[int, int], int] = {}
    for place, item in enumerate(asked):
        having = [key for key in sessions if item in sessions[key]]
        for key in sorted(having, key=lambda key: sessions[key][item])[-sample:]:
            similarity[key] = similarity.get(key, 0) + (len(asked) - place) / len(asked)
            places.setdefault(key, place + 1)
    newest = [key for key in sessions if key in similarity and key != (user, int(own.sessions[-1]))][-sample:]
    scores: dict[int, float] = {}
    for key in sorted(newest, key=lambda key: similarity[key])[-k:]:
        for item in sessions[key]:
            scores[item] = scores.get(item, 0) + similarity[key] / places[key]
    for item in scores:
        scores[item] *= np.log(len(sessions) / sum(item in other for other in sessions.values()))
    return scores


@pytest.mark.parametrize(("k", "sample"), [(5, 1_000), (1_000, 1_000), (4, 12)])
def test_vsknn_votes_as_its_formula(k: int, sample: int) -> None:
    log = random_log(users=20, items=200, events=900)
    sessions = log.events.sessions * 0 + np.arange(900) // 150  # all users number theirs alike
    events = log.events._replace(sessions=sessions, fractions=np.ones(900, np.float32))
    ranker = VSknn(Setup(20, 200, (), 900, repeats=True, settings={"k": k, "sample": sample}))
    for end in range(300, 901, 100):
        ranker.learn(events.rows(slice(end - 100 if end > 300 else 0, end)))
        lists = ranker.rank(np.arange(20), np.zeros(20, dtype=np.int64), 30)
        for user, ranked in enumerate(lists.tolist()):
            scores = votes_of_similar_sessions(events.rows(slice(end)), user, k, sample)
            found = [item for item in ranked if item in scores]
            assert len(set(found)) == min(30, len(scores))
            assert [scores[item] for item in found] == pytest.approx(sorted(scores.values(), reverse=True)[:30])


@pytest.mark.parametrize("half_life", [0.0, 1.0, 10.0])
def test_what_a_user_plays_most_comes_first_then_what_all_play(half_life: float) -> None:
    users, items = np.repeat([0, 1], 400), np.concatenate([np.arange(400) % 7 % 5, np.arange(400) % 3 + 10])
    log = Log.of("plays", users, items, times_ms=np.arange(800) * 1000)
    ranker = Personal(Setup(3, 20, (), 800, repeats=True, settings={"half_life": half_life}))
    for begin in range(0, 800, 50):
        ranker.learn(log.events.rows(slice(begin, begin + 50)))
    lists = ranker.rank(np.arange(3), np.zeros(3, dtype=np.int64), 10).tolist()
    for user in (0, 1):
        ages = np.arange(400)[::-1]
        weights = np.bincount(items[users == user], 0.5 ** (ages / half_life) if half_life else None, 20)
        expected = np.lexsort((-np.arange(20), -weights))[: np.count_nonzero(weights)].tolist()
        assert lists[user][: len(expected)] == expected
        assert sorted(lists[user]) == [NO_TRACK, NO_TRACK, 0, 1, 2, 3, 4, 10, 11, 12]
    popularity = np.bincount(items, minlength=20)
    assert (np.diff(popularity[lists[2][:8]]) <= 0).all(), "who has played nothing gets what is popular"


@pytest.mark.parametrize("name", ["vsknn", "personal"])
def test_a_peer_of_sessions_recommends_what_was_heard_where_it_may_be_repeated(name: str) -> None:
    (outcome,) = replays(Job(name, random_log(), Terms(repeats=True), range(1)))
    assert reported(outcome) > 0.3


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
