"""Training batches as workers make them."""

from collections.abc import Sequence

from botify.schemas.events import Listen, TrainingBatch
from botify.schemas.training import listens_of, training_batch_of
from botify.streams.learner.learner import Learner
from tests.support import make_tracks

TRACKS = 30
CATALOGUE = {track.track: track for track in make_tracks(TRACKS)}


def batches(listens: Sequence[Listen], size: int, partition: int = 0, topic_id: str = "t") -> list[TrainingBatch]:
    records = list(enumerate(listens))
    return [
        training_batch_of(topic_id, partition, at, min(at + size, len(records)), records[at : at + size])
        for at in range(0, len(records), size)
    ]


def fold(learner: Learner, *some: TrainingBatch) -> int:
    return sum(learner.fold(batch, listens_of(batch, b"")) for batch in some)
