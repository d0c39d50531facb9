"""The service, wired: which recommenders there are, and what each is given."""

from __future__ import annotations

from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.models import ModelReader
from schemas.settings import Settings
from services.experiments import DEFAULT_FILE, load_experiments
from services.recommender.catalogue import Catalogue
from services.recommender.contextual import Contextual
from services.recommender.i2i import I2I
from services.recommender.indexed import Indexed
from services.recommender.lists import NEIGHBOURS, USER_LISTS, latest, lists_of
from services.recommender.popular import PopularTracks
from services.recommender.protocol import Recommender
from services.recommender.random_tracks import RandomTracks
from services.recommender.roster import Roster
from services.recommender.service import RecommenderService
from services.recommender.similar_users import SimilarUsers
from services.recommender.sticky_artist import StickyArtist
from services.recommender.sticky_artist_mixed import StickyArtistMixed
from services.recommender.toppop import TopPop
from streams.read import StateReader
from streams.store.connect import connect


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

    models = ModelReader(settings, codec)
    neighbours = latest(models.follow(NEIGHBOURS, lists_of))
    user_lists = latest(models.follow(USER_LISTS, lists_of))
    models.start()

    def make(catalogue: Catalogue) -> list[Recommender]:
        return [
            RandomTracks(catalogue),
            TopPop(popular),
            StickyArtist(catalogue),
            StickyArtistMixed(catalogue),
            Contextual(neighbours),
            Indexed(user_lists),
            SimilarUsers(catalogue, neighbours),
            I2I(neighbours),
        ]

    roster = Roster(CatalogueReader(settings, codec), make)
    experiments = load_experiments(settings.experiments or DEFAULT_FILE, roster.recommenders)
    return RecommenderService(settings, codec, reader, roster, experiments, models)
