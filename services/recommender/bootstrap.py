"""The service, wired: which recommenders there are, and what each is given."""

from __future__ import annotations

from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.settings import Settings
from services.experiments import DEFAULT_FILE, load_experiments
from services.recommender.catalogue import Catalogue
from services.recommender.popular import PopularTracks
from services.recommender.protocol import Recommender
from services.recommender.random_tracks import RandomTracks
from services.recommender.roster import Roster
from services.recommender.service import RecommenderService
from services.recommender.sticky_artist import StickyArtist
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

    def make(catalogue: Catalogue) -> list[Recommender]:
        return [RandomTracks(catalogue), TopPop(popular), StickyArtist(catalogue)]

    roster = Roster(CatalogueReader(settings, codec), make)
    experiments = load_experiments(settings.experiments or DEFAULT_FILE, roster.recommenders)
    return RecommenderService(settings, codec, reader, roster, experiments)
