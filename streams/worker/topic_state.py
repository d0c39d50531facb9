"""Do state and topic belong together, and where does folding go on? Decided at every claim. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from core.errors import BotifyError, NoBrokerError, TopicError
from core.kafka.admin import TIMEOUT_S, committed_offsets, end_offsets, read_topic_id, start_offsets
from core.kafka.config import common_config, is_retriable
from core.settings import Settings
from streams.store.protocol import Claim


class TopicMismatchError(BotifyError):
    """State and topic do not belong together; folding on would make the state wrong."""


class MissingStateError(BotifyError):
    """The state has vanished, and nobody said that it may be made anew."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """What the broker says about the topic at the time of a claim.

    Attributes
    ----------
    topic_id : str
    start, end : mapping of partition to offset
        First offset still there, and the next to be written.
    committed : mapping of partition to offset
        How far the group had come by its own account: the only witness of state that the store has lost.
    """

    topic_id: str
    start: Mapping[int, int]
    end: Mapping[int, int]
    committed: Mapping[int, int] = field(default_factory=dict)


def another_topic(topic: str, found: str, expected: str | None) -> TopicMismatchError:
    """Return the error for a topic that is not the one the state was folded from, only called the same."""
    return TopicMismatchError(
        f"{topic} was deleted and recreated (id {found}; the state is of {expected}). "
        "Replay it into a new namespace, or clear the state."
    )


def offset_to_start_at(
    topic: str, partition: int, claim: Claim, state: TopicState, *, rebuild_missing: bool = False
) -> int:
    """Return where folding goes on, or refuse.

    Raises
    ------
    TopicMismatchError
        The topic is another one than the state was made from, or events that the state lacks are gone.
    MissingStateError
        The store has no state, though the group had come further, and `rebuild_missing` is not set.

    Examples
    --------
    >>> state = TopicState("an-id", start={0: 0}, end={0: 50}, committed={0: 20})
    >>> offset_to_start_at("botify.listens", 0, Claim(1, "me", 20, "an-id"), state)
    20
    """
    start, end = state.start[partition], state.end[partition]
    if claim.topic_id != state.topic_id:
        raise another_topic(topic, state.topic_id, claim.topic_id)
    if claim.next_offset is None:
        if start > 0:
            raise TopicMismatchError(
                f"{topic}[{partition}] has no state in Redis, and its first {start} records are gone, so the state "
                "cannot be made whole. Load a snapshot, or replay into a new namespace from what is left."
            )
        if (committed := state.committed.get(partition, 0)) > 0 and not rebuild_missing:
            raise MissingStateError(
                f"{topic}[{partition}] has no state in Redis, though it had been folded up to offset {committed}: "
                "Redis was emptied, or REDIS_URL names another one. Bring its data back, load a snapshot, or set "
                "BOTIFY_ON_MISSING_STATE=rebuild to fold the topic again from its beginning."
            )
        return 0
    if claim.next_offset < start:
        raise TopicMismatchError(
            f"{topic}[{partition}]: the state ends at offset {claim.next_offset}, the topic begins at {start}; the "
            "events between are gone. Load a snapshot, or replay into a new namespace from what is left."
        )
    if claim.next_offset > end:
        raise TopicMismatchError(
            f"{topic}[{partition}]: the state is at offset {claim.next_offset}, the topic ends at {end}: it has lost "
            "records. `botify replay run` and `botify replay swap` rebuild the state from what is left."
        )
    return claim.next_offset


T = TypeVar("T")

RETRY_PAUSE_S = 0.2


def group_of(settings: Settings) -> str:
    """Return the name of the workers' consumer group.

    Examples
    --------
    >>> group_of(Settings())
    'botify-streams'
    """
    return f"{settings.topic_prefix}-streams"


def learner_group_of(settings: Settings) -> str:
    """Return the name of the learners' consumer group.

    Examples
    --------
    >>> learner_group_of(Settings())
    'botify-learner'
    """
    return f"{settings.topic_prefix}-learner"


def describe_topic(settings: Settings, topic: str, group: str) -> TopicState:
    """Return the topic's id, its bounds, and what the group has committed.

    Raises
    ------
    TopicError
        The topic does not exist, or no broker answers for `TIMEOUT_S`.
    """
    admin = AdminClient(common_config(settings))

    def ask() -> TopicState:
        topic_id = read_topic_id(admin, topic)
        start, end = start_offsets(settings, topic), end_offsets(settings, topic)
        return TopicState(topic_id, start, end, _committed(settings, group, topic, sorted(start)))

    try:
        return ask_patiently(ask)
    except KafkaException as error:
        raise TopicError(f"{topic}: the brokers do not describe it: {error.args[0].str()}") from error


def ask_patiently(ask: Callable[[], T]) -> T:
    """Ask again while no broker answers, for `TIMEOUT_S`: one may restart in the middle of a rebalance.

    Raises
    ------
    KafkaException or NoBrokerError
        The last answer, if it was that.
    """
    give_up = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask()
        except (KafkaException, NoBrokerError) as error:
            passing = isinstance(error, NoBrokerError) or is_retriable(error.args[0])
            if not passing or time.monotonic() > give_up:
                raise
            time.sleep(RETRY_PAUSE_S)


class TopicWatch:
    """Asks for a topic's id from time to time."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._admin = AdminClient(common_config(settings))
        self._topic = topic

    def read_id(self) -> str | None:
        """Return the id; None where the brokers do not say."""
        try:
            return read_topic_id(self._admin, self._topic)
        except (KafkaException, NoBrokerError):
            return None


def _committed(settings: Settings, group: str, topic: str, partitions: list[int]) -> dict[int, int]:
    asked = [(topic, partition) for partition in partitions]
    found = committed_offsets(settings, group, asked, TIMEOUT_S)
    return {partition: offset for (_, partition), offset in found.items()}
