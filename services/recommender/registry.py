"""The registry: one entry for each recommender, and how all of them are built for a catalogue.

The service rebuilds them when the catalogue has grown; see `LiveRecommenders` in `dispatch`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Model
from botify.schemas.models import label_of
from botify.services.errors import RecommenderError
from botify.services.recommender.baselines import RandomTracks, StickyArtist, StickyArtistMixed, StickyNoRepeat, TopPop
from botify.services.recommender.botify import Botify
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.factors import LatestFactors, ServedFactors
from botify.services.recommender.lists import I2I, Contextual, Indexed, LatestLists, SimilarUsers
from botify.services.recommender.next_track import LatestNextTrack, NextTrackRecommender
from botify.services.recommender.protocol import RandomStream, Recommender
from botify.services.recommender.rerank import Rerank
from botify.streams.learner.models.factors import FactorModel, read_factors
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_projection import model_of_snapshot

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RecommenderInputs:
    """What recommenders read in addition to the request: each callable returns the newest value."""

    top: Callable[[], NDArray[np.int64]]
    neighbours: LatestLists
    user_lists: LatestLists
    factors: LatestFactors
    next_track: LatestNextTrack
    longer_top: Callable[[int], NDArray[np.int64]] | None = None


class Parts(NamedTuple):
    """What a recommender is built from; `others` are those listed before it."""

    catalogue: Catalogue
    sources: RecommenderInputs
    others: Mapping[str, Recommender]
    random_streams: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One recommender, as the service, the experiments file and the benchmark know it."""

    recommender: type[Recommender]
    factory: Callable[[Parts], Recommender]
    random_streams: tuple[int, ...] = ()  # new ones have numbers from 16
    needs_lists: bool = False  # benchmark and evaluation run the batch job first
    models: tuple[str, ...] = ()  # those of the learner that it serves from

    @property
    def name(self) -> str:
        return self.recommender.name

    @property
    def fallback(self) -> str | None:
        return self.recommender.fallback

    @property
    def answers(self) -> str:
        """What it answers with, in a sentence: the first line of its class."""
        return (self.recommender.__doc__ or "").partition("\n")[0].rstrip(".")

    @property
    def needs(self) -> tuple[str, ...]:
        return (*self.models, "lists") if self.needs_lists else self.models


_ENTRIES = (
    RegistryEntry(RandomTracks, lambda of: RandomTracks(of.catalogue), (RandomStream.RANDOM,)),
    RegistryEntry(TopPop, lambda of: TopPop(of.sources.top, of.sources.longer_top), (RandomStream.TOPPOP,)),
    RegistryEntry(StickyArtist, lambda of: StickyArtist(of.catalogue), (RandomStream.STICKY_ARTIST,)),
    RegistryEntry(
        StickyArtistMixed,
        lambda of: StickyArtistMixed(of.catalogue),
        (RandomStream.STICKY_ARTIST_MIXED, RandomStream.RANDOM),
    ),
    RegistryEntry(
        Contextual, lambda of: Contextual(of.sources.neighbours), (RandomStream.CONTEXTUAL,), needs_lists=True
    ),
    RegistryEntry(Indexed, lambda of: Indexed(of.sources.user_lists), (RandomStream.INDEXED,), needs_lists=True),
    RegistryEntry(
        SimilarUsers,
        lambda of: SimilarUsers(of.catalogue, of.sources.neighbours),
        (RandomStream.STICKY_ARTIST, RandomStream.SIMILAR_USERS),
        needs_lists=True,
    ),
    RegistryEntry(I2I, lambda of: I2I(of.sources.neighbours), (RandomStream.I2I,), needs_lists=True),
    RegistryEntry(StickyNoRepeat, lambda of: StickyNoRepeat(of.catalogue), (RandomStream.STICKY_NOREPEAT,)),
    RegistryEntry(
        Rerank,
        lambda of: Rerank(of.catalogue, of.sources.factors),
        (RandomStream.EXPLORE, RandomStream.EXPLORED_TRACK),
        models=(FactorModel.name,),
    ),
    RegistryEntry(
        NextTrackRecommender,
        lambda of: NextTrackRecommender(of.catalogue, of.sources.next_track),
        (RandomStream.EXPLORE, RandomStream.EXPLORED_TRACK),
        models=(NextTrack.name,),
    ),
    RegistryEntry(
        Botify,
        lambda of: Botify(of.others, of.sources.factors),
        (RandomStream.HEAD, RandomStream.EXPLORE, RandomStream.EXPLORED_TRACK),
        models=(FactorModel.name, NextTrack.name),
    ),
)
GROUP = "botify.recommenders"  # the group of entry points of installed recommenders


def entry_of(found: Any, entries: Mapping[str, RegistryEntry]) -> RegistryEntry:
    """Return the entry of what an entry point names: an entry, or a class that is made from a catalogue.

    Raises `RecommenderError` if it is neither, or does not fit the other entries.
    """
    entry: RegistryEntry
    if isinstance(found, RegistryEntry):
        entry = found
    elif isinstance(found, type) and hasattr(found, "recommend") and isinstance(getattr(found, "name", None), str):
        kind: Any = found
        entry = RegistryEntry(kind, lambda of: kind(of.catalogue))
    else:
        raise RecommenderError(f"{found!r} is neither a RegistryEntry nor a class with `name` and `recommend`")
    if entry.name in entries:
        raise RecommenderError(f"there is a recommender {entry.name!r} already")
    if entry.fallback is not None and entry.fallback not in entries:
        raise RecommenderError(f"its fallback {entry.fallback!r} is not a recommender")
    return entry


def with_installed(own: Iterable[RegistryEntry], installed: Iterable[Any]) -> dict[str, RegistryEntry]:
    """Return entries by name, those of installed packages last; one that cannot be used is left out with an error."""
    entries = {entry.name: entry for entry in own}
    for point in installed:
        try:
            entry = entry_of(point.load(), entries)
        except Exception as error:  # noqa: BLE001 - a package of someone else must not stop the others
            why = f"{type(error).__name__}: {error}"
            log.error("the recommender of entry point %s = %s is left out: %s", point.name, point.value, why)  # noqa: TRY400
        else:
            entries[entry.name] = entry
    return entries


RECOMMENDERS: dict[str, RegistryEntry] = with_installed(_ENTRIES, entry_points(group=GROUP))
"""The recommenders that an experiments file can name: those of `_ENTRIES`, and those of installed packages."""


class OnDemand(Generic[T]):
    """Prepares the snapshots of a model from the first time on that one is asked for.

    `next_track` takes 100 MB of a million tracks, and only experiments that name it ask for it.

    Examples
    --------
    >>> prepare = OnDemand(lambda model: print("prepared", model) or model)
    >>> first = prepare(1)
    >>> first(), first(), prepare(2)()
    prepared 1
    prepared 2
    (1, 1, 2)
    """

    def __init__(self, prepare: Callable[[Model], T]) -> None:
        self._prepare = prepare
        self._is_asked = False

    def __call__(self, model: Model) -> Callable[[], T]:
        """Return a callable that returns the prepared snapshot; one of both raises as `prepare`."""
        if self._is_asked:
            prepared = self._prepare(model)
            return lambda: prepared

        @cache
        def when_asked() -> T:
            self._is_asked = True
            return self._prepare(model)

        return when_asked


class RecommenderFactory:
    """Builds all recommenders for a catalogue, and prepares snapshots for it before they are served.

    The latter is done in the thread that reads the models, and raises `ValueError` for another body.
    """

    def __init__(self, guard: Callable[[Recommender], Recommender] = lambda recommender: recommender) -> None:
        self._guard = guard
        self._served = Catalogue([])  # the thread that reads the models uses it too
        self._newest_factors: ServedFactors | None = None

    def make(self, catalogue: Catalogue, sources: RecommenderInputs) -> list[Recommender]:
        self._served = catalogue
        made: dict[str, Recommender] = {}
        for name, entry in RECOMMENDERS.items():
            parts = Parts(catalogue, sources, made, entry.random_streams)
            made[name] = self._guard(entry.factory(parts))
        return list(made.values())

    def factors(self, model: Model) -> ServedFactors:
        served = ServedFactors(read_factors(model.body), self._newest_factors, label_of(model))
        served.table(self._served)
        self._newest_factors = served
        return served

    def next_track(self, model: Model) -> NextTrack:
        return model_of_snapshot(model.body)
