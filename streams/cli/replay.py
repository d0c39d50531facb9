"""`botify replay` and `botify topics repartition`: state rebuilt next to the live one, and the swap."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from botify.core.cli import Json, console, print_json, progress, say
from botify.core.kafka.admin import parse_position, require_kafka
from botify.core.process import tune_gc
from botify.core.settings import Settings
from botify.core.times import utc
from botify.schemas.event_time import parse_speed
from botify.schemas.registry import codec_of
from botify.streams.folds.partition import PROJECTIONS
from botify.streams.replay.repartition import repartition as repartition_to
from botify.streams.replay.sources import Pacer, Plan, ReplayError, ReplaySources, make_plan, open_sources
from botify.streams.replay.swap import NamespaceStatus, begin_namespace, collect, fold_into_namespace, read_status
from botify.streams.replay.swap import rollback as roll_back
from botify.streams.replay.swap import swap as swap_to
from botify.streams.replay.targets import LinesTarget, TopicTarget, write_partitions
from botify.streams.store.connect import require_redis
from botify.streams.store.namespaces import NamespaceRecord, NamespaceRecords, excluded_since

T = TypeVar("T")


def run_with_sources(settings: Settings, work: Callable[[ReplaySources], Awaitable[T]]) -> T:
    """Do work that needs open sources, and return its result.

    Raises `NoBrokerError` or `RedisUnreachableError`: a server does not answer.
    """
    tune_gc()
    live = require_kafka(require_redis(settings))

    async def go() -> T:
        async with open_sources(live) as sources:
            return await work(sources)

    return asyncio.run(go())


def _status_table(namespaces: Sequence[NamespaceStatus]) -> Table:
    table = Table(title="namespaces, oldest first", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("id", "role", "made (UTC)"):
        table.add_column(heading, no_wrap=True)
    for heading in ("folded", "behind"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("compared with live")
    for one in namespaces:
        record = one.record
        name, made, compared = one.namespace, "", ""
        if record is not None:
            name, made, compared = record.id, utc(record.created_ms), _COMPARED[record.equals_live]
            compared = f"leaves out {record.left_out:,} listens" if record.left_out else compared
        table.add_row(name, one.role, made, f"{one.folded:,}", f"{one.behind:,}", compared)
    return table


_COMPARED = {True: "equal", False: "DIFFERS", None: "no"}


From = Annotated[
    str, typer.Option("--from", help="First record: earliest, offset:N, ts:2026-01-31T12:00:00Z or duration:PT1H.")
]
To = Annotated[str, typer.Option("--to", help="End of the records: latest, offset:N or ts:2026-01-31T12:00:00Z.")]
Partitions = Annotated[str | None, typer.Option(help="Comma-separated partitions, such as 0,3; default: all.")]
Projections = Annotated[
    list[str] | None,
    typer.Option("--projection", help=f"Projection to rebuild ({', '.join(PROJECTIONS)}); repeat for several."),
]


def run(
    begin: From = "earliest",
    end: To = "latest",
    partitions: Partitions = None,
    projection: Projections = None,
    target: Annotated[
        str, typer.Option(help="Destination: namespace (a new one), topic:NAME or stdout.")
    ] = "namespace",
    id_: Annotated[str | None, typer.Option("--id", help="Resume the unfinished replay with this id.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Maximum number of records per second.")] = None,
    speed: Annotated[str, typer.Option(help="Ratio of record time to wall time, such as 10x, or max.")] = "max",
    sessions_to: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Write closed sessions to this topic.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Fold the topic into a new namespace, or copy its records elsewhere.

    `botify dlq exclude` before it leaves listens out.
    """
    settings, pacer = Settings.from_env(), Pacer(rate, parse_speed(speed))
    if id_ is not None and sessions_to:
        raise ReplayError(f"{id_} resumes with its original options; --sessions-to needs a new replay")
    if target != "namespace" and sessions_to:
        raise ReplayError("--sessions-to is for replays into a namespace, not for copies")

    async def work(sources: ReplaySources) -> None:
        if id_ is not None:
            record = await NamespaceRecords(sources.redis, settings.topic_prefix).get(id_)
            await _into_namespace(sources, record, pacer, as_json=as_json)
            return
        planned = _plan(sources, begin, end, partitions, projection)
        if dry_run:
            _show_plan(planned, as_json)
        elif target == "namespace":
            begun = await begin_namespace(sources, planned, sessions_to)
            await _into_namespace(sources, begun, pacer, as_json=as_json)
        else:
            await _copy(sources, planned, target, pacer)

    run_with_sources(settings, work)


def status(
    gc: Annotated[bool, typer.Option("--gc", help="First delete namespaces that are no longer needed.")] = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="With --gc: also the one kept for --back and those that were never swapped in."),
    ] = False,
    as_json: Json = False,
) -> None:
    """List all namespaces with their role, progress and lag."""
    settings = Settings.from_env()
    if everything and not gc:
        raise ReplayError("--all says what --gc deletes; add --gc")
    if gc:
        gone = run_with_sources(settings, lambda sources: collect(sources, everything=everything))
        say(f"removed {', '.join(gone)}" if gone else "nothing to remove", Console(stderr=True))
    found = run_with_sources(settings, read_status)
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        console.print(_status_table(found))


def swap(
    id_: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of the namespace, as shown by `botify replay status`.")
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Instead of ID: to the namespace that was live before.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Swap even if the namespace is partial, differs from the live one, or is ahead of it."
        ),
    ] = False,
) -> None:
    """Wait until a namespace has caught up and make it live; workers and readers switch within a second."""
    if (id_ is None) != back:
        raise ReplayError("name the namespace, as `botify replay status` does, or give --back, not both")
    if id_ is None:
        _swap_back()
        return
    former = run_with_sources(Settings.from_env(), lambda sources: swap_to(sources, id_, force=force))
    say(f"{id_} is live; `botify replay swap --back` goes back to {former}")


def _swap_back() -> None:
    async def work(sources: ReplaySources) -> tuple[str, int]:
        namespace = await roll_back(sources)
        record = await NamespaceRecords(sources.redis, sources.settings.topic_prefix).find(namespace)
        return namespace, sum(excluded_since(record, sources.excluded).values())

    namespace, excluded = run_with_sources(Settings.from_env(), work)
    say(f"{namespace} is live again")
    if excluded:
        say(f"it was begun before {excluded:,} listens were excluded, and may have them")


def repartition(
    to: Annotated[int, typer.Option(min=2, help="Number of partitions: a multiple of the present number.")],
    rate: Annotated[float | None, typer.Option(min=1.0, help="Maximum number of copies per second.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Move what is left of a topic that has lost listens.")] = False,
    as_json: Json = False,
) -> None:
    """Move the listens to a topic with more partitions, and the state with them, while all programs run."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: a closed topic is opened again
    tune_gc()
    settings = require_kafka(require_redis(Settings.from_env()))
    with progress("moving") as bar:
        moved = asyncio.run(repartition_to(settings, to, rate=rate, force=force, progress=bar.advance))
    if as_json:
        print_json(asdict(moved))
    else:
        say(
            f"{moved.topic} with {moved.partitions} partitions is open, its state is {moved.namespace}; copied "
            f"{moved.copied:,} listens in {moved.seconds:.1f} s, left out {moved.left_out:,} dead letters; "
            f"listens waited for {moved.waited_s:.2f} s"
        )


def _plan(
    sources: ReplaySources, begin: str, end: str, partitions: str | None, projections: Sequence[str] | None
) -> Plan:
    now_ms, state = int(time.time() * 1000), sources.state
    start, stop = (state.offsets_of(parse_position(text, now_ms), sources.settings) for text in (begin, end))
    return make_plan(sources.topic, state, start, stop, _partitions(partitions), projections or PROJECTIONS)


def _partitions(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ReplayError(f"partitions {text!r} are not numbers with commas between, such as 0,3") from error


async def _into_namespace(sources: ReplaySources, record: NamespaceRecord, pacer: Pacer, *, as_json: bool) -> None:
    if not as_json:
        say(f"replay {record.id} into namespace {record.namespace}; if interrupted, resume it with --id {record.id}")
    total = sum(record.end[partition] - offset for partition, offset in record.start.items())
    started = folded = time.monotonic()
    with progress("replaying", total) as bar:

        def tell(records: int) -> None:
            nonlocal folded
            folded = time.monotonic()  # the comparison follows the last call
            bar.advance(records)

        done = await fold_into_namespace(sources, record, pacer, tell)
    seconds, compared_s = folded - started, time.monotonic() - folded
    if as_json:
        print_json({**asdict(done), "seconds": seconds, "compared_seconds": compared_s, "records": total})
        return
    rate = total / seconds if seconds else 0.0
    say(f"{total:,} records in {seconds:.1f} s, {rate:,.0f} a second; compared in {compared_s:.1f} s")
    say(_verdict(done))


def _verdict(done: NamespaceRecord) -> str:
    if done.partial:
        return f"partial: {'; '.join(done.partial)}"
    if done.left_out:
        return (
            f"it leaves out {done.left_out:,} excluded listens that the live state has, so they differ there; "
            f"`botify replay swap {done.id}` makes it the live one"
        )
    return _VERDICTS[done.equals_live].format(id=done.id)


_VERDICTS = {
    True: "equal to the live state, digest by digest; `botify replay swap {id}` makes it the live one",
    False: "it DIFFERS from the live state; `botify verify` says whether that is right",
    None: "the live state is behind, of another topic or ahead of what is left of this one, so they were not compared",
}


async def _copy(sources: ReplaySources, planned: Plan, target: str, pacer: Pacer) -> None:
    kind, _, name = target.partition(":")
    if target == "stdout":
        try:
            lines = LinesTarget(sys.stdout, codec_of(sources.settings))
            await write_partitions(sources, lines, planned.start, planned.end, pacer)
        except BrokenPipeError:  # the reader has closed the pipe; nothing may be flushed at exit
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open until the process ends
    elif kind == "topic" and name:
        with progress("copying", planned.records) as bar:
            copy = TopicTarget(sources.settings, sources.topic, name)
            await write_partitions(sources, copy, planned.start, planned.end, pacer, bar.advance)
        say(f"copied {planned.records:,} records to {name}")
    else:
        raise ReplayError(f"target {target!r} is none of namespace, topic:NAME and stdout")


def _show_plan(planned: Plan, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(planned), "records": planned.records})
    else:
        into = ", ".join(planned.projections)
        table = Table(title=f"{planned.topic}: {planned.records:,} records into {into}", box=box.SIMPLE_HEAD)
        for heading in ("partition", "from", "to", "records"):
            table.add_column(heading, justify="right")
        for partition, start in planned.start.items():
            end = planned.end[partition]
            table.add_row(str(partition), f"{start:,}", f"{end:,}", f"{end - start:,}")
        console.print(table)
        for reason in planned.partial:
            say(f"partial: {reason}")
