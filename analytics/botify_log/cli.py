"""`botify import-log`: a file of Botify's data log to the listens topic."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from botify.analytics.botify_log.lines import listens_of
from botify.core.cli import console, progress
from botify.core.errors import PublishError
from botify.core.kafka.admin import end_offsets, require_kafka
from botify.core.kafka.config import key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.catalogue import read_catalogue
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics


def publish_listens(settings: Settings, listens: Iterable[Listen]) -> int:
    """Publish listens, wait for all acknowledgements, and return their number.

    At least once: a second import has the same event ids, which readers and the worker drop as duplicates.

    Raises `TopicError` if the topic does not exist, and `PublishError` if a broker refused a listen, or did not answer.
    """
    topic = Topics.of(settings).listens.name
    end_offsets(settings, topic)  # fails at once if the topic does not exist
    publisher, codec, count = RecordPublisher(settings, linger_ms=20), codec_of(settings), 0
    try:
        for listen in listens:
            publisher.send(topic, codec.encode(listen), key_of(listen.user))
            count += 1
        publisher.flush()
    except PublishError as error:
        reason = f"not all listens were written: {error.reason}; repeating the import is safe"
        raise PublishError(topic, reason) from error
    return count


def import_log(
    file: Annotated[
        Path, typer.Argument(help="Botify's data log: one JSON object per line.", exists=True, dir_okay=False)
    ],
    run: Annotated[
        str | None, typer.Option(help="Prefix of all session ids; default: derived from the file's content.")
    ] = None,
) -> None:
    """Publish Botify's JSON data log to the listens topic; a second import adds nothing."""
    settings = require_kafka(Settings.from_env())
    run_id = run or f"log{_digest(file)[:8]}"
    with progress("reading"):  # completely, so that nothing is published of a log with an invalid line
        known = _known_tracks(settings)
        unknown = sum(listen.track not in known for listen in _read(file, run_id))
    with progress("publishing"):
        count = publish_listens(settings, _read(file, run_id))
    console.print(f"{count:,} listens of run {run_id}", highlight=False)
    if unknown:
        console.print(
            f"[yellow]{unknown:,} are of tracks that the catalogue lacks:[/] they count in tables, but the worker "
            "makes dead letters of them. `botify world import` and `botify world publish` publish Botify's catalogue.",
            highlight=False,
        )


def _read(file: Path, run_id: str) -> Iterator[Listen]:
    with file.open(encoding="utf-8") as lines:
        yield from listens_of(lines, run_id)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _known_tracks(settings: Settings) -> set[int]:
    return set(read_catalogue(settings, codec_of(settings)))
