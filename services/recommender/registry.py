"""The registry: one entry for each recommender, and how all of them are built for a catalogue.

The service rebuilds them when the catalogue has grown; see `LiveRecommenders` in `dispatch`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.events import Model
from services.recommender.bandit import POLICIES, Bandit, Mix, Results
from services.recommender.candidates import LatestGraph, ServedGraph, graph_of
from services.recommender.catalogue import Catalogue
from services.recommender.factors import GenrePools, LatestFactors, ServedFactors, factors_of
from services.recommender.item_to_item import I2I, I2IStream
from services.recommender.lists import Contextual, Indexed, LatestLists
from services.recommender.memory import Memory
from services.recommender.protocol import RandomStream, Recommender
from services.recommender.random_tracks import RandomTracks
from services.recommender.rerank import Fism, Rerank
from services.recommender.similar_users import SimilarUsers
from services.recommender.sticky_artist import StickyArtist, StickyArtistMixed
from services.recommender.sticky_norepeat import StickyNoRepeat
from services.recommender.toppop import TopPop


@dataclass(frozen=True, slots=True)
class RecommenderInputs:
    """What recommenders read besides the request: each callable returns the newest value.

    Attributes
    ----------
    top : callable returning ndarray of int64
        The most popular tracks.
    neighbours, user_lists : callable returning Lists
        Lists from the batch job.
    factors, graph : callable returning a snapshot, or None before the first
    policy_results : callable returning a mapping
        Sum of time and number of ended sessions, by policy.
    clock : callable
        Seconds; says when the policy results are read again.
    """

    top: Callable[[], NDArray[np.int64]]
    neighbours: LatestLists
    user_lists: LatestLists
    factors: LatestFactors
    graph: LatestGraph
    policy_results: Results
    clock: Callable[[], float] = time.monotonic


class Parts(NamedTuple):
    """What a recommender is built from.

    Attributes
    ----------
    catalogue : Catalogue
    pools : GenrePools
        Of this catalogue.
    sources : RecommenderInputs
    others : mapping of name to Recommender
        Those listed before it in `RECOMMENDERS`.
    random_streams : tuple of int
        Those of its registry entry.
    """

    catalogue: Catalogue
    pools: GenrePools
    sources: RecommenderInputs
    others: Mapping[str, Recommender]
    random_streams: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One recommender: all that the service, the experiments file and the benchmark know of it.

    Attributes
    ----------
    recommender : type
        Its class, which says its name and its fallback.
    factory : callable of Parts
    random_streams : tuple of int
        What it draws from, see `RandomStream`; a number of its own is 16 or above.
    is_benchmarked : bool
        Whether `botify bench recommenders` measures it.
    needs_lists : bool
        Whether it answers from what a batch job made; the benchmark then runs that job first.
    """

    recommender: type[Recommender]
    factory: Callable[[Parts], Recommender]
    random_streams: tuple[int, ...] = ()
    is_benchmarked: bool = True
    needs_lists: bool = False

    @property
    def name(self) -> str:
        """Name in experiments and in logged answers."""
        return self.recommender.name

    @property
    def fallback(self) -> str | None:
        """Name of the recommender that answers where this one cannot."""
        return self.recommender.fallback


RECOMMENDERS: dict[str, RegistryEntry] = {
    entry.name: entry
    for entry in (
        RegistryEntry(
            RandomTracks,
            lambda of: RandomTracks(of.catalogue),
            random_streams=(RandomStream.RANDOM,),
        ),
        RegistryEntry(
            TopPop,
            lambda of: TopPop(of.sources.top),
            random_streams=(RandomStream.TOPPOP,),
        ),
        RegistryEntry(
            StickyArtist,
            lambda of: StickyArtist(of.catalogue),
            random_streams=(RandomStream.STICKY_ARTIST,),
        ),
        RegistryEntry(
            StickyArtistMixed,
            lambda of: StickyArtistMixed(of.catalogue),
            random_streams=(RandomStream.STICKY_ARTIST_MIXED, RandomStream.RANDOM),
        ),
        RegistryEntry(
            Contextual,
            lambda of: Contextual(of.sources.neighbours),
            random_streams=(RandomStream.CONTEXTUAL,),
            needs_lists=True,
        ),
        RegistryEntry(
            Indexed,
            lambda of: Indexed(of.sources.user_lists),
            random_streams=(RandomStream.INDEXED,),
            needs_lists=True,
        ),
        RegistryEntry(
            SimilarUsers,
            lambda of: SimilarUsers(of.catalogue, of.sources.neighbours),
            random_streams=(RandomStream.STICKY_ARTIST, RandomStream.SIMILAR_USERS),
            needs_lists=True,
        ),
        RegistryEntry(
            I2I,
            lambda of: I2I(of.sources.neighbours),
            random_streams=(RandomStream.I2I,),
            needs_lists=True,
        ),
        RegistryEntry(
            StickyNoRepeat,
            lambda of: StickyNoRepeat(of.catalogue),
            random_streams=(RandomStream.STICKY_NOREPEAT,),
        ),
        RegistryEntry(
            Memory,
            lambda of: Memory(of.catalogue),
            random_streams=(RandomStream.MEMORY,),
        ),
        RegistryEntry(
            I2IStream,
            lambda of: I2IStream(of.catalogue, of.sources.graph),
            random_streams=(RandomStream.I2I_STREAM,),
        ),
        RegistryEntry(
            Fism,
            lambda of: Fism(of.catalogue, of.pools, of.sources.factors),
            random_streams=(RandomStream.EXPLORE, RandomStream.EXPLORED_TRACK),
        ),
        RegistryEntry(
            Rerank,
            lambda of: Rerank(of.catalogue, of.pools, of.sources.factors, of.sources.graph),
            random_streams=(RandomStream.EXPLORE, RandomStream.EXPLORED_TRACK),
        ),
        RegistryEntry(
            Mix,
            lambda of: Mix(of.others, Bandit(Mix.name, POLICIES, of.sources.policy_results, of.sources.clock)),
            random_streams=(RandomStream.MIX,),
        ),
    )
}
"""All that can be named in an experiments file. To add a recommender, write its file and one entry here."""


class RecommenderFactory:
    """Builds all recommenders for a catalogue, and prepares snapshots for it before they are served.

    Parameters
    ----------
    guard : callable of Recommender, optional
        Wraps each recommender, including those that `mix` asks; see `Guards`.
    """

    def __init__(self, guard: Callable[[Recommender], Recommender] = lambda recommender: recommender) -> None:
        self._guard = guard
        nothing = Catalogue([])
        # one value, because the thread that reads the models uses it
        self._served = nothing, GenrePools(nothing)

    def make(self, catalogue: Catalogue, sources: RecommenderInputs) -> list[Recommender]:
        """Return every recommender."""
        pools = GenrePools(catalogue)
        self._served = catalogue, pools
        made: dict[str, Recommender] = {}
        for name, entry in RECOMMENDERS.items():
            parts = Parts(catalogue, pools, sources, made, entry.random_streams)
            made[name] = self._guard(entry.factory(parts))
        return list(made.values())

    def factors(self, model: Model) -> ServedFactors:
        """Read a snapshot of the factors; runs in the thread that reads the models."""
        served = factors_of(model)
        served.table(*self._served)
        return served

    def graph(self, model: Model) -> ServedGraph:
        """Read a snapshot of the item graph; runs in the thread that reads the models."""
        served = graph_of(model)
        served.of(self._served[0])
        return served
