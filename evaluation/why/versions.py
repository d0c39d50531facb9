"""Models and catalogues as of an answer.

A model is the newest on its topic if that has the digest, and else learned again from the training topic. The
catalogue is that of now, or of the first records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import NamedTuple

from botify.core.errors import DecodeError, RejectedMessageError
from botify.core.kafka.admin import end_offsets, start_offsets
from botify.core.kafka.reader import TopicReader, log_record
from botify.core.settings import Settings
from botify.evaluation.why.evidence import Tell
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.events import Model, Track, TrainingBatch
from botify.schemas.models import ModelReader, label_of, learned_body_bytes
from botify.schemas.topics import Topics
from botify.schemas.track_table import TrackTable
from botify.schemas.training import TrainingColumns, listens_of
from botify.schemas.validation import decode_and_validate
from botify.services.recommender.catalogue import CATALOGUE, Catalogue
from botify.services.recommender.factors import CLUSTERS, snapshot_and_catalogue
from botify.services.recommender.lists import NEIGHBOURS, USER_LISTS
from botify.streams.learner.learner import Learner
from botify.streams.learner.model import MODELS
from botify.streams.learner.models.factors import FactorModel
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_projection import NextTrackProjection
from botify.streams.learner.partition import LearnerSources, tracks_of

Label = tuple[str, str]  # name of a model and its label
MERGES = {
    FactorModel.name: FactorModel.merged,
    NextTrack.name: NextTrackProjection.merged,
    NEIGHBOURS: None,
    USER_LISTS: None,
}
LEARNED = {kind.name: kind for kind in MODELS}
BATCH = 64  # records of the training topic, of up to 12,000 listens each


def labels_of(versions: Mapping[str, str]) -> set[Label]:
    """Return the models that an answer names; clusters are those of a snapshot of the factors."""
    clusters, _ = snapshot_and_catalogue(versions.get(CLUSTERS, ""))
    found = {(name, label) for name, label in versions.items() if name not in (CATALOGUE, CLUSTERS)}
    return {(name, label) for name, label in found | {(FactorModel.name, clusters)} if label}


MOST_CATALOGUES = 64  # that are made to find one with a digest


class PastCatalogue(NamedTuple):
    """A catalogue, and its tracks."""

    catalogue: Catalogue
    tracks: Mapping[int, Track]


def find_catalogues(
    settings: Settings, codec: Codec, used: Iterable[Mapping[str, str]]
) -> dict[str | None, PastCatalogue]:
    """Return the catalogues of the versions that answers name, by label: their own, and those of clusters.

    Each is that of now, or of the topic's first records; if neither has the label, that of now, as for no label (None).
    """
    labels: set[str | None] = set()
    for versions in used:
        _, of_clusters = snapshot_and_catalogue(versions.get(CLUSTERS, ""))
        labels |= {versions.get(CATALOGUE)} | ({of_clusters} if of_clusters else set())
    with closing(CatalogueReader(settings, codec)) as reader:
        reader.refresh()
        tracks = reader.tracks
        now = PastCatalogue(Catalogue.of_columns(tracks.columns()), tracks)
    found = {None: now, now.catalogue.label: now}
    if past := {label for label in labels - found.keys() if label}:
        found |= _past_catalogues(settings, codec, past)
    return {label: found.get(label, now) for label in labels}


def _past_catalogues(settings: Settings, codec: Codec, labels: Iterable[str]) -> dict[str | None, PastCatalogue]:
    """Return those of the catalogues that the topic's first records give."""
    with closing(TopicReader(settings, Topics.of(settings).catalogue.name)) as topic:
        messages = [one for batch in topic.read_to_end() for one in batch if one.value() is not None]
    left, found, then, alive = set(labels), dict[str | None, PastCatalogue](), TrackTable(codec), set[int]()
    tries = {int(label.partition(":")[0]): MOST_CATALOGUES for label in left}  # by size
    for message in sorted(messages, key=lambda one: (one.timestamp()[1], one.partition(), one.offset())):
        try:
            track = codec.decode(message.value(), Track)
        except DecodeError:
            continue
        then.add([track], [message.value()])
        (alive.discard if track.deleted else alive.add)(track.track)
        if tries.get(len(alive), 0):
            tries[len(alive)] -= 1
            catalogue = Catalogue.of_columns(then.columns())
            if catalogue.label in left:
                left.remove(catalogue.label)
                found[catalogue.label] = PastCatalogue(catalogue, then.copy())
        if not left:
            break
    return found


@dataclass(slots=True)
class PastModels:
    """Snapshots by name and label; `why_missing` says of each that is not there why."""

    found: dict[Label, Model] = field(default_factory=dict)
    why_missing: dict[Label, str] = field(default_factory=dict)
    learned: int = 0  # listens that were learned from again


def find_models(
    settings: Settings, codec: Codec, wanted: Iterable[Label], tell: Tell = lambda count: None
) -> PastModels:
    """Return the snapshots with these labels, from the topic or learned again up to exactly their listens."""
    past, left = PastModels(), set(wanted)
    newest: dict[Label, Model] = {}
    with closing(ModelReader(settings, codec)) as reader:
        handles = [reader.follow(name, lambda model: model, merge) for name, merge in MERGES.items()]
        if left:
            reader.refresh()
        newest = {(one.current.name, label_of(one.current)): one.current for one in handles if one.current}
    past.found = {label: newest[label] for label in left & newest.keys()}
    left -= newest.keys()
    learned = {one for one in left if one[0] in LEARNED}
    why = "a newer one has replaced it on the topic, and only the learner's models can be learned again"
    past.why_missing = dict.fromkeys(left - learned, why)
    if not learned:
        return past
    if settings.learner_shards > 1:
        past.why_missing |= dict.fromkeys(learned, "it was merged from shards, which are learned one by one")
        return past
    topic = Topics.of(settings).training.name
    if gone := start_offsets(settings, topic)[0]:
        past.why_missing |= dict.fromkeys(learned, f"the first {gone:,} records of {topic} are gone")
        return past
    _learn_again(settings, codec, learned, past, tell)
    return past


def _learn_again(settings: Settings, codec: Codec, wanted: set[Label], past: PastModels, tell: Tell) -> None:
    again: dict[tuple[str, int], Model] = {}
    versions = {int(label.partition(":")[0]) for _, label in wanted}
    topic = Topics.of(settings).training.name
    kinds = [LEARNED[name] for name in LEARNED if name in {name for name, _ in wanted}]
    with (
        closing(LearnerSources(settings, codec)) as sources,
        closing(TopicReader(settings, topic, batch=BATCH)) as reader,
    ):

        def columns_of(batch: TrainingBatch, raw: bytes) -> tuple[TrainingBatch, TrainingColumns]:
            left_out = sources.left_out.get((batch.source_topic_id, batch.source_partition))
            return batch, listens_of(batch, raw, left_out)

        learner = Learner(sources.catalogue, kinds, None, learned_body_bytes(settings), versions=versions)
        for messages in reader.read_to_end(end_offsets(settings, topic)):
            records = [log_record(message) for message in messages]
            read = decode_and_validate(records, TrainingBatch, sources.intake, validate=columns_of, tracks_of=tracks_of)
            for record, taken in read:
                if not isinstance(taken, RejectedMessageError):
                    tell(learner.fold(taken[0], taken[1], record.timestamp))
                    again |= {(model.name, model.version): model for model in learner.take_models()}
                if learner.listens >= max(versions):
                    break
            if learner.listens >= max(versions):
                break
    past.learned = learner.listens
    for name, label in wanted:
        model = again.get((name, int(label.partition(":")[0])))
        if model is not None and label_of(model) == label:
            past.found[name, label] = model
        elif model is None:
            past.why_missing[name, label] = "the training topic has fewer listens"
        else:
            past.why_missing[name, label] = (
                f"learned again it is {label_of(model)}: listens were excluded or the models rebuilt since, or the "
                "learner was of another version of Botify, or had no cache of compiled loops"
            )
