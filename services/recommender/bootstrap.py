"""The service, wired: which recommenders there are, and what each is given."""

from __future__ import annotations

from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.events import Model
from schemas.models import ModelReader
from schemas.settings import Settings
from services.experiments import DEFAULT_FILE, load_experiments
from services.recommender.catalogue import Catalogue
from services.recommender.contextual import Contextual
from services.recommender.fism import Fism
from services.recommender.gate import Gate
from services.recommender.genre_pools import GenrePools
from services.recommender.i2i import I2I
from services.recommender.i2i_stream import I2IStream, ServedGraph, graph_of
from services.recommender.indexed import Indexed
from services.recommender.lists import NEIGHBOURS, USER_LISTS, latest, lists_of
from services.recommender.memory import Memory
from services.recommender.mix import POLICIES, Mix
from services.recommender.popular import PopularTracks
from services.recommender.protocol import Recommender
from services.recommender.random_tracks import RandomTracks
from services.recommender.rerank import Rerank
from services.recommender.roster import Roster
from services.recommender.served_factors import ServedFactors, factors_of
from services.recommender.service import RecommenderService
from services.recommender.similar_users import SimilarUsers
from services.recommender.sticky_artist import StickyArtist
from services.recommender.sticky_artist_mixed import StickyArtistMixed
from services.recommender.sticky_norepeat import StickyNoRepeat
from services.recommender.toppop import TopPop
from streams.learner.models.factors import FactorModel
from streams.learner.models.item_graph import ItemGraph
from streams.read import StateReader
from streams.store.connect import connect


class _Shelf:
    """The catalogue that recommenders were last made for, so that a snapshot is ready for it before it is served."""

    def __init__(self) -> None:
        self._catalogue = Catalogue([])
        self._pools = GenrePools(self._catalogue)

    def stock(self, catalogue: Catalogue) -> GenrePools:
        """Keep a catalogue, and return its pools."""
        pools = GenrePools(catalogue)
        self._catalogue, self._pools = catalogue, pools
        return pools

    def factors(self, model: Model) -> ServedFactors:
        """Read a snapshot of the factors; in the thread that follows the models."""
        served = factors_of(model)
        served.table(self._catalogue, self._pools)
        return served

    def graph(self, model: Model) -> ServedGraph:
        """Read a snapshot of the item graph; in the thread that follows the models."""
        served = graph_of(model)
        served.of(self._catalogue)
        return served


def build_service(settings: Settings) -> RecommenderService:
    """Read the catalogue and the experiments, connect, and return the service.

    Raises
    ------
    BotifyError
        Kafka or Redis cannot be reached, or the experiments file is wrong.
    """
    codec = Codec()
    reader = StateReader(connect(settings), settings)
    popular = PopularTracks(reader)
    gate = Gate(Mix.name, POLICIES, reader.policy_results)

    models = ModelReader(settings, codec)
    neighbours = latest(models.follow(NEIGHBOURS, lists_of))
    user_lists = latest(models.follow(USER_LISTS, lists_of))
    shelf = _Shelf()
    factors = models.follow(FactorModel.name, shelf.factors)
    graph = models.follow(ItemGraph.name, shelf.graph)
    models.start()

    def make(catalogue: Catalogue) -> list[Recommender]:
        pools = shelf.stock(catalogue)
        recommenders: list[Recommender] = [
            RandomTracks(catalogue),
            TopPop(popular),
            StickyArtist(catalogue),
            StickyArtistMixed(catalogue),
            Contextual(neighbours),
            Indexed(user_lists),
            SimilarUsers(catalogue, neighbours),
            I2I(neighbours),
            StickyNoRepeat(catalogue),
            Memory(catalogue),
            I2IStream(catalogue, lambda: graph.current),
            Fism(catalogue, pools, lambda: factors.current),
            Rerank(catalogue, pools, lambda: factors.current, lambda: graph.current),
        ]
        return [*recommenders, Mix({one.name: one for one in recommenders}, gate)]

    roster = Roster(CatalogueReader(settings, codec), make)
    experiments = load_experiments(settings.experiments or DEFAULT_FILE, roster.recommenders)
    return RecommenderService(settings, codec, reader, roster, experiments, models)
