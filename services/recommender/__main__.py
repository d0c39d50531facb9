"""`python -m services.recommender`: answers requests until SIGTERM; several processes share the partitions."""

import os

# Products of a few dozen rows gain nothing from more threads, and synchronising them costs as much as the work itself.
# numpy reads this variable when it is loaded, so it is set before any other import.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import logging
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from core.errors import BotifyError
from core.logging import configure_logging
from core.settings import Settings
from core.telemetry import Heartbeat, new_registry, observed
from schemas.catalogue import CatalogueReader
from schemas.models import ModelReader
from schemas.registry import codec_of
from services.experiments import DEFAULT_FILE, load_experiments
from services.recommender.dispatch import Guards, LiveRecommenders
from services.recommender.lists import NEIGHBOURS, USER_LISTS, latest, lists_of
from services.recommender.metrics import RecommenderMetrics
from services.recommender.registry import RECOMMENDERS, RecommenderFactory, RecommenderInputs
from services.recommender.service import RecommenderService
from services.recommender.toppop import PopularTracks
from streams.learner.models.factors import FactorModel
from streams.learner.models.item_graph import ItemGraph
from streams.read import StateReader
from streams.store.connect import SERVING_TIMEOUT_S, connect

log = logging.getLogger("services.recommender")


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
    factory = RecommenderFactory(guards)
    factors = models.follow(FactorModel.name, factory.factors)
    graph = models.follow(ItemGraph.name, factory.graph)
    sources = RecommenderInputs(
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
    # read the catalogue before the models, so that the snapshots on the topic are prepared for it before serving begins
    live = LiveRecommenders(CatalogueReader(settings, codec), lambda catalogue: factory.make(catalogue, sources))
    models.start()
    return RecommenderService(settings, codec, reader, live, experiments, models, guards.breakers)


def main() -> None:
    """Run the service until SIGTERM or SIGINT; exit with 1 on failure."""
    stopping: list[int] = []

    def stop(signum: int, _: FrameType | None) -> None:
        stopping.append(signum)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        settings = Settings.from_env()
        configure_logging(settings)
        service = build_service(settings)
        log.info("ready")
        _serve(settings, service, stopping)
        service.close()
        log.info("stopped: %s", service.counters)
    except BotifyError as error:
        log.critical("%s", error)
        sys.exit(1)


def _serve(settings: Settings, service: RecommenderService, stopping: Sequence[int]) -> None:
    registry, heartbeat = new_registry(), Heartbeat()
    registry.register(RecommenderMetrics(service))
    with observed(settings, registry, alive=heartbeat.probe, ready=service.problem):
        while not stopping:
            service.step()
            heartbeat.beat()


if __name__ == "__main__":
    main()
