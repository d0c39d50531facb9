"""All recommenders, made for the catalogue as it is, and made anew when it has grown."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from schemas.catalogue import CatalogueReader
from services.recommender.answering import check_chains
from services.recommender.catalogue import Catalogue
from services.recommender.protocol import Recommender

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0
LOOK_AGAIN_S = 0.2
"""How soon the topic is looked at again for a track that was not there, or for the first one."""

Make = Callable[[Catalogue], list[Recommender]]


class Roster:
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
