"""Every reason that `/v1` gives is true of the models that it names: many answers of each recommender."""

from collections import Counter
from operator import itemgetter

import numpy as np
import pytest

from botify.core.keyed_random import keys_of_texts, mix, uniform
from botify.services.gateway.v1.models import Recommended
from botify.services.recommender.protocol import RandomStream
from botify.services.recommender.registry import RECOMMENDERS
from botify.services.recommender.slates import EXPLORE
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_state import POOL
from tests.unit.services.made_up import (
    ITEMS,
    NEIGHBOURS,
    TOP,
    TRACKS,
    Listener,
    MadeUp,
    heard_by,
    likes_of_listens,
    made_up_log,
)

ANSWERS = 170  # of six tracks each: more than a thousand reasons
FILTERS = ([], [], ["genre:genre 1"], ["artist:artist 3", "artist:artist 4"])
NOW_MS = made_up_log().now_ms


def listeners() -> list[Listener]:
    """Some with long and with short histories, who like or do not, who only like, and somebody unknown."""
    found = [Listener()]
    for user in range(40):
        heard, rng = heard_by(user, (50, 2, 20, 0)[user % 4]), np.random.default_rng(user)
        likes = rng.choice(ITEMS, (0, 1, 5)[user % 3], replace=False).tolist()
        found.append(Listener(heard, [(NOW_MS - at * 3_600_000, track, "like") for at, track in enumerate(likes)]))
    return found


class Judge:
    """Knows the models, and finds what is false in a reason."""

    def __init__(self, model: NextTrack) -> None:
        self.model, arrays = model, model.arrays()
        self.rows = {item: row for row, item in enumerate(arrays["item_ids"].tolist())}
        self.links = [
            dict(zip(near.tolist(), weights.sum(axis=1).tolist(), strict=True))
            for near, weights in zip(arrays["neighbours"], arrays["weights"], strict=True)
        ]
        self.pool = set(arrays["pool"][: arrays["clock"][1]].tolist())
        self.worth = [
            {item: values[row] for item, row in self.rows.items()} for values in (arrays["plays"], arrays["recent"])
        ]

    def is_linked(self, one: int, other: int) -> bool:
        both = {one, other} <= self.rows.keys()
        return both and self.links[self.rows[one]].get(self.rows[other], 0.0) > 0

    def is_popular(self, item: int, filters: list[str]) -> bool:
        if not filters:
            return self.rows[item] in self.pool
        passing = [track for track in self.rows if passes(track, filters)]
        return any(sum(worth[other] > worth[item] for other in passing) < POOL for worth in self.worth)

    def is_true(self, item: Recommended, listener: Listener, filters: list[str], explored: bool) -> bool:
        reason = item.reason
        assert reason is not None
        text, cause, track = reason.text, reason.because, item.number
        heard, liked = {one.track: one.fraction for one in listener.heard}, listener.liked
        if explored or reason.policy == "random":
            return text == "explored at random" and cause is None
        if text == "popular now":
            causes = [one for one, share in heard.items() if share > 0] + liked
            from_model = not any(self.is_linked(one, track) for one in causes) and self.is_popular(track, filters)
            return cause is None and (track in TOP if reason.policy == "toppop" else from_model)
        if text == "new":
            return cause is None and reason.policy in ("next_track", "botify") and not self.model.knows([track])[0]
        if text == "you heard it before":
            return track in likes_of_listens(listener.heard).all()["track"] and reason.policy in ("rerank", "botify")
        if cause is None:
            silent = ("indexed", "rerank", "botify", "sticky_artist_mixed", "similar_users", "i2i")
            return text == f"offered by {reason.policy}" and reason.policy in silent
        one = cause.number
        listens = [(listen.timestamp_ms, listen.track) for listen in listener.heard]
        newest = sorted([*listens, *(said[:2] for said in listener.said)], key=itemgetter(0))[-1][1]
        said = f"you {'liked' if one in liked else 'heard'} {TRACKS[one].title}"
        by_graph = self.is_linked(one, track) and (one in liked or heard[one] > 0)
        sticky = reason.policy in ("sticky_artist", "sticky_norepeat")
        return (
            text == (f"by {item.artist}, of whom {said}" if sticky else f"because {said} by {TRACKS[one].artist}")
            and (one in heard or one in liked)
            and {
                "next_track": by_graph,
                "botify": by_graph,
                "contextual": track in NEIGHBOURS.get(one, []) and one == newest,
                "sticky_artist": TRACKS[one].artist == item.artist and one == newest,
                "sticky_norepeat": TRACKS[one].artist == item.artist,
            }.get(reason.policy, False)
        )


def passes(track: int, filters: list[str]) -> bool:
    return not filters or not {f"genre:{TRACKS[track].genre}", f"artist:{TRACKS[track].artist}"}.isdisjoint(filters)


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_no_reason_is_false(name: str) -> None:
    everybody, kinds, false = listeners(), Counter[str](), []
    service = MadeUp(name, everybody)
    judge = Judge(service.models.next_track)
    for at in range(ANSWERS):
        user, filters = at % len(everybody), FILTERS[at % len(FILTERS)]
        items = service.answer(user, f"r{at}", filters, n=6)
        keys = mix(keys_of_texts([f"r{at}"]), np.arange(6))
        explored = (uniform(keys, RandomStream.SLATE_EXPLORE) < EXPLORE).tolist()
        assert len(items) == 6
        for item, draws in zip(items, explored, strict=True):
            assert item.reason is not None
            kinds[f"{item.reason.policy}: {' '.join(item.reason.text.split()[:3])}"] += 1
            if not judge.is_true(item, everybody[user], filters, draws):
                false.append((user, filters, item.number, item.reason.policy, item.reason.text))
    assert not false, (len(false), false[:10])
    assert kinds[f"{name}: explored at random"] or name not in ("botify", "next_track", "toppop", "rerank"), kinds


def test_reasons_are_as_different_as_what_is_known() -> None:
    heard = heard_by(1)
    likes, nobody, listens = [(NOW_MS, 45, "like")], Listener(), Listener(heard)
    service = MadeUp("next_track", [nobody, listens, Listener([], likes), Listener(heard, likes)])
    texts = [[item.reason.text for item in service.answer(user) if item.reason] for user in range(4)]
    assert set(texts[0]) <= {"popular now", "explored at random"}
    assert sum(text.startswith("because you heard") for text in texts[1]) > 5
    assert sum(text.startswith("because you liked track 45 by artist 2") for text in texts[2]) > 5
    assert any(text.startswith("because you liked track 45 by artist 2") for text in texts[3])
