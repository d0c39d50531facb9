"""Which errors of a broker are waited out."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from schemas.clients import is_passing


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._TRANSPORT,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_LEADER_EPOCH,  # what a broker says that has just come back
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    ],
)
def test_a_broker_that_restarts_is_waited_for(code: int) -> None:
    assert is_passing(KafkaError(code))


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.INVALID_CONFIG])
def test_what_will_not_change_is_not(code: int) -> None:
    assert not is_passing(KafkaError(code))
