"""All recommenders, made for the catalogue as it is, and made anew when it has grown."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.catalogue import CatalogueReader
from schemas.events import Model
from services.recommender.bandit import POLICIES, Bandit, Mix, Results
from services.recommender.catalogue import Catalogue
from services.recommender.dispatch import check_chains
from services.recommender.factors import LatestFactors, ServedFactors, factors_of
from services.recommender.genre_pools import GenrePools
from services.recommender.item_to_item import I2I, I2IStream, LatestGraph, ServedGraph, graph_of
from services.recommender.lists import Contextual, Indexed, LatestLists
from services.recommender.memory import Memory
from services.recommender.protocol import RandomStream, Recommender
from services.recommender.random_tracks import RandomTracks
from services.recommender.rerank import Fism, Rerank
from services.recommender.similar_users import SimilarUsers
from services.recommender.sticky_artist import StickyArtist, StickyArtistMixed
from services.recommender.sticky_norepeat import StickyNoRepeat
from services.recommender.toppop import TopPop

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0
LOOK_AGAIN_S = 0.2
"""How soon the topic is looked at again for a track that was not there, or for the first one."""

Make = Callable[[Catalogue], list[Recommender]]


class RecommenderRegistry:
    """Recommenders by name, for a catalogue that only grows.

    Parameters
    ----------
    reader : CatalogueReader
    make : callable of Catalogue
        Makes every recommender. Where it raises for a catalogue that has grown, those made before go on serving.
    """

    def __init__(self, reader: CatalogueReader, make: Make) -> None:
        self._reader = reader
        self._make = make
        self._looked_at = -LOOK_EVERY_S
        self.catalogue = Catalogue([])
        self.recommenders: Mapping[str, Recommender] = {}
        self._outdated = True
        self._look()

    def serve(self, tracks: NDArray[np.int64]) -> Mapping[str, Recommender]:
        """Return the recommenders, after a look at the topic where one of the tracks is not known yet."""
        since = time.monotonic() - self._looked_at
        if since > LOOK_EVERY_S or (since > LOOK_AGAIN_S and (self.catalogue.rows_of(tracks) < 0).any()):
            self._look()
        return self.recommenders

    def look_for_the_first_track(self) -> None:
        """Look at the topic where the catalogue is empty, as nobody asks about a track then."""
        if not len(self.catalogue) and time.monotonic() - self._looked_at > LOOK_AGAIN_S:
            self._look()

    def _look(self) -> None:
        self._outdated |= self._reader.refresh() > 0
        if self._outdated:
            try:
                self._make_anew()
            except Exception:
                if not self.recommenders:
                    raise
                log.exception("recommenders cannot be made for the new catalogue; those of the old one go on")
        self._looked_at = time.monotonic()

    def _make_anew(self) -> None:
        catalogue = Catalogue(self._reader.tracks.values())
        recommenders = {recommender.name: recommender for recommender in self._make(catalogue)}
        check_chains(recommenders)
        self.catalogue, self.recommenders, self._outdated = catalogue, recommenders, False


@dataclass(frozen=True, slots=True)
class RecommenderInputs:
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
        """Read a snapshot of the factors; in the thread that follows the models."""
        served = factors_of(model)
        served.table(*self._served)
        return served

    def graph(self, model: Model) -> ServedGraph:
        """Read a snapshot of the item graph; in the thread that follows the models."""
        served = graph_of(model)
        served.of(self._served[0])
        return served
