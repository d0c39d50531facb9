"""The service, connected to Kafka and Redis."""

from __future__ import annotations

import logging

from schemas.catalogue import CatalogueReader
from schemas.models import ModelReader
from schemas.registry import codec_of
from schemas.settings import Settings
from services.experiments import DEFAULT_FILE, load_experiments
from services.recommender.guard import Guards
from services.recommender.lists import NEIGHBOURS, USER_LISTS, latest, lists_of
from services.recommender.popular import PopularTracks
from services.recommender.roster import Roster
from services.recommender.service import RecommenderService
from services.recommender.wiring import RECOMMENDERS, Maker, Sources
from streams.learner.models.factors import FactorModel
from streams.learner.models.item_graph import ItemGraph
from streams.read import StateReader
from streams.store.connect import SERVING_TIMEOUT_S, connect

log = logging.getLogger(__name__)


def build_service(settings: Settings) -> RecommenderService:
    """Read the catalogue, the models and the experiments, connect, and return the service.

    Raises
    ------
    BotifyError
        Kafka or Redis cannot be reached, or the experiments file is wrong.
    """
    codec = codec_of(settings)
    reader = StateReader(connect(settings, SERVING_TIMEOUT_S), settings)
    models = ModelReader(settings, codec)
    guards = Guards()
    maker = Maker(guards)
    factors = models.follow(FactorModel.name, maker.factors)
    graph = models.follow(ItemGraph.name, maker.graph)
    sources = Sources(
        top=PopularTracks(reader),
        neighbours=latest(models.follow(NEIGHBOURS, lists_of)),
        user_lists=latest(models.follow(USER_LISTS, lists_of)),
        factors=lambda: factors.current,
        graph=lambda: graph.current,
        policy_results=reader.policy_results,
    )
    experiments = load_experiments(settings.experiments or DEFAULT_FILE, RECOMMENDERS)
    for warning in experiments.warnings():
        log.warning("%s", warning)
    # the catalogue first: then the models that are on the topic are made ready for it before anybody is served
    roster = Roster(CatalogueReader(settings, codec), lambda catalogue: maker.make(catalogue, sources))
    models.start()
    return RecommenderService(settings, codec, reader, roster, experiments, models, guards.breakers)
