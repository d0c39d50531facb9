"""Writing a namespace to a file, while workers go on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO

from streams.folds.partition import HASHES, SCORE_SETS
from streams.offline.sources import Sources
from streams.snapshot.errors import SnapshotError
from streams.snapshot.format import VERSION, Kind, SnapshotWriter
from streams.store.frozen import frozen
from streams.store.namespaces import checkpoints, live_namespace
from streams.store.records import NamespaceRecord, NamespaceRecords


async def save(sources: Sources, path: Path, namespace: str | None = None) -> dict[int, int]:
    """Write the file, in one step from nothing to whole; return the checkpoint of each partition.

    Each partition is copied in Redis at one checkpoint and read from the copy, a page at a time.

    Parameters
    ----------
    namespace : str, optional
        By default the live one.

    Raises
    ------
    SnapshotError
        The namespace has no state, or is of another topic.
    """
    prefix = sources.settings.topic_prefix
    chosen = namespace or await live_namespace(sources.redis, prefix)
    if not any((await checkpoints(sources.redis, chosen, sources.state.end)).values()):
        raise SnapshotError(f"namespace {chosen} has no state; `botify replay status` names those that have")
    record = await NamespaceRecords(sources.redis, prefix).find(chosen)
    unfinished = path.with_name(f"{path.name}.new")
    try:
        with unfinished.open("wb") as file:
            reached = await _write(sources, chosen, record, file)
        unfinished.replace(path)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return reached


async def _write(sources: Sources, namespace: str, record: NamespaceRecord | None, file: IO[bytes]) -> dict[int, int]:
    writer, reached = SnapshotWriter(file), {}
    about = {
        "format": VERSION,
        "topic": sources.topic,
        "topic_id": sources.state.topic_id,
        "namespace": namespace,
        "partitions": len(sources.state.end),
        "created_ms": int(time.time() * 1000),
        "partial": list(record.partial) if record else [],
        "excluded": dict(record.excluded) if record else {},
    }
    writer.about(Kind.HEADER, about)
    for partition in sources.state.end:
        async with frozen(sources.redis, namespace, partition) as state:
            if state.topic_id not in (None, sources.state.topic_id):
                raise SnapshotError(f"namespace {namespace} is of topic id {state.topic_id}, not of {sources.topic}")
            reached[partition] = state.next_offset or 0
            offsets = {"next_offset": state.next_offset, "first_offset": state.first_offset}
            writer.about(Kind.PARTITION, {"partition": partition, **offsets})
            for name in HASHES:
                async for fields in state.contents.hash_pages(partition, name):
                    writer.fields(name, fields)
            for name in SCORE_SETS:
                async for scores in state.contents.score_pages(partition, name):
                    writer.scores(name, scores)
    writer.end()
    return reached
