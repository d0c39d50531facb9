"""Pending requests end with a reply, an error or a timeout."""

import pytest

from botify.schemas.events import Recommendation
from botify.services.errors import UnavailableError
from botify.services.gateway.rpc import PendingReplies

ANSWER = Recommendation("g-1", 42, 7, "random", {}, 0.1, 0, 1.0, 1000)


async def test_duplicate_and_unexpected_replies_are_dropped() -> None:
    waiting = PendingReplies(wait_s=1.0)
    future = waiting.open("g-1", requested=True, now_s=0.0)
    waiting.reply(ANSWER)
    waiting.reply(ANSWER._replace(track=9))
    waiting.reply(ANSWER._replace(request_id="g-0"))
    waiting.acknowledge("g-1")
    assert (await future) == ANSWER


async def test_a_cancelled_request_does_not_affect_others() -> None:
    waiting = PendingReplies(wait_s=1.0)
    for number in range(3):
        waiting.open(f"g-{number}", requested=True, now_s=0.0).cancel()
    waiting.acknowledge("g-0")
    waiting.reply(ANSWER._replace(request_id="g-0"))
    waiting.fail("g-1", "away")
    waiting.expire(now_s=1.0)
    assert len(waiting) == 0


async def test_a_listen_that_has_no_open_topic_gets_the_whole_time_again() -> None:
    waiting = PendingReplies(wait_s=1.0)
    held = waiting.open("g-1", requested=False, now_s=0.0)
    other = waiting.open("g-2", requested=False, now_s=0.1)
    waiting.hold("g-1", now_s=0.9)
    assert waiting.expire(now_s=1.2) == 1
    assert (other.done(), held.done()) == (True, False)
    with pytest.raises(UnavailableError):
        await other
    waiting.acknowledge("g-1")
    assert await held is None
