"""A like is a full listen for the next answer, and filters rank within what passes."""

from dataclasses import replace

import numpy as np
import pytest

from botify.ingest.sample import GROUP_SIZE, GROUPS
from botify.schemas.events import RecommendationRequest
from botify.services.recommender import factors
from botify.services.recommender.factors import ServedFactors
from botify.services.recommender.filters import Filters
from botify.services.recommender.protocol import Batch, rank
from botify.services.recommender.slates import from_state
from botify.streams.folds.feedback import Said
from botify.streams.learner.models.next_track import NextTrack
from tests.unit.services.made_up import CATALOGUE, TRACKS, Listener, MadeUp, heard_by, made_up_log, state_of_listens

NOW_MS = made_up_log().now_ms
USERS = range(0, 120, 3)


def likes_of(user: int, most: int) -> list[Said]:
    """Items of different artists, liked a moment ago, as at a sign-up."""
    rng = np.random.default_rng(user)
    liked = rng.permutation(GROUPS)[:most] * GROUP_SIZE + rng.integers(0, GROUP_SIZE, most)
    return [(NOW_MS - most + at, track, "like") for at, track in enumerate(liked.tolist())]


@pytest.mark.parametrize("heard", [0, 20])
@pytest.mark.parametrize(("likes", "least"), [(1, 0.3), (10, 0.8)])
def test_likes_change_the_next_answer(likes: int, least: float, heard: int) -> None:
    users = [user for user in USERS if len(heard_by(user, heard)) == heard]
    service = MadeUp("next_track", [Listener(heard_by(user, heard)) for user in users])
    shares = []
    for at, user in enumerate(users):
        before = [item.number for item in service.answer(at)]
        said = likes_of(user, likes)
        service.say(at, said)
        after = [item.number for item in service.answer(at)]
        assert len(after) == 10
        assert not {track for _, track, _ in said} & set(after)
        shares.append(len(set(after) - set(before)) / 10)
    assert len(users) > 10
    assert np.mean(shares) >= least


def test_what_was_liked_first_counts_less_than_what_was_heard_since() -> None:
    heard, old, new = heard_by(0, 20), (1_000, 300, "like"), (NOW_MS, 300, "like")
    service = MadeUp("next_track", [Listener(heard), Listener(heard, [old]), Listener(heard, [new])])
    plain, after_old, after_new = ({item.number for item in service.answer(user)} for user in range(3))
    assert len(plain & after_old) > len(plain & after_new)


@pytest.mark.parametrize("wanted", ["next_track", "rerank", "sticky_artist"])
def test_neither_what_is_liked_nor_what_is_disliked_is_recommended(wanted: str) -> None:
    said = [(NOW_MS, 41, "like"), (NOW_MS - 1, 40, "like"), (NOW_MS - 1, 42, "dislike"), (NOW_MS - 1, 43, "dislike")]
    service = MadeUp(wanted, [Listener(heard_by(0, 10), said), Listener([], said)])
    for user in (0, 1):
        items = service.answer(user, filters=["artist:artist 2"], n=30)
        assert {item.artist for item in items} == {"artist 2"}
        assert not {item.number for item in items} & {40, 41, 42, 43}


def test_a_like_counts_from_the_next_call_on() -> None:
    service = MadeUp("next_track", [Listener()])
    answers = [service.answer(0)]
    for at, kind in enumerate(("like", "unlike")):
        service.say(0, [(NOW_MS + at, 41, kind)])
        answers.append(service.answer(0))
    before, liked, after = ([item.number for item in items] for items in answers)
    assert before == after != liked


def asked(listener: Listener, filters: list[str]) -> Batch:
    state = state_of_listens(listener.heard)
    request = from_state(RecommendationRequest("r", 0, "s", 0, 0, 0.0, NOW_MS, 0), state)
    mask = Filters(len(CATALOGUE), TRACKS.values).mask(filters) if filters else None
    return replace(Batch.of([request], [state]), allowed=mask)


FILTERS = [["artist:artist 13"], ["genre:genre 2"], ["artist:artist 1", "artist:artist 19"]]


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("user", [0, 1, 5, None])
def test_next_track_ranks_within_what_passes_as_it_ranks_all(user: int | None, filters: list[str]) -> None:
    listener = Listener(heard_by(user) if user is not None else ())
    service = MadeUp("next_track", [listener])
    recommender = service.recommenders["next_track"]
    filtered, model = asked(listener, filters), service.models.next_track
    assert filtered.allowed is not None
    passing = set(CATALOGUE.tracks[filtered.allowed].tolist())

    def ranked(batch: Batch) -> list[int]:
        tracks = rank(recommender, batch, 400).tracks[0]
        return tracks[model.knows(tracks)].tolist()  # new tracks are placed by those around them

    found = ranked(filtered)
    assert len(found) >= 10
    assert set(found) <= passing
    about = model.about()
    about = {**about, "settings": {**about["settings"], "candidates": 1_000}}  # all that the history leads to
    service.models = service.models._replace(next_track=NextTrack.from_arrays(about, model.arrays()))
    everything = ranked(asked(listener, []))
    expected = [track for track in everything if track in passing]
    assert [track for track in found if track in expected][:10] == expected[:10]
    ranked(filtered)
    assert ranked(asked(listener, [])) == everything  # nothing is left of a filter


@pytest.mark.parametrize("filters", FILTERS)
def test_rerank_ranks_within_what_passes_as_it_ranks_all(filters: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(heard_by(3))
    service = MadeUp("rerank", [listener])
    recommender, filtered = service.recommenders["rerank"], asked(listener, filters)
    assert filtered.allowed is not None
    passing = set(CATALOGUE.tracks[filtered.allowed].tolist())
    everything = rank(recommender, asked(listener, []), 406).tracks[0].tolist()
    monkeypatch.setattr(factors, "OFFERED_CLUSTERS", 1)
    service.models = service.models._replace(factors=ServedFactors(service.models.factors._factors))
    found = rank(recommender, filtered, 406).tracks[0].tolist()
    assert [track for track in found if track in passing] == [track for track in everything if track in passing]


@pytest.mark.parametrize("name", ["rerank", "next_track", "botify"])
@pytest.mark.parametrize("filters", [[], *FILTERS])
def test_requests_of_equal_filters_are_ranked_together_as_alone(
    name: str, filters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners = [Listener(heard_by(user)) for user in range(4)]
    service = MadeUp(name, listeners)
    monkeypatch.setattr(service.models.factors, "by_value", 0.5)  # `botify` answers by both heads
    recommender = service.recommenders[name]
    alone = [asked(listener, filters) for listener in listeners]
    batch = Batch.of([one.requests[0] for one in alone], [one.states[0] for one in alone])
    together = rank(recommender, replace(batch, allowed=alone[0].allowed), 20)
    for at, one in enumerate(alone):
        found = rank(recommender, one, 20)
        assert found.tracks[0].tolist() == together.tracks[at].tolist()
        assert found.scores[0].tobytes() == together.scores[at].tobytes()


def test_one_artists_tracks_come_in_the_order_of_the_model() -> None:
    listener = Listener(heard_by(0))
    service = MadeUp("next_track", [listener])
    items = service.answer(0, "without an exploring place", ["artist:artist 13"])
    assert "explored at random" not in [item.reason.text for item in items if item.reason]
    ranked = rank(service.recommenders["next_track"], asked(listener, ["artist:artist 13"]), 10).tracks[0].tolist()
    assert [item.number for item in items] == ranked
