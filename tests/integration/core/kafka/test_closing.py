"""Whether leaders refuse records, asked of a real broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.layout import MAX_BYTES, ClosedEnds, alter_topics, ask_leaders
from botify.core.settings import Settings
from botify.schemas.topics import Topics
from tests.support import produce_raw


async def until(wanted: Callable[[dict[int, int]], bool], ask: ClosedEnds) -> None:
    give_up = time.monotonic() + 30
    while not wanted(found := await ask()):
        assert time.monotonic() < give_up, found


def test_an_open_topic_proves_nothing_and_takes_nothing_and_a_closed_one_says_where_it_ends(
    settings: Settings, run: Any
) -> None:
    topic = Topics.of(settings).listens.name
    produce_raw(settings, topic, [(b"7", b"x")] * 3, partition=2)

    async def go() -> None:
        async with ask_leaders(settings, topic, settings.partitions) as closed_ends:
            assert await closed_ends() == {}
            before = end_offsets(settings, topic)
            assert before == {0: 0, 1: 0, 2: 3, 3: 0}
            alter_topics(settings, {topic: {MAX_BYTES: "1"}})
            await until(lambda ends: ends == before, closed_ends)
            alter_topics(settings, {topic: {MAX_BYTES: None}})
            await until(lambda ends: not ends, closed_ends)
            assert end_offsets(settings, topic) == before

    run(go())
