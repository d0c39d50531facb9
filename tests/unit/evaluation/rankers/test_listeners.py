"""Listens and requests of a log, as a client sends them."""

import numpy as np

from botify.evaluation.log import Log
from botify.evaluation.ranker import Setup
from botify.evaluation.rankers.botify import NOTHING_HEARD, Listeners
from botify.schemas.codec import Codec
from botify.schemas.validation import check

USERS, ITEMS = np.array([0, 1, 0, 0]), np.array([5, 6, 7, 8])
LOG = Log.of("four", USERS, ITEMS, times_ms=np.arange(4) * 3_600_000, sessions=np.array([1, 2, 1, 3]))
CODEC = Codec()


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
