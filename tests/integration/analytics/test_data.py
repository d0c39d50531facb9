from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from confluent_kafka import Producer

from botify.analytics.data import listens_frame, read_listens
from botify.analytics.experiment import experiment_results
from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import key_of, partition_of, producer_config
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen
from botify.schemas.topics import Topics
from tests.unit.analytics.listens import drawn, listen

pytestmark = pytest.mark.integration


def produce(settings: Settings, listens: Iterable[Listen], raw: Iterable[bytes] = ()) -> None:
    producer, codec = Producer(producer_config(settings)), Codec()
    topic = Topics.of(settings).listens.name
    for event in listens:
        producer.produce(topic, codec.encode(event), key_of(event.user))
    for value in raw:
        producer.produce(topic, value, b"1")
    assert producer.flush(30) == 0


def sorted_frame(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(object).sort_values("event_id", ignore_index=True)


def test_what_was_produced_is_read_and_gives_the_same_table(settings: Settings) -> None:
    listens = drawn(50, np.random.default_rng(7), uplift=2.0)
    produce(settings, listens)
    frame = read_listens(settings)
    pd.testing.assert_frame_equal(sorted_frame(frame), sorted_frame(listens_frame(listens)))
    read = experiment_results(frame, "demo").table
    pd.testing.assert_frame_equal(read, experiment_results(listens_frame(listens), "demo").table, rtol=1e-12)


def test_copies_and_bad_messages_are_left_out(settings: Settings) -> None:
    good, impossible = listen("r-1-0"), listen("r-1-0", 1, fraction=7.0)
    encoded = Codec().encode(good)
    produce(settings, [good, good, impossible], raw=[b"", b"rubbish", encoded[:-1], b"\0\0\0\x7f\xff"])
    assert read_listens(settings)["event_id"].tolist() == ["r-1-0-0"]


def test_reading_stops_where_it_is_told_to(settings: Settings) -> None:
    produce(settings, [listen("r-1-0"), listen("r-1-0", 1)])
    middle = end_offsets(settings, Topics.of(settings).listens.name)
    produce(settings, [listen("r-1-0", 2), listen("r-1-0", 3)])
    assert middle[partition_of(1, settings.partitions)] == 2
    assert read_listens(settings, to_offsets=middle)["position"].tolist() == [0, 1]
    assert read_listens(settings, from_offsets=middle)["position"].tolist() == [2, 3]


def test_one_run_is_read_out_of_two(settings: Settings) -> None:
    produce(settings, [listen("one-1-0"), listen("two-1-0")])
    assert read_listens(settings, run_id="two")["session_id"].tolist() == ["two-1-0"]


def test_a_topic_without_listens_is_an_empty_frame(settings: Settings) -> None:
    assert len(read_listens(settings)) == 0
    assert len(read_listens(settings, run_id="none")) == 0
