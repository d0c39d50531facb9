"""Places of slates that are wasted on items which were shown three times and ignored, with simulated listeners."""

import numpy as np
import pytest

from botify.schemas.events import Feedback, Listen
from botify.services.recommender import slates
from botify.streams.folds.feedback import IGNORED_AFTER
from tests.unit.services.made_up import Listener, MadeUp, heard_by, likes_of_listens, state_of_listens

LISTENERS, VISITS, HOURS = 12, 15, 8
HEARD = 0.1  # share of the places whose item is heard


def wasted(wanted: str) -> float:
    """Return the share of places with an item that was shown three times since it was last heard.

    Every listener comes three times a day, sees ten items, and hears one of them on average.
    """
    rng = np.random.default_rng(1)
    heard = [heard_by(user, 10) for user in range(0, 3 * LISTENERS, 3)]
    service = MadeUp(wanted, [Listener(one) for one in heard])
    places = waste = 0
    times = [dict[int, int]() for _ in heard]
    for visit in range(VISITS):
        service.now_ms += HOURS * 3_600_000
        for user, since in enumerate(times):
            items = [one.number for one in service.answer(user, f"{user} {visit}")]
            places += len(items)
            waste += sum(since.get(item, 0) >= IGNORED_AFTER for item in items)
            service.store.fold(Feedback("f", user, 0, "shown", service.now_ms, tracks=items))
            for at, item in enumerate(items):
                since[item] = since.get(item, 0) + 1
                if rng.random() < HEARD:
                    since[item] = 0
                    fields = service.now_ms + 1, f"visit {visit}", at, False, None, {}, None, None
                    heard[user].append(Listen(f"{user} {visit} {at}", user, item, 1.0, *fields))
            service.folded[user] = state_of_listens(heard[user]), likes_of_listens(heard[user])
    return waste / places


@pytest.mark.parametrize("wanted", ["next_track", "rerank"])
def test_ignored_items_take_a_fifth_of_the_places_at_most(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = wasted(wanted)
    monkeypatch.setattr(slates, "IGNORED", 0.0)
    before = wasted(wanted)
    assert before > 0.2
    assert now <= 0.2 * before
