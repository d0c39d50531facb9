"""`botify dlq`: dead letters."""

from __future__ import annotations

import heapq
import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from botify.core.cli import console, print_json, say
from botify.core.kafka.admin import parse_position, require_kafka
from botify.core.settings import Settings
from botify.core.times import utc
from botify.schemas.events import Listen
from botify.schemas.external_ids import UserIds
from botify.schemas.topics import Topics, feedback_partitions
from botify.streams.dlq.exclude import exclude as keep_out
from botify.streams.dlq.exclude import select
from botify.streams.dlq.letters import (
    DeadLetter,
    DeadLetterError,
    LetterFilter,
    RedriveResult,
    Resolutions,
    ResolutionStatus,
    read_letters,
)
from botify.streams.dlq.letters import redrive as bring_back
from botify.streams.read import StateReader
from botify.streams.store.connect import connect, require_redis


def exclude(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Record to exclude, as TOPIC/PARTITION/OFFSET.")
    ] = None,
    user: Annotated[int | None, typer.Option(help="Only listens of this listener.")] = None,
    event_id: Annotated[str | None, typer.Option(help="Only listens with this event id.")] = None,
    after: Annotated[
        str | None, typer.Option(help="Only event times at or after this time, such as 2026-01-31T12:00:00Z.")
    ] = None,
    before: Annotated[str | None, typer.Option(help="Only event times before this time.")] = None,
    reason: Annotated[
        str, typer.Option(help="Reason of the exclusion; `botify dlq list` shows it.")
    ] = "no reason was given",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be excluded, and change nothing.")
    ] = False,
) -> None:
    """Exclude accepted listens from every later fold; a listen must match all given conditions.

    `botify replay run` and `botify verify --models --rebuild` rebuild state and models without them.
    """
    selection = select(ids or (), user, event_id, after, before)
    if selection is None:
        raise DeadLetterError("choose the listens to exclude: IDs, --user, --event-id, --after or --before")
    outcome = keep_out(require_kafka(Settings.from_env()), selection, reason, dry_run=dry_run)
    verb = "would exclude" if dry_run else "excluded"
    say(f"{verb} {outcome.count:,} records; {outcome.already:,} were dead letters before")
    for origin, listen in outcome.sample:
        say(f"  {origin}  {_described(listen)}")
    if outcome.count > len(outcome.sample):
        say(f"  and {outcome.count - len(outcome.sample):,} more")
    if outcome.count and not dry_run:
        say("`botify replay run` rebuilds the state without them, `botify verify --models --rebuild` the models")


def _described(listen: Listen | None) -> str:
    if listen is None:
        return "unreadable"
    return f"user {listen.user}, track {listen.track}, {utc(listen.timestamp_ms)}, event id {listen.event_id}"


Reason = Annotated[str | None, typer.Option(help="Only letters whose error class or text contains this.")]
Topic = Annotated[str | None, typer.Option(help="Only letters from this topic.")]
Since = Annotated[
    str | None, typer.Option(help="Only letters written since: ts:2026-01-31T12:00:00Z or duration:PT1H.")
]
Until = Annotated[str | None, typer.Option(help="Only letters written before this time.")]
Id = Annotated[str | None, typer.Option("--id", help="Only the letter with this id, as shown by `botify dlq list`.")]


def list_letters(
    id_: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A letter, to show all its fields and headers as JSON.")
    ] = None,
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    resolved: Annotated[bool, typer.Option("--all", help="Include letters that were redriven or dropped.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of letters to show.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line instead of a table.")] = False,
) -> None:
    """List open letters and the letters of excluded records, or show one."""
    settings = require_kafka(require_redis(Settings.from_env()))
    if id_ is not None:
        _show(settings, id_)
        return
    states = _states(settings)
    letters = read_letters(settings, _filter(reason, topic, since, until))
    shown, found = _oldest((letter for letter in letters if resolved or str(letter.origin) not in states), limit)
    fields_of = [_fields(letter, states, name) for letter, name in zip(shown, _names(settings, shown), strict=True)]
    if as_json:
        for fields in fields_of:
            sys.stdout.write(json.dumps(fields) + "\n")
        return
    table = Table(title=f"{found:,} dead letters", box=box.SIMPLE_HEAD)
    for heading in ("id", "time (UTC)", "listener", "attempts", "state", "why"):
        table.add_column(
            heading, no_wrap=heading == "id", justify="right" if heading == "attempts" else "left", overflow="fold"
        )
    for letter, fields in zip(shown, fields_of, strict=True):
        why = escape(f"{letter.reason}: {letter.message}")
        table.add_row(
            fields["id"], fields["at"], escape(fields["listener"]), str(letter.attempts), fields["state"], why
        )
    console.print(table)
    if found > len(shown):
        say(f"and {found - len(shown):,} more; --limit shows them")


def _show(settings: Settings, id_: str) -> None:
    """Show all fields and headers of a letter as JSON."""
    letter = next(read_letters(settings, LetterFilter(origin=id_)), None)
    if letter is None:
        raise DeadLetterError(f"there is no dead letter {id_!r}; `botify dlq list --all` names them all")
    headers = {name: value.decode("utf-8", "backslashreplace") for name, value in letter.headers}
    raw = {"headers": headers, "value_hex": None if letter.value is None else letter.value.hex()}
    (name,) = _names(settings, [letter])
    print_json({**_fields(letter, _states(settings), name), **raw})


def redrive(
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    id_: Id = None,
    force: Annotated[
        bool, typer.Option("--force", help="Include letters that would be rejected again, and excluded records.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be redriven, and change nothing.")
    ] = False,
) -> None:
    """Send open letters back to their topic, each at most once, after the cause is fixed.

    Excluded records are sent back only with --id or --force.
    """
    settings = require_kafka(require_redis(Settings.from_env()))
    letters = read_letters(settings, _filter(reason, topic, since, until, id_))
    exclusions = force or id_ is not None
    outcome = bring_back(settings, connect(settings), letters, dry_run=dry_run, force=force, exclusions=exclusions)
    _show_outcome(outcome, dry_run=dry_run)
    if outcome.unsure:
        raise typer.Exit(1)


def drop(
    reason: Reason = None,
    topic: Topic = None,
    since: Since = None,
    until: Until = None,
    id_: Id = None,
    everything: Annotated[bool, typer.Option("--all", help="Drop every open letter.")] = False,
) -> None:
    """Mark letters as dropped. They are no longer open, and stay in their topic until its retention ends."""
    choice = _filter(reason, topic, since, until, id_)
    if choice == LetterFilter() and not everything:
        raise DeadLetterError("choose letters to drop with --id, --reason, --topic, --since or --until, or use --all")
    settings = require_kafka(require_redis(Settings.from_env()))
    resolutions = Resolutions(connect(settings), settings.topic_prefix)
    known = resolutions.all()
    dropped = [letter.origin for letter in read_letters(settings, choice) if str(letter.origin) not in known]
    resolutions.put(ResolutionStatus.DROPPED, dict.fromkeys(dropped, 0))
    say(f"dropped {len(dropped):,} letters")


def _oldest(letters: Iterable[DeadLetter], limit: int) -> tuple[list[DeadLetter], int]:
    found = 0

    def counted() -> Iterator[DeadLetter]:
        nonlocal found
        for found, letter in enumerate(letters, 1):  # noqa: B007 - it is what the caller returns
            yield letter

    return heapq.nsmallest(limit, counted(), key=lambda letter: (letter.at_ms, letter.origin)), found


def _show_outcome(outcome: RedriveResult, *, dry_run: bool) -> None:
    lines = [f"{'would bring' if dry_run else 'brought'} back {len(outcome.sent):,} letters"]
    if outcome.found:
        lines.append(f"{len(outcome.found):,} had been brought back by a redrive that was killed")
    if outcome.hopeless:
        origin, why = outcome.hopeless[0]
        lines.append(f"left {len(outcome.hopeless):,} that would be dead letters again, such as {origin}: {why}")
    if outcome.excluded:
        lines.append(f"left {len(outcome.excluded):,} that were excluded; --id or --force brings them back")
    if outcome.unsure:
        lines.append(f"{len(outcome.unsure):,} were not acknowledged; run this again, it looks for them first")
    for line in lines:
        say(line)


def _filter(
    reason: str | None, topic: str | None, since: str | None, until: str | None, id_: str | None = None
) -> LetterFilter:
    return LetterFilter(reason, topic, _moment_ms(since), _moment_ms(until), id_)


def _moment_ms(text: str | None) -> int | None:
    if text is None:
        return None
    position = parse_position(text, int(time.time() * 1000))
    if position.kind != "timestamp":
        raise DeadLetterError(f"{text!r} is not a time; use ts:2026-01-31T12:00:00Z or duration:PT1H")
    return position.value


def _states(settings: Settings) -> dict[str, str]:
    resolutions = Resolutions(connect(settings), settings.topic_prefix)
    return {origin: resolution.status.value for origin, resolution in resolutions.all().items()}


def _names(settings: Settings, letters: Sequence[DeadLetter]) -> list[str]:
    """Return what the listeners of letters are called, empty where neither the state nor the dataset knows."""
    topics = Topics.of(settings)
    keyed_by_user = {topics.listens.name, topics.feedback.name, topics.recommendation_requests.name}
    keys = [(letter.key or b"") if letter.origin[0] in keyed_by_user else b"" for letter in letters]
    users = [int(key) if NUMBER.fullmatch(key) else None for key in keys]
    known = sorted({user for user in users if user is not None})
    reader = StateReader(connect(settings), settings, feedback_partitions(settings))
    names, of_dataset = dict(zip(known, reader.names(known), strict=True)), UserIds.of(settings)
    return [(user is not None and (names[user] or of_dataset.name_of(user))) or "" for user in users]


NUMBER = re.compile(rb"[0-9]{1,16}")


def _fields(letter: DeadLetter, states: dict[str, str], listener: str) -> dict[str, str]:
    return {
        "id": str(letter.origin),
        "at": utc(letter.at_ms),
        "reason": letter.reason,
        "message": letter.message,
        "attempts": str(letter.attempts),
        "key": "" if letter.key is None else letter.key.decode("utf-8", "backslashreplace"),
        "listener": listener,
        "state": states.get(str(letter.origin), "excluded" if letter.excluded else "open"),
    }
