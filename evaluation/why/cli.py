"""`botify why`: what led to an answer, computed again from the topics."""

from __future__ import annotations

import os

# as `python -m botify.services.recommender` does, before numpy is loaded: sums over threads have other last bits
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from botify.core.cli import Json, console, print_json, progress
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings
from botify.core.times import iso_ms
from botify.evaluation import EvaluationError
from botify.evaluation.why.evidence import find_answer, newest_before, read_past
from botify.evaluation.why.explain import as_json as data_of
from botify.evaluation.why.explain import assignment_lines, explain, render
from botify.evaluation.why.recompute import recompute, serve
from botify.evaluation.why.versions import find_catalogues, find_models, labels_of
from botify.schemas.events import Track
from botify.schemas.external_ids import UserIds, track_named
from botify.schemas.registry import codec_of
from botify.schemas.topics import feedback_partitions
from botify.schemas.track_table import TrackTable
from botify.services.experiments import load_policy
from botify.services.experiments.live import read_steps
from botify.services.recommender.registry import RECOMMENDERS
from botify.streams.read import StateReader
from botify.streams.store.connect import connect, require_redis

AFTER_MS = 24 * 60 * 60 * 1000  # how long after an answer listens are looked at for what happened


def why(
    user: Annotated[str, typer.Argument(help="A listener: a number, or the external id.")],
    track: Annotated[str | None, typer.Argument(help="Say also why this track was not answered.")] = None,
    request: Annotated[str | None, typer.Option(metavar="ID", help="The answer to this request.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The newest answer before this time, 14:03 or 2026-05-01T14:03.")
    ] = None,
    snapshots: Annotated[
        Path | None, typer.Option(help="Folder with files of `botify replay save`; default: snapshots in BOTIFY_HOME.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Explain an answer, by default a listener's newest; exit with 1 if, computed again, it differs in any bit."""
    before_ms = None if at is None else milliseconds_of(at)
    settings = require_kafka(require_redis(Settings.from_env()))
    codec = codec_of(settings)
    with closing(connect(settings)) as redis:
        number = StateReader(redis, settings, feedback_partitions(settings)).number_of(UserIds.of(settings), user)
    with progress("reading the listener's past") as bar:
        found = find_answer(settings, codec, number, request, before_ms)
        was, folder = found.answer, snapshots or settings.home / "snapshots"
        begun = newest_before(folder, number, was.listens or 0, found.answered_ms)
        until_ms = max(found.answered_ms, was.timestamp_ms) + AFTER_MS
        past = read_past(settings, codec, [number], bar.advance, {} if begun is None else {number: begun}, until_ms)
    versions = was.versions or {}
    with progress("learning the models again") as bar:
        models = find_models(settings, codec, labels_of(versions), bar.advance)
    served = serve(find_catalogues(settings, codec, [versions]), versions, models)
    made = recompute(found, past, served, codec)
    if made.missing:  # listens were taken out since the snapshot, or times are not in the order of the topic
        with progress("reading the listener's past from the first listen") as bar:
            past = read_past(settings, codec, [number], bar.advance)
        made = recompute(found, past, served, codec)
    not_offered = None if track is None else number_of_track(track, served.of.tracks)
    assignment = assignment_lines(load_policy(settings, RECOMMENDERS), read_steps(settings, codec), found)
    said = explain(found, made, past, assignment, not_offered)
    if as_json:
        print_json(data_of(user, found, made, said))
    else:
        console.print(render(user, found, made, said))
    if not made.equal:
        raise typer.Exit(1)


def number_of_track(text: str, tracks: Mapping[int, Track]) -> int:
    """Return the number of a track that was named by its number or its external id."""
    named = track_named(text)
    if isinstance(named, int):
        return named
    found = tracks.with_external_id(named) if isinstance(tracks, TrackTable) else None
    if found is None:
        raise EvaluationError(f"no track of the catalogue has the external id {named!r}; name it by its number")
    return found.track


def milliseconds_of(at: str, option: str = "--at") -> int:
    """Return a time in ISO 8601 as milliseconds since the epoch; without a zone it is UTC, and without a date today.

    Examples
    --------
    >>> milliseconds_of("2023-11-14T22:13:20")
    1700000000000
    """
    try:
        return iso_ms(at if "-" in at else f"{datetime.now(UTC):%Y-%m-%d}T{at}")
    except ValueError as error:
        raise EvaluationError(f"{option} {at!r} is no time; write one such as 2026-05-01T14:03, in UTC") from error
