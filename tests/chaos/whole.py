"""The invariant of every test here: whatever died, the state is the fold of the topic, and so is what was sent."""

from botify.core.kafka.admin import end_offsets
from botify.core.settings import Settings
from botify.schemas.events import SHOWN, Feedback, Session
from botify.schemas.topics import Topics
from tests.support import (
    TopicFold,
    checkpoints,
    eventually,
    listens_of_users,
    offline_fold,
    opinions_in_redis,
    opinions_of,
    read_events,
    redis_contents,
)

CATCH_UP_S = 120.0


def caught_up(settings: Settings, timeout_s: float = CATCH_UP_S) -> None:
    """Wait until everything is folded that is in the topic by now."""
    end = end_offsets(settings, Topics.of(settings).listens.name)

    def folded() -> bool:
        reached = checkpoints(settings)
        return all(reached.get(partition, 0) >= offset for partition, offset in end.items())

    eventually(folded, timeout_s, lambda: f"{checkpoints(settings)} is not {end}")


def assert_whole(settings: Settings, listens: int) -> TopicFold:
    """Wait for lag 0, then compare everything with an offline fold."""
    caught_up(settings)
    fold = offline_fold(settings)
    contents = redis_contents(settings)
    assert contents == fold.contents()
    topics = Topics.of(settings)
    said = [one for one in read_events(settings, topics.feedback, Feedback) if one.kind != SHOWN]
    eventually(lambda: opinions_in_redis(settings) == opinions_of(said), CATCH_UP_S, "the opinions that were given")
    assert sum(listens_of_users(contents).values()) == listens
    # sessions are sent at least once: copies are the same, and without them they are those of the fold
    assert set(read_events(settings, topics.sessions, Session)) == set(fold.sessions)
    return fold
