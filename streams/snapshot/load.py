"""Reading a file into a namespace of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streams.folds.partition import PROJECTIONS
from streams.offline.sources import Sources
from streams.snapshot.errors import SnapshotError
from streams.snapshot.format import Frame, Kind, read_frames
from streams.store.frozen import NOT_OF_THIS_TOPIC
from streams.store.keys import checkpoint_key, partition_key
from streams.store.records import NamespaceRecord, NamespaceRecords


async def load(sources: Sources, path: Path, *, other_topic: bool = False) -> NamespaceRecord:
    """Check the whole file, then load it; `botify replay swap` makes the namespace the live one.

    Parameters
    ----------
    other_topic : bool
        Whether the state of a topic that is gone will do: the listens of today's topic then follow on it, from the
        first one on.

    Raises
    ------
    SnapshotError
        The file is damaged, of another topic, or of another number of partitions.
    """
    header, offsets = _check(path)
    if header["partitions"] != len(sources.state.end):
        raise SnapshotError(
            f"{path} has {header['partitions']} partitions, {sources.topic} has {len(sources.state.end)}: a listener's "
            "state would be looked for in another partition. Replay the topic instead."
        )
    adopt = header["topic_id"] != sources.state.topic_id
    if adopt and not other_topic:
        raise SnapshotError(
            f"{path} is of {header['topic']} with id {header['topic_id']}; {sources.topic} here has "
            f"{sources.state.topic_id}. --other-topic lets the listens of this topic follow on that state"
        )
    if adopt:
        offsets = {p: (sources.state.start[p], NOT_OF_THIS_TOPIC) for p in offsets}
    records = NamespaceRecords(sources.redis, sources.settings.topic_prefix)
    id_ = await records.new_id("s")
    record = NamespaceRecord(
        id=id_,
        namespace=records.namespace(id_),
        created_ms=int(time.time() * 1000),
        start={partition: first for partition, (_, first) in offsets.items()},
        end={partition: reached or 0 for partition, (reached, _) in offsets.items()},
        projections=PROJECTIONS,
        partial=header["partial"],
        excluded={int(partition): count for partition, count in header.get("excluded", {}).items()},
    )
    await records.put(record)
    await _load(sources, path, record.namespace, offsets)
    record = record.with_(done=True)
    await records.put(record)
    return record


Offsets = Mapping[int, tuple[int | None, int]]
"""Partition -> (next offset, first offset)."""


def _check(path: Path) -> tuple[Mapping[str, Any], Offsets]:
    """Read the file to its end, so that nothing of a damaged one is believed."""
    header: Mapping[str, Any] = {}
    offsets = {}
    for frame in read_frames(path):
        if frame.kind is Kind.HEADER:
            header = frame.about
        elif frame.kind is Kind.PARTITION:
            offsets[frame.about["partition"]] = (frame.about["next_offset"], frame.about["first_offset"])
    if not header:
        raise SnapshotError(f"{path} has no header")
    return header, offsets


async def _load(sources: Sources, path: Path, namespace: str, offsets: Offsets) -> None:
    partition = 0
    for frame in read_frames(path):
        if frame.kind is Kind.PARTITION:
            partition = frame.about["partition"]
        elif frame.kind is not Kind.HEADER:
            await _put(sources.redis, partition_key(namespace, partition, frame.collection), frame)
    # the checkpoints come last: half a namespace has none, and can never be mistaken for a whole one
    for partition, (reached, first) in offsets.items():
        if reached is not None:
            checkpoint = {"next_offset": reached, "first_offset": first, "topic_id": sources.state.topic_id}
            await sources.redis.hset(checkpoint_key(namespace, partition), mapping=checkpoint)


async def _put(redis: Any, key: str, frame: Frame) -> None:
    if not frame.items:
        return
    if frame.kind is Kind.FIELDS:
        await redis.hset(key, mapping=frame.items)
    else:
        # repr gives the shortest text that reads back as the same double
        await redis.zadd(key, {member: repr(score) for member, score in frame.items.items()})
