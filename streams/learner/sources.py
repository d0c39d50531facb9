"""What learning needs beside the training topic: the catalogue, and which records and listens are dead letters."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from confluent_kafka.admin import AdminClient
from numpy.typing import NDArray

from schemas import clients
from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.events import Track
from schemas.rejected_before import RejectedBefore
from schemas.settings import Settings
from schemas.topic_id import read_topic_id
from schemas.topics import Topics
from streams.learner.intake import TrainingIntake


class LearningSources:
    """Open readers; blocking.

    Attributes
    ----------
    catalogue : mapping of track to Track
        Grows as tracks are added.
    intake : TrainingIntake
    excluded : mapping of partition to int
        How many listens operators have excluded; they are not learned from (`RejectedBefore.excluded`).
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        topics = Topics.of(settings)
        self._reader = CatalogueReader(settings, codec)
        self._reader.refresh()
        self._rejected = RejectedBefore(settings, topics.training.name)
        self._listens = RejectedBefore(settings, topics.listens.name)
        self._settings, self._listens_topic = settings, topics.listens.name
        self._left_out: dict[tuple[str, int], NDArray[np.int64]] = {}
        self.excluded: Mapping[int, int] = self._listens.excluded
        self.catalogue: Mapping[int, Track] = self._reader.tracks
        self.intake = TrainingIntake(
            codec, self._reader.tracks, self._reader.refresh, self._rejected.offsets, self._left_out
        )
        self.refresh()

    def refresh(self) -> None:
        """Read which records and listens were dead-lettered since."""
        self._rejected.refresh()
        self._listens.refresh()
        if not self._listens.offsets:
            return
        admin = AdminClient(clients.common_config(self._settings))
        topic_id = read_topic_id(admin, self._listens_topic)  # batches of an earlier topic have other offsets
        for partition, offsets in self._listens.offsets.items():
            known = self._left_out.get((topic_id, partition))
            if known is None or len(known) != len(offsets):
                self._left_out[topic_id, partition] = np.sort(np.fromiter(offsets, np.int64, len(offsets)))

    def close(self) -> None:
        """Leave the broker."""
        self._reader.close()
        self._rejected.close()
        self._listens.close()
