"""All recommenders, made for the catalogue as it is, and made anew when it has grown."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from schemas.catalogue import CatalogueReader
from services.recommender.answering import check_chains
from services.recommender.catalogue import Catalogue
from services.recommender.protocol import Recommender

LOOK_EVERY_S = 10.0
LOOK_AGAIN_S = 0.2
"""How soon the topic is looked at again for a track that was not there."""

Make = Callable[[Catalogue], list[Recommender]]


class Roster:
    """Recommenders by name, for a catalogue that only grows.

    Parameters
    ----------
    reader : CatalogueReader
    make : callable of Catalogue
        Makes every recommender.
    """

    def __init__(self, reader: CatalogueReader, make: Make) -> None:
        self._reader = reader
        self._make = make
        self._looked_at = -LOOK_EVERY_S
        self.catalogue = Catalogue([])
        self.recommenders: Mapping[str, Recommender] = {}
        self._look()

    def serve(self, tracks: NDArray[np.int64]) -> Mapping[str, Recommender]:
        """Return the recommenders, after a look at the topic where one of the tracks is not known yet."""
        since = time.monotonic() - self._looked_at
        if since > LOOK_EVERY_S or (since > LOOK_AGAIN_S and (self.catalogue.rows_of(tracks) < 0).any()):
            self._look()
        return self.recommenders

    def _look(self) -> None:
        if self._reader.refresh() or not self.recommenders:
            self.catalogue = Catalogue(self._reader.tracks.values())
            self.recommenders = {recommender.name: recommender for recommender in self._make(self.catalogue)}
            check_chains(self.recommenders)
        self._looked_at = time.monotonic()
