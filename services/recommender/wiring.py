"""Which recommenders there are, and what each is given."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

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


class Parts(NamedTuple):
    """What a recommender is made of.

    Attributes
    ----------
    catalogue : Catalogue
    pools : GenrePools
        Of this catalogue.
    sources : Sources
    others : mapping of name to Recommender
        Those that stand before it in `RECOMMENDERS`.
    """

    catalogue: Catalogue
    pools: GenrePools
    sources: Sources
    others: Mapping[str, Recommender]


RECOMMENDERS: Mapping[str, Callable[[Parts], Recommender]] = {
    RandomTracks.name: lambda of: RandomTracks(of.catalogue),
    TopPop.name: lambda of: TopPop(of.sources.top),
    StickyArtist.name: lambda of: StickyArtist(of.catalogue),
    StickyArtistMixed.name: lambda of: StickyArtistMixed(of.catalogue),
    Contextual.name: lambda of: Contextual(of.sources.neighbours),
    Indexed.name: lambda of: Indexed(of.sources.user_lists),
    SimilarUsers.name: lambda of: SimilarUsers(of.catalogue, of.sources.neighbours),
    I2I.name: lambda of: I2I(of.sources.neighbours),
    StickyNoRepeat.name: lambda of: StickyNoRepeat(of.catalogue),
    Memory.name: lambda of: Memory(of.catalogue),
    I2IStream.name: lambda of: I2IStream(of.catalogue, of.sources.graph),
    Fism.name: lambda of: Fism(of.catalogue, of.pools, of.sources.factors),
    Rerank.name: lambda of: Rerank(of.catalogue, of.pools, of.sources.factors, of.sources.graph),
    Mix.name: lambda of: Mix(of.others, Gate(Mix.name, POLICIES, of.sources.policy_results, of.sources.clock)),
}
"""All that can be named in an experiments file, and how each is made."""


class Maker:
    """Makes all recommenders for a catalogue, and gets snapshots ready for it before they are served.

    Parameters
    ----------
    guard : callable of Recommender, optional
        What is put around each, those that `mix` asks included; see `Guards`.
    """

    def __init__(self, guard: Callable[[Recommender], Recommender] = lambda recommender: recommender) -> None:
        self._guard = guard
        nothing = Catalogue([])
        # one value, because the thread that follows the models reads it
        self._served = nothing, GenrePools(nothing)

    def make(self, catalogue: Catalogue, sources: Sources) -> list[Recommender]:
        """Return every recommender."""
        pools = GenrePools(catalogue)
        self._served = catalogue, pools
        made: dict[str, Recommender] = {}
        for name, make in RECOMMENDERS.items():
            made[name] = self._guard(make(Parts(catalogue, pools, sources, made)))
        return list(made.values())

    def factors(self, model: Model) -> ServedFactors:
        """Read a snapshot of the factors; in the thread that follows the models."""
        served = factors_of(model)
        served.table(*self._served)
        return served

    def graph(self, model: Model) -> ServedGraph:
        """Read a snapshot of the item graph; in the thread that follows the models."""
        served = graph_of(model)
        served.of(self._served[0])
        return served
