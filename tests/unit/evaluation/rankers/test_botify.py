"""Botify's own recommenders run with the code that serves, on listens and requests as a client sends them."""

from dataclasses import replace

import numpy as np
import pytest

from botify.evaluation import EvaluationError, MissingPeerError
from botify.evaluation.evaluate import Job, replays
from botify.evaluation.log import Log
from botify.evaluation.protocols import Terms
from botify.evaluation.ranker import Setup
from botify.evaluation.rankers.botify import NOTHING_HEARD, BotifyRanker, Listeners, heard_of
from botify.evaluation.rankers.registry import check_name, ranker_of
from botify.schemas.codec import Codec
from botify.schemas.events import Track
from botify.schemas.validation import check
from botify.services.lists.build import build_models
from botify.services.recommender.baselines import RandomTracks
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.lists import USER_LISTS, lists_of
from botify.services.recommender.protocol import Answers, Batch
from botify.services.recommender.registry import RECOMMENDERS, entry_of
from botify.streams.folds.users import HISTORY_LISTENS
from tests.unit.evaluation.logs import random_log, reported

USERS, ITEMS = np.array([0, 1, 0, 0]), np.array([5, 6, 7, 8])
LOG = Log.of("four", USERS, ITEMS, times_ms=np.arange(4) * 3_600_000, sessions=np.array([1, 2, 1, 3]))
CODEC = Codec()


class Drawing:
    """A recommender of someone else, which only draws."""

    name = "drawing"
    fallback = "random"

    def __init__(self, catalogue: Catalogue) -> None:
        self._random = RandomTracks(catalogue)

    def recommend(self, batch: Batch) -> Answers:
        return self._random.recommend(batch)


def job(name: str, log: Log, terms: Terms, refresh: int = 20) -> Job:
    return Job(name, log, terms, range(1), refresh)


@pytest.mark.parametrize("name", [*RECOMMENDERS, "drawing"])
@pytest.mark.parametrize("terms", [Terms(), Terms(protocol="leave-last-out"), Terms(repeats=True)])
def test_every_recommender_can_be_evaluated_and_keeps_the_rules(
    name: str, terms: Terms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECOMMENDERS, "drawing", entry_of(Drawing, RECOMMENDERS))
    check_name(name)
    (outcome,) = replays(job(name, songs(random_log()), terms))
    assert outcome.reported.any()
    assert outcome.figures["coverage"] > 0


def songs(log: Log) -> Log:
    """Give each artist five tracks, and each user several sessions."""
    sessions = log.events.users * 1_000 + np.arange(log.events.size) // 100
    tracks = [Track(item, f"artist {item // 5}", None, None, "x") for item in range(log.items)]
    return replace(log, events=log.events._replace(sessions=sessions), tracks=tracks)


def test_lists_are_built_along_the_log() -> None:
    log = random_log(users=40, items=30, events=1_200)
    setup = Setup(log.users, log.items, log.catalogue(), log.events.size, trainings=3, repeats=True)
    ranker, everyone = BotifyRanker("indexed", setup), np.arange(log.users)
    times_ms = np.zeros(log.users, dtype=np.int64)
    assert ranker.note == "lists built 3 times"
    ranker.learn(log.events.rows(slice(399)))
    assert (ranker.rank(everyone, times_ms, 5) < 0).all()
    ranker.learn(log.events.rows(slice(399, 400)))
    built = {model.name: lists_of(model) for model in build_models(heard_of(log.events.rows(slice(400))), 50, 50)}
    expected = built[USER_LISTS].of(everyone)[0]
    assert ranker.rank(everyone, times_ms, 5).tolist() == expected[:, :5].tolist()
    assert (expected[:, :5] >= 0).any()


def test_prequential_lists_come_from_models_as_old_as_the_refresh_allows() -> None:
    def recall(terms: Terms, refresh: int) -> float:
        (outcome,) = replays(job("toppop", random_log(events=2_000, items=200), terms, refresh))
        return reported(outcome)

    never = 10_000
    assert recall(Terms(), never) == 0 < recall(Terms(), 20)
    assert recall(Terms(protocol="leave-last-out"), never) > 0


def test_next_track_ranks_as_the_recommender_that_serves_it() -> None:
    log = random_log(users=40, items=100, events=1_200)
    setup = Setup(log.users, log.items, log.catalogue(), log.events.size)
    model, served = ranker_of("next_track", setup), BotifyRanker("next_track", setup)
    everyone, times_ms = np.arange(log.users), np.zeros(log.users, dtype=np.int64)
    assert np.bincount(log.events.users).max() <= HISTORY_LISTENS
    for begin in range(0, log.events.size, 300):
        for ranker in (model, served):
            ranker.learn(log.events.rows(slice(begin, begin + 300)))
        lists = model.rank(everyone, times_ms, 10)
        assert (lists >= 0).any()
        assert served.rank(everyone, times_ms, 10).tolist() == lists.tolist()


def test_what_cannot_be_evaluated_is_refused() -> None:
    with pytest.raises(EvaluationError, match="'guess' is not known; there are random, toppop"):
        ranker_of("guess", Setup(1, 1, (), 1))


def test_a_peer_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botify.evaluation.rankers.registry.find_spec", lambda name: None)
    with pytest.raises(MissingPeerError, match=r"als needs the package implicit: .* 'botify-streams\[peers\]'"):
        check_name("als")
    with pytest.raises(MissingPeerError, match=r"packages torch and .* rectools: .* 'botify-streams\[sasrec\]', then"):
        check_name("sasrec")


def listeners(repeats: bool = False) -> Listeners:
    return Listeners(Setup(users=3, items=9, tracks=LOG.catalogue(), events=4, repeats=repeats))


def test_listens_have_their_place_in_the_session() -> None:
    heard = listeners().hear(LOG.events)
    assert [(one.event_id, one.session_id, one.position) for one in heard] == [
        ("0", "1", 0), ("1", "2", 0), ("2", "1", 1), ("3", "3", 0),
    ]  # fmt: skip


def test_a_request_carries_the_last_listen_and_asks_for_enough() -> None:
    client = listeners()
    client.hear(LOG.events.rows(slice(3)))
    asked = client.requests(np.array([0, 1, 2]), np.array([9, 9, 9]), k=2)
    assert [(one.track, one.session_id, one.position) for one in asked[:2]] == [(7, "1", 1), (6, "2", 0)]
    assert asked[2].track == NOTHING_HEARD
    assert {one.list_size for one in asked} == {4}, "two, and the two that user 0 has heard"
    for request in asked:
        check(request, b"%d" % request.user, CODEC.encode(request))


def test_each_question_has_an_id_of_its_own() -> None:
    client, asked = listeners(), []
    for begin in range(2):
        client.hear(LOG.events.rows(slice(begin, begin + 1)))
        for _ in range(2):
            asked += client.requests(np.array([0, 0, 1]), np.zeros(3, dtype=np.int64), k=1)
    assert len({one.request_id for one in asked}) == len(asked)


def test_what_was_heard_is_left_out_unless_it_may_be_repeated() -> None:
    users, lists = np.array([0, 1]), np.array([[5, 7, 1, 2], [6, 5, -1, -1]])
    for repeats, expected in ((False, [[1, 2], [5, -1]]), (True, [[5, 7], [6, 5]])):
        client = listeners(repeats)
        client.hear(LOG.events.rows(slice(3)))
        assert client.new_to(users, lists, 2).tolist() == expected
