"""Which recommenders there are, and what each is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.events import Model
from services.recommender.catalogue import Catalogue
from services.recommender.contextual import Contextual
from services.recommender.fism import Fism
from services.recommender.gate import Gate, Results
from services.recommender.genre_pools import GenrePools
from services.recommender.i2i import I2I
from services.recommender.i2i_stream import I2IStream, LatestGraph, ServedGraph, graph_of
from services.recommender.indexed import Indexed
from services.recommender.lists import LatestLists
from services.recommender.memory import Memory
from services.recommender.mix import POLICIES, Mix
from services.recommender.protocol import Recommender
from services.recommender.random_tracks import RandomTracks
from services.recommender.rerank import Rerank
from services.recommender.served_factors import LatestFactors, ServedFactors, factors_of
from services.recommender.similar_users import SimilarUsers
from services.recommender.sticky_artist import StickyArtist
from services.recommender.sticky_artist_mixed import StickyArtistMixed
from services.recommender.sticky_norepeat import StickyNoRepeat
from services.recommender.toppop import TopPop


@dataclass(frozen=True, slots=True)
class Sources:
    """Where recommenders get what they do not find in a request: each is called for the newest.

    Attributes
    ----------
    top : callable returning ndarray of int64
        The most popular tracks.
    neighbours, user_lists : callable returning Lists
        What the batch job made.
    factors, graph : callable returning a snapshot, or None before the first
    policy_results : callable returning a mapping
        What sessions under each policy came to.
    clock : callable
        Seconds, by which these are read again.
    """

    top: Callable[[], NDArray[np.int64]]
    neighbours: LatestLists
    user_lists: LatestLists
    factors: LatestFactors
    graph: LatestGraph
    policy_results: Results
    clock: Callable[[], float] = time.monotonic


class Maker:
    """Makes all recommenders for a catalogue, and gets snapshots ready for it before they are served."""

    def __init__(self) -> None:
        self._catalogue = Catalogue([])
        self._pools = GenrePools(self._catalogue)

    def make(self, catalogue: Catalogue, sources: Sources) -> list[Recommender]:
        """Return every recommender."""
        pools = GenrePools(catalogue)
        self._catalogue, self._pools = catalogue, pools
        recommenders: list[Recommender] = [
            RandomTracks(catalogue),
            TopPop(sources.top),
            StickyArtist(catalogue),
            StickyArtistMixed(catalogue),
            Contextual(sources.neighbours),
            Indexed(sources.user_lists),
            SimilarUsers(catalogue, sources.neighbours),
            I2I(sources.neighbours),
            StickyNoRepeat(catalogue),
            Memory(catalogue),
            I2IStream(catalogue, sources.graph),
            Fism(catalogue, pools, sources.factors),
            Rerank(catalogue, pools, sources.factors, sources.graph),
        ]
        gate = Gate(Mix.name, POLICIES, sources.policy_results, sources.clock)
        return [*recommenders, Mix({recommender.name: recommender for recommender in recommenders}, gate)]

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
