"""What recommenders serve from, connected: the state, the catalogue, and the models on their topic."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from botify.core.numba_cache import give_back_compiler
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.models import ModelReader
from botify.schemas.topics import feedback_partitions
from botify.services.recommender.baselines import PopularTracks
from botify.services.recommender.dispatch import Breaker, Guards, LiveRecommenders
from botify.services.recommender.lists import NEIGHBOURS, NO_LISTS, USER_LISTS, lists_of
from botify.services.recommender.registry import RECOMMENDERS, OnDemand, RecommenderFactory, RecommenderInputs
from botify.services.recommender.slates import Slates
from botify.streams.learner.models import next_track as next_track_model
from botify.streams.learner.models import scoring
from botify.streams.learner.models.factors import FactorModel
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_projection import NextTrackProjection
from botify.streams.read import StateReader
from botify.streams.store.connect import SERVING_TIMEOUT_S, connect


class Connected(NamedTuple):
    """Recommenders and what they serve from; `models` are read when its `start` or `refresh` is called."""

    reader: StateReader
    live: LiveRecommenders
    models: ModelReader
    breakers: Mapping[str, Breaker]


def connect_recommenders(settings: Settings, codec: Codec, timeout_s: float = SERVING_TIMEOUT_S) -> Connected:
    """Connect, and read the catalogue; raises `BotifyError` if Kafka or Redis cannot be reached.

    `timeout_s` is how long a read of the state may take.
    """
    next_track_model.warm_up()
    scoring.warm_up()
    give_back_compiler()
    reader = StateReader(connect(settings, timeout_s), settings, feedback_partitions(settings))
    models = ModelReader(settings, codec)
    guards = Guards()
    factory = RecommenderFactory(guards)
    factors = models.follow(FactorModel.name, factory.factors, FactorModel.merged)
    next_track = models.follow(NextTrack.name, OnDemand(factory.next_track), NextTrackProjection.merged)
    neighbours, user_lists = models.follow(NEIGHBOURS, lists_of), models.follow(USER_LISTS, lists_of)
    inputs = RecommenderInputs(
        top=PopularTracks(reader, time.monotonic),
        neighbours=lambda: neighbours.current or NO_LISTS,
        user_lists=lambda: user_lists.current or NO_LISTS,
        factors=lambda: factors.current,
        next_track=lambda: None if next_track.current is None else next_track.current(),
        longer_top=lambda count: reader.top_tracks("1d", count).tracks,
    )

    popular = PopularTracks(reader, time.monotonic, 1_000)  # filters leave few of them

    def models_of(recommender: str) -> dict[str, int]:
        return {name: one.version for name, one in models.on_topic() if name in RECOMMENDERS[recommender].models}

    # read the catalogue before the models, so that the snapshots on the topic are prepared for it before serving begins
    live = LiveRecommenders(
        CatalogueReader(settings, codec),
        lambda catalogue: factory.make(catalogue, inputs),
        lambda catalogue, tracks: Slates(catalogue, tracks, popular, models_of),
    )
    return Connected(reader, live, models, guards.breakers)
