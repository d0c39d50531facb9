"""Where the event time of a run begins."""

from __future__ import annotations

import time

from schemas.errors import DecodeError
from schemas.events import Listen
from schemas.registry import codec_of
from schemas.settings import Settings
from schemas.topic_reader import TopicReader, end_offsets
from schemas.topics import Topics

APART_MS = 60 * 60 * 1000
"""Between the newest listen and a new run: more than the gap that closes sessions."""


def start_of_run_ms(settings: Settings) -> int:
    """Return now, or an hour after the newest listen if that is later.

    Event time runs faster than the wall clock at full speed, so the last run may have ended in the future; a run that
    began before that would come late for every session.

    Raises
    ------
    TopicError
        The topic is missing, or no broker answers.
    """
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    newest_ms = 0
    ends = end_offsets(settings, topic)
    reader = TopicReader(settings, topic, {partition: max(0, end - 1) for partition, end in ends.items()})
    try:
        for batch in reader.read_to_end(ends):
            for message in batch:
                try:
                    newest_ms = max(newest_ms, codec.decode(message.value(), Listen).timestamp_ms)
                except DecodeError:
                    continue  # somebody's bad message says nothing about time
    finally:
        reader.close()
    return max(int(time.time() * 1000), newest_ms + APART_MS)
