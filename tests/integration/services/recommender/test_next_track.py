"""Invariant: `next_track` answers from what the learner published, for the history that Redis has."""

from botify.core.settings import Settings
from botify.schemas.topics import Topics
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.next_track import BEST, NextTrackRecommender
from botify.services.recommender.protocol import Batch
from botify.streams.learner.models.next_track_projection import model_of_snapshot
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from tests.integration.services.recommender.test_service import answers, ask, in_this_process, requests, steps_until
from tests.learning import all_learned, assert_learned
from tests.support import eventually, make_listens, make_tracks, produce, running, write_catalogue

TRACKS, USERS = 200, 120


def test_what_the_learner_published_ranks_what_redis_has(settings: Settings) -> None:
    write_catalogue(settings, TRACKS)
    with running(settings, "botify.streams.worker"), running(settings, "botify.streams.learner"):
        produce(settings, Topics.of(settings).listens.name, make_listens(3_000, users=USERS, tracks=TRACKS, seed=6))
        eventually(lambda: all_learned(settings))
    published = [model for model in assert_learned(settings).models if model.name == "next_track"]
    asked = [request._replace(user=request.user % USERS) for request in requests(200)]
    with in_this_process(settings, 'default = "next_track"') as service:
        steps_until(service, lambda: service.problem() is None)
        ask(settings, asked)
        steps_until(service, lambda: service.counters.answered == len(asked))
        assert service.answers == {"next_track": len(asked)}
        versions = {name: model.version for name, model in service.models.on_topic()}
    assert versions["next_track"] == published[-1].version >= 2_000
    redis = connect(settings)
    try:
        states, _ = StateReader(redis, settings).users_and_likes([request.user for request in asked])
    finally:
        redis.close()
    model = model_of_snapshot(published[-1].body)
    ranking = NextTrackRecommender(Catalogue(make_tracks(TRACKS)), lambda: model).rank(Batch.of(asked, states), BEST)
    best = {request.request_id: row for request, row in zip(asked, ranking.tracks.tolist(), strict=True)}
    found = {answer.request_id: answer.track for answer in answers(settings)}
    assert all(track in best[request_id] for request_id, track in found.items())
    first = sum(track == best[request_id][0] for request_id, track in found.items())
    assert first > 0.9 * len(asked)
    heard = {
        request.request_id: {request.track, *state.last_listens()["track"].tolist()}
        for request, state in zip(asked, states, strict=True)
        if state is not None
    }
    assert len(heard) == len(asked)
    assert not any(track in heard[request_id] for request_id, track in found.items())
