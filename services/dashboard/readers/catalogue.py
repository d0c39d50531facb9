"""The catalogue, as its topic grows."""

from __future__ import annotations

from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.settings import Settings
from services.dashboard.figures.catalogue import Catalogue


class Titles:
    """Follows the catalogue topic for the collector."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._reader = CatalogueReader(settings, codec)
        self._catalogue: Catalogue = {}

    def read(self) -> Catalogue:
        """Return the catalogue; the same object while nothing was added."""
        if self._reader.refresh():
            self._catalogue = dict(self._reader.tracks)
        return self._catalogue

    def close(self) -> None:
        """Stop following."""
        self._reader.close()
