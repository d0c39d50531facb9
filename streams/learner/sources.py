"""What learning needs beside the training topic: the catalogue, and which records were refused before."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.events import Track
from schemas.settings import Settings
from schemas.topics import Topics
from streams.learner.intake import TrainingIntake
from streams.worker.rejected_before import RejectedBefore


class LearningSources:
    """Open readers; blocking.

    Attributes
    ----------
    catalogue : mapping of track to Track
        Grows as tracks are added.
    intake : TrainingIntake
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._reader = CatalogueReader(settings, codec)
        self._reader.refresh()
        self._rejected = RejectedBefore(settings, Topics.of(settings).training.name)
        self.catalogue: Mapping[int, Track] = self._reader.tracks
        self.intake = TrainingIntake(codec, self._reader.tracks, self._reader.refresh, self._rejected.offsets)
        self.refresh()

    def refresh(self) -> None:
        """Read which records were dead-lettered since."""
        self._rejected.refresh()

    def close(self) -> None:
        """Leave the broker."""
        self._reader.close()
        self._rejected.close()
