"""The topics: names, events, configuration, creation; and the names of consumer groups."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from botify.core.errors import TopicError
from botify.core.kafka.admin import TIMEOUT_S, partition_counts, wait_until_listed
from botify.core.kafka.config import common_config
from botify.core.kafka.layout import LISTENS_CONFIG, MAX_LEAD, listens_topic
from botify.core.settings import MOST_SHARDS, Settings
from botify.schemas import events
from botify.schemas.event_time import LEAD_MS

MAX_MODEL_BYTES = 16 * 1024 * 1024
MAX_DEAD_LETTER_BYTES = 2 * 1024 * 1024  # twice a topic's default: the largest record, and a dead letter's headers
_DAY_MS = 24 * 60 * 60 * 1000
_COMPACTED: Mapping[str, str] = {"cleanup.policy": "compact"}
_FOR_A_DAY, _FOR_A_MONTH, _FOR_EVER = (
    {"cleanup.policy": "delete", "retention.ms": str(ms)} for ms in (_DAY_MS, 30 * _DAY_MS, -1)
)


@dataclass(frozen=True, slots=True)
class TopicDefinition:
    """What a topic should be."""

    name: str  # with the settings' prefix
    event: type[events.Event] | None  # of the values; None if they are arbitrary bytes
    key: str  # the key, in words
    config: Mapping[str, str]  # Kafka's topic configuration
    partitions: int | None = None  # None if the settings give the number


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics, by their purpose."""

    listens: TopicDefinition
    recommendation_requests: TopicDefinition
    recommendations: TopicDefinition
    sessions: TopicDefinition
    catalogue: TopicDefinition
    feedback: TopicDefinition
    training: TopicDefinition
    models: TopicDefinition
    experiments: TopicDefinition
    dead_letters: TopicDefinition

    @classmethod
    def of(cls, settings: Settings) -> "Topics":
        def topic(
            name: str,
            event: type[events.Event] | None,
            config: Mapping[str, str],
            key: str = "user",
            partitions: int | None = None,
        ) -> TopicDefinition:
            return TopicDefinition(f"{settings.topic_prefix}.{name}", event, key, config, partitions)

        listens, lead = listens_topic(settings.topic_prefix, settings.layout), {MAX_LEAD: str(LEAD_MS)}
        shards = settings.learner_shards
        # of another number of partitions it is another topic: a shard's state is of one of its partitions
        training = "training" if shards == 1 else f"training-{shards}"
        models = {
            **_COMPACTED,
            "max.message.bytes": str(MAX_MODEL_BYTES),
            # the newest segment is never compacted, and each new reader reads all of it
            "segment.bytes": str(4 * MAX_MODEL_BYTES),
            "min.cleanable.dirty.ratio": "0.1",
        }
        letters = {**_FOR_EVER, "max.message.bytes": str(MAX_DEAD_LETTER_BYTES)}
        return cls(
            listens=TopicDefinition(listens, events.Listen, "user", {**LISTENS_CONFIG, **lead}),
            recommendation_requests=topic("recommendation-requests", events.RecommendationRequest, _FOR_A_DAY),
            recommendations=topic("recommendations", events.Recommendation, _FOR_A_MONTH),
            sessions=topic("sessions", events.Session, _FOR_EVER),
            catalogue=topic("catalogue", events.Track, _COMPACTED, "track"),
            feedback=topic("feedback", events.Feedback, _FOR_EVER),
            training=topic(training, events.TrainingBatch, _FOR_EVER, "source partition", shards),
            # each reader follows all models, and every recommender and gateway all experiments: they are few
            models=topic("models", events.Model, models, "name", 1),
            experiments=topic("experiments", events.RampStep, _COMPACTED, "experiment", 1),
            dead_letters=topic("dead-letters", None, letters, "as it came"),
        )

    def all(self) -> list[TopicDefinition]:
        return [getattr(self, name) for name in self.__dataclass_fields__]


def worker_group_of(settings: Settings) -> str:
    """Return the name of the workers' consumer group."""
    return f"{settings.topic_prefix}-streams{settings.layout and '-' + settings.layout}"


def feedback_partitions(settings: Settings) -> int:
    """Return the number of partitions of the feedback, which do not grow with those of the listens."""
    counts = partition_counts(AdminClient(common_config(settings)))
    return counts.get(Topics.of(settings).feedback.name, settings.partitions)


def feedback_group_of(settings: Settings) -> str:
    """Return the name of the group in which workers fold the feedback, whatever the layout of the listens."""
    return f"{settings.topic_prefix}-feedback"


def learner_group_of(settings: Settings) -> str:
    """Return the name of the learners' consumer group."""
    shards = settings.learner_shards
    return f"{settings.topic_prefix}-learner{'' if shards == 1 else f'-{shards}'}"


def create_topics(settings: Settings) -> list[str]:
    """Create missing topics, check the others, and return the names of those created.

    Raises `TopicError` if a topic has another number of partitions than it should. It is not changed: the state of a
    partition would no longer match its users.
    """
    admin = AdminClient(common_config(settings))
    definitions = Topics.of(settings).all()
    counts = partition_counts(admin)
    _check_shards(settings, counts)
    _check_partitions(definitions, counts, settings)
    return _create(admin, [d for d in definitions if d.name not in counts], settings)


def check_training(settings: Settings) -> None:
    """Raise `TopicError` unless there is a training topic of these shards, with as many partitions, or none at all."""
    counts, training = partition_counts(AdminClient(common_config(settings))), Topics.of(settings).training
    _check_shards(settings, counts)
    _check_partitions([training], counts, settings)


def create_training(settings: Settings) -> None:
    """Create the training topic of these shards, in addition to that of another number; raises `TopicError`."""
    admin, training = AdminClient(common_config(settings)), Topics.of(settings).training
    counts = partition_counts(admin)
    _check_number(settings)
    _check_partitions([training], counts, settings)
    if training.name not in counts:
        _create(admin, [training], settings)


def _check_number(settings: Settings) -> None:
    if (shards := settings.learner_shards) > settings.partitions:
        raise TopicError(
            f"BOTIFY_LEARNER_SHARDS is {shards}, but the listens have {settings.partitions} partitions, so some shards "
            f"would learn nothing and no model would be complete. Set it to {settings.partitions} or less."
        )


def _check_shards(settings: Settings, counts: Mapping[str, int]) -> None:
    _check_number(settings)
    shards, training = settings.learner_shards, Topics.of(settings).training.name
    others = {
        number: name
        for number in range(1, MOST_SHARDS + 1)
        if (name := Topics.of(settings.with_(learner_shards=number)).training.name) in counts
    }
    if others and training not in counts:
        number, name = others.popitem()
        raise TopicError(
            f"BOTIFY_LEARNER_SHARDS is {shards}, but the models are learned from {name}, of {number} partitions. Set "
            f"BOTIFY_LEARNER_SHARDS={number}, or change the number: `botify verify --models --shards {shards}`"
        )


def _check_partitions(definitions: Iterable[TopicDefinition], counts: Mapping[str, int], settings: Settings) -> None:
    for definition in definitions:
        wanted = definition.partitions or settings.partitions
        there = counts.get(definition.name, wanted)
        # a letter lies in the partition of its record, so that topic grows with a new layout of the listens; only the
        # listens' number matters for state
        letters = definition.event is None
        moved = bool(settings.layout) and definition.event is not events.Listen
        if there == wanted or (letters and there > wanted) or (moved and definition.partitions is None):
            continue
        if definition.partitions is not None:
            raise TopicError(
                f"{definition.name} has {there} partitions, but its records have their order only with {wanted}. "
                "Delete the topic, or use another BOTIFY_TOPIC_PREFIX."
            )
        raise TopicError(
            f"{definition.name} has {there} partitions, BOTIFY_PARTITIONS says {wanted}. "
            "The count is fixed once a topic exists: a user's events would land in another partition than their "
            f"state. Set BOTIFY_PARTITIONS={there}, or use another BOTIFY_TOPIC_PREFIX."
        )


def _create(admin: AdminClient, missing: Sequence[TopicDefinition], settings: Settings) -> list[str]:
    """Create topics, and return the names of those that no other process has created meanwhile."""
    if not missing:
        return []
    replicas = settings.replication_factor
    topics = [NewTopic(d.name, d.partitions or settings.partitions, replicas, config=dict(d.config)) for d in missing]
    made = []
    for name, future in admin.create_topics(topics, operation_timeout=TIMEOUT_S).items():
        try:
            future.result(TIMEOUT_S)
            made.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicError(f"{name} could not be created: {error.args[0].str()}") from error
    _check_partitions(missing, wait_until_listed(settings, {d.name: 1 for d in missing}), settings)
    return made
