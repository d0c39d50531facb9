"""How far each consumer group is behind."""

from __future__ import annotations

import pandas as pd
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from schemas import clients
from schemas.committed_offsets import committed_offsets
from schemas.errors import TopicError
from schemas.settings import Settings
from schemas.topic_reader import end_offsets
from schemas.topics import Topics

TIMEOUT_S = 10.0


def read_lag(settings: Settings) -> pd.DataFrame:
    """Compare what groups committed with where the topics end that they read.

    Returns
    -------
    DataFrame
        Columns group, topic and lag, in records.

    Raises
    ------
    TopicError
        Kafka does not say.
    """
    topics = Topics.of(settings)
    admin = AdminClient(clients.common_config(settings))  # it has to live until it has answered
    rows = []
    try:
        found = admin.list_consumer_groups(request_timeout=TIMEOUT_S)
        groups = sorted(group.group_id for group in found.result(TIMEOUT_S).valid)
        for topic in (topics.listens.name, topics.recommendation_requests.name):
            ends = {(topic, partition): end for partition, end in end_offsets(settings, topic).items()}
            for group in groups:
                committed = committed_offsets(settings, group, ends, TIMEOUT_S)
                if committed:
                    rows.append((group, topic, sum(end - committed.get(at, 0) for at, end in ends.items())))
    except (KafkaException, TimeoutError) as error:
        raise TopicError(f"Kafka does not say how far its groups are ({error!r})") from error
    return pd.DataFrame(rows, columns=["group", "topic", "lag"])
