"""`botify verify`, `botify replay save` and `load`: the state compared with the topic, and in a file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from botify.core.cli import Json, console, print_json, progress, say
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings
from botify.streams.cli.replay import run_with_sources
from botify.streams.cli.replay_models import excluded_hint
from botify.streams.snapshot import load as load_snapshot
from botify.streams.snapshot import save as save_snapshot
from botify.streams.store.connect import require_redis
from botify.streams.verify import MOVE_S, Difference, Report
from botify.streams.verify import verify as verify_namespace


def verify(
    namespace: Annotated[str | None, typer.Option(help="Namespace to verify; default: the live one.")] = None,
    one_by_one: Annotated[
        bool,
        typer.Option("--one-by-one", help="Fold listen by listen, as the rules are written; several times slower."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Fold the topic offline and compare it with every item in Redis.

    Exits with 1 if any item differs, or if records wait and no worker folds them.
    """
    settings = require_kafka(require_redis(Settings.from_env()))
    with progress("folding") as bar:
        report = verify_namespace(settings, namespace, progress=bar.advance, one_by_one=one_by_one)
    if as_json:
        print_json({**asdict(report), "ok": report.ok})
    else:
        _show(report)
    if not report.ok or report.standing or (report.feedback and report.feedback.standing):
        raise typer.Exit(1)


def _show(report: Report) -> None:
    table = Table("collection", title=f"namespace {report.namespace}")
    table.add_column("items compared", justify="right")
    said = report.feedback or Report("")
    for name, items in report.compared.items():
        table.add_row(name, f"{items + said.compared.get(name, 0):,}")
    console.print(table)
    rate = report.records / report.seconds if report.seconds else 0.0
    console.print(
        f"folded {report.listens:,} listens ({report.duplicates:,} of them duplicates) and left out "
        f"{report.dead_letters:,} dead letters in {report.seconds:.1f} s, {rate:,.0f} a second"
    )
    for difference in (*report.differences, *said.differences):
        console.print(_line(difference), markup=False, highlight=False, soft_wrap=True)
    for one, topic in ((report, "listens"), (said, "feedback")):
        if one.unfolded:
            console.print(f"{one.unfolded:,} records of the {topic} after the checkpoints are not folded yet")
        if one.standing:
            console.print(
                f"[red]nobody folds partitions {one.standing} of the {topic}[/]: their checkpoints have not moved for "
                f"{MOVE_S:.0f} s; see `botify status` and the workers' log",
                soft_wrap=True,
            )
    if report.ok:
        as_far = " up to the checkpoints" if report.unfolded or said.unfolded else ""
        console.print(f"[green]the state equals the fold of the topic[/]{as_far}")
    else:
        console.print(f"[red]{report.differing + said.differing:,} items differ[/]; the first are above")
        if report.excluded_since:
            console.print(excluded_hint(report.excluded_since, "replay run", "replay swap ID"), soft_wrap=True)


def _line(difference: Difference) -> str:
    where = f"partition {difference.partition} {difference.collection} {difference.item.decode(errors='replace')}"
    return f"{where}: expected {_text(difference.expected)}, found {_text(difference.found)}"


def _text(value: bytes | float | None) -> str:
    if value is None:
        return "nothing"
    return value.hex() if isinstance(value, bytes) else repr(value)


def save(
    file: Annotated[Path, typer.Argument(help="File to write; an existing file is replaced.")],
    namespace: Annotated[str | None, typer.Option(help="Namespace to save; default: the live one.")] = None,
) -> None:
    """Save a namespace and its checkpoints to a file while workers keep running."""
    reached = run_with_sources(Settings.from_env(), lambda sources: save_snapshot(sources, file, namespace))
    say(f"{file}: the state after {sum(reached.values()):,} records, {file.stat().st_size / 1e6:,.1f} MB")


def load(
    file: Annotated[Path, typer.Argument(help="File that `botify replay save` wrote.")],
    other_topic: Annotated[
        bool,
        typer.Option("--other-topic", help="Load even if the topic that the state was folded from no longer exists."),
    ] = False,
) -> None:
    """Load a file into a new namespace; other namespaces do not change."""
    record = run_with_sources(
        Settings.from_env(), lambda sources: load_snapshot(sources, file, other_topic=other_topic)
    )
    say(f"loaded as {record.id}; `botify replay swap {record.id}` lets it catch up and makes it the live one")
