"""`botify dlq exclude`, and the options that `botify replay run` shares with it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from schemas.events import Listen
from schemas.reachable import require_kafka
from schemas.settings import Settings
from streams.dlq.exclude import Excluded, Selection, select
from streams.dlq.exclude import exclude as keep_out
from streams.dlq.letters import DeadLetterError

console = Console()

User = Annotated[int | None, typer.Option(help="Listens of that listener.")]
EventId = Annotated[str | None, typer.Option(help="Listens with that event id.")]
After = Annotated[str | None, typer.Option(help="Event time then or later, such as 2026-01-31T12:00:00Z.")]
Before = Annotated[str | None, typer.Option(help="Event time earlier than that.")]
Reason = Annotated[str, typer.Option(help="Why; `botify dlq list` shows it.")]


def exclude(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="TOPIC/PARTITION/OFFSET.")] = None,
    user: User = None,
    event_id: EventId = None,
    after: After = None,
    before: Before = None,
    reason: Reason = "no reason was given",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be excluded.")] = False,
) -> None:
    """Keep listens out of every later fold, though they have entered; all conditions that are given hold.

    State and models that have them are made anew by `botify replay run` and `botify replay models --rebuild`.
    """
    selection = select(ids or (), user, event_id, after, before)
    if selection is None:
        raise DeadLetterError("say which listens to exclude: IDs, --user, --event-id, --after or --before")
    outcome = keep_out(require_kafka(Settings.from_env()), selection, reason, dry_run=dry_run)
    show_excluded(outcome, dry_run=dry_run)
    if outcome.count and not dry_run:
        _say("`botify replay run` makes the state without them, `botify replay models --rebuild` the models")


def exclude_before_replay(settings: Settings, selection: Selection | None, reason: str, *, dry_run: bool) -> None:
    """Exclude what a replay shall leave out; says so on standard error.

    Raises
    ------
    DeadLetterError
        Conditions were given that no record meets.
    """
    if selection is None:
        return
    outcome = keep_out(settings, selection, reason, dry_run=dry_run)
    if not outcome.count and not outcome.already:
        raise DeadLetterError("no record meets the --exclude conditions, so nothing was replayed")
    show_excluded(outcome, dry_run=dry_run, to=Console(stderr=True))


def show_excluded(outcome: Excluded, *, dry_run: bool, to: Console = console) -> None:
    """Print counts and a sample."""
    verb = "would exclude" if dry_run else "excluded"
    _say(f"{verb} {outcome.count:,} records; {outcome.already:,} were dead letters before", to)
    for origin, listen in outcome.sample:
        _say(f"  {origin}  {_described(listen)}", to)
    if outcome.count > len(outcome.sample):
        _say(f"  and {outcome.count - len(outcome.sample):,} more", to)


def _described(listen: Listen | None) -> str:
    if listen is None:
        return "cannot be read"
    return f"user {listen.user}, track {listen.track}, {_time_of(listen.timestamp_ms)}, event id {listen.event_id}"


def _time_of(timestamp_ms: int) -> str:
    """Return the time in words; a time that no calendar has, as poison may bring, as its number."""
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{timestamp_ms} ms"


def _say(message: str, to: Console = console) -> None:
    to.print(message, highlight=False, markup=False, soft_wrap=True)
