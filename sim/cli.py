"""`botify sim` and `botify world make`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from botify.core.cli import Json, console, print_json, progress, read_settings
from botify.core.kafka.admin import require_kafka
from botify.core.logging import configure_logging
from botify.core.process import tune_gc
from botify.core.settings import Settings
from botify.core.telemetry import new_registry, observed
from botify.core.times import iso_ms, utc
from botify.schemas.event_time import parse_speed
from botify.sim import SimulationError, WorldError
from botify.sim.agents import load_agent
from botify.sim.loop import RunResult, SimulatorMetrics, run_loop
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.options import RunOptions
from botify.sim.play import Progress, play_world
from botify.sim.schedule import Shard
from botify.sim.world import DEFAULT, World, WorldConfig, find_world, open_world
from botify.sim.world.reading import import_world
from botify.sim.world.store import save_world, worlds_directory

RARE: Mapping[str, Callable[[str], Any]] = {
    "users": int,
    "in_flight": int,
    "seconds": float,
    "shard": Shard.parse,
    "run_id": str,
    "url": str,
}
"""Settings of `--set`, and what reads their values."""


def sim(
    agent: Annotated[
        str,
        typer.Option(help="Source of recommendations: kafka (the full loop), http, dummy, console, or module:Class."),
    ] = "kafka",
    sessions: Annotated[int | None, typer.Option(help="Stop after this number of sessions.")] = None,
    listens: Annotated[int | None, typer.Option(help="Stop after this number of listens.")] = None,
    days: Annotated[
        float | None,
        typer.Option(help="Simulate this number of days of event time with a daily rhythm; listeners return."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed; the same seed gives each listener the same random numbers.")
    ] = 1,
    speed: Annotated[str, typer.Option(help="Ratio of event time to wall time, such as 1x or 60x, or max.")] = "max",
    rate: Annotated[
        float | None, typer.Option(help="Send this number of requests per second, whether or not they are answered.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Event time at the start, such as 2027-01-01 (UTC); default: now.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="Listener model: botify, drifting, trending, shifting, fatigue, streaming, probit, threshold, "
            "recovering, or module:Class."
        ),
    ] = "botify",
    world: Annotated[str | None, typer.Option(help="Name or directory of a world; default: the default world.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Listeners that take part (users), sessions open at the same time (in_flight), seconds of wall time, "
            "part of the listeners (shard, as 0/4), prefix of session ids (run_id), or the http agent's url.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Simulate listeners who follow recommendations, until the sessions, listens or days are reached, or Ctrl-C."""
    stack, rare = Settings.from_env(), read_settings(settings or (), RARE, SimulationError)
    url = rare.pop("url", "http://127.0.0.1:5001")
    options = RunOptions(
        sessions=sessions,
        listens=listens,
        seed=seed,
        model=model,
        days=days,
        speed=parse_speed(speed),
        rate=rate,
        start_ms=None if start is None else parse_start(start),
        **rare,
    )
    if agent == "kafka" and options.shard.count > 1 and (start is None or options.speed is None):
        console.print(
            "Shards have no common clock. Give all of them the same --start and a --speed; otherwise their event times "
            "drift apart and sessions are closed too early.",
            style="yellow",
        )
    if agent == "kafka":
        stack = require_kafka(stack)
    with progress("opening the world"):
        opened = find_world(stack.home, world)
    if agent == "console":
        # one listener at a time, so that a person can follow
        options = replace(options, in_flight=1, sessions=sessions or 1)
        done = play_world(opened, load_agent(agent, opened, seed, url, console), options)
    elif agent == "kafka":
        configure_logging(stack)
        done = _with_bar(options, lambda report: _run_observed(stack, opened, options, report))
    else:
        played_by = load_agent(agent, opened, seed, url, console)
        done = _with_bar(options, lambda report: play_world(opened, played_by, options, report))
    if as_json:
        print_json(result_fields(done))
    else:
        console.print(result_table(done))


def parse_start(text: str) -> int:
    """Read a time in ISO 8601, by default in UTC, and return it in ms since the epoch.

    Raises `SimulationError` if the text is not a time, or the time is before 1970.

    Examples
    --------
    >>> parse_start("1970-01-02"), parse_start("1970-01-01T02:00+01:00")
    (86400000, 3600000)
    """
    try:
        start_ms = iso_ms(text)
    except ValueError:
        raise SimulationError(f"start {text!r} must be a time such as 2027-01-01 or 2027-01-01T08:00") from None
    if start_ms < 0:
        raise SimulationError(f"start {text!r} must not be before 1970")
    return start_ms


def result_fields(done: Progress) -> dict[str, float | str]:
    """Return the counts of a run for programs; times in seconds unless the name says otherwise."""
    fields: dict[str, float | str] = {
        "sessions": done.sessions,
        "listens": done.listens,
        "recommendations": done.recommendations,
        "time": done.time,
        "wall_s": done.wall_s,
    }
    if isinstance(done, RunResult):
        fields |= {
            "run_id": done.run_id,
            "latency_p50_ms": done.latency.percentile(50),
            "latency_p99_ms": done.latency.percentile(99),
            "timed_out": done.timed_out,
            "retried": done.retried,
            "dropped": done.dropped,
            "unusable": done.unusable,
        }
    return fields


def result_table(done: Progress) -> Table:
    """Return the counts of a run as a table."""
    table = Table("", "value", title="Simulation")
    table.columns[1].justify = "right"
    rows: dict[str, Any] = {
        "sessions": f"{done.sessions:,}",
        "listens": f"{done.listens:,}",
        "recommendations": f"{done.recommendations:,}",
        "tracks per session": f"{done.listens / done.sessions:.2f}" if done.sessions else "–",
        "time per session": f"{done.time / done.sessions:.2f}" if done.sessions else "–",
        "wall time": f"{done.wall_s:.1f} s",
        "listens per second": f"{done.listens / max(done.wall_s, 1e-9):,.0f}",
    }
    if isinstance(done, RunResult):
        rows |= {
            "run id": done.run_id,
            "latency p50 / p99": f"{done.latency.percentile(50):.1f} / {done.latency.percentile(99):.1f} ms",
            "timed out": f"{done.timed_out:,} sessions",
            "asked again / dropped / unusable": f"{done.retried:,} / {done.dropped:,} / {done.unusable:,}",
        }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _run_observed(
    settings: Settings, world: World, options: RunOptions, report: Callable[[Progress], None]
) -> RunResult:
    """Run the loop, with its progress exported to Prometheus."""
    metrics, registry = SimulatorMetrics(), new_registry()
    registry.register(metrics)

    def tell(done: Progress) -> None:
        metrics.report(done)
        report(done)

    tune_gc()
    with observed(settings, registry, alive=metrics.heartbeat.probe, ready=metrics.missing_for_ready):
        return run_loop(settings, world, options, tell)


def _with_bar(options: RunOptions, start: Callable[[Callable[[Progress], None]], Progress]) -> Progress:
    """Run with a progress bar and live rates on standard error."""
    total = options.listens or options.sessions or options.seconds
    with progress("simulating", total) as bar:

        def report(done: Progress) -> None:
            rate = f"{done.listens / max(done.wall_s, 1e-9):,.0f} listens/s"
            doing = f"{rate} · {done.sessions:,} sessions · {utc(done.event_ms, '%d %b %H:%M')}"
            bar.to(done.listens if options.listens else done.sessions if options.sessions else done.wall_s, doing=doing)

        return start(report)


def make(
    tracks: Annotated[Path | None, typer.Option(help="Botify's tracks.json: one JSON object per line.")] = None,
    users: Annotated[Path | None, typer.Option(help="Botify's users.json: one JSON object per line.")] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="An .npy file with one row per track; default: generated from the artists.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with settings; missing settings keep their defaults.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of the world.")] = None,
    named: Annotated[str | None, typer.Option("--world", help="Name or directory of a world that is there.")] = None,
    publish: Annotated[
        bool, typer.Option("--publish", help="Publish its catalogue, so that recommenders serve before listens.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Generate a world, or make one of the original Botify's files, and list all; one that exists is used again."""
    if (tracks is None) != (users is None):
        raise WorldError("a world of Botify's files needs both --tracks and --users")
    settings = require_kafka(Settings.from_env()) if publish else Settings.from_env()
    with progress("making the world"):
        if named is not None:
            world = find_world(settings.home, named)
        elif tracks is not None and users is not None:
            world = import_world(tracks, users, embeddings, _read(config, seed))
            save_world(settings.home, world)
        else:
            world = open_world(settings.home, _read(config, seed))
        written = publish_catalogue(settings, world.catalogue) if publish else None
    if as_json:
        print_json([_about(one) for one in _stored(settings.home)])
        return
    catalogue = world.catalogue
    console.print(
        f"World [bold]{world.name}[/bold]: {len(catalogue):,} tracks of {len(catalogue.artists):,} artists, "
        f"{len(world.listeners):,} listeners. Use it with `botify sim --world {world.name}`."
    )
    table = Table("world", "tracks", "listeners", "made of")
    for one in _stored(settings.home):
        table.add_row(one.name, f"{len(one.catalogue):,}", f"{len(one.listeners):,}", _made_of(one))
    console.print(table)
    if written is not None:
        console.print(f"published {written:,} tracks" if written else "the topic holds this catalogue already")


def _stored(home: Path) -> list[World]:
    return [find_world(home, manifest.parent.name) for manifest in sorted(worlds_directory(home).glob("*/world.json"))]


def _about(world: World) -> dict[str, object]:
    return {"name": world.name, "tracks": len(world.catalogue), "listeners": len(world.listeners), **world.about}


def _made_of(world: World) -> str:
    if "fitted" in world.about:
        return f"fitted to {world.about['fitted']['dataset']}"
    return ", ".join(world.about.get("imported", [f"seed {world.about.get('seed')}"]))


def _read(path: Path | None, seed: int | None) -> WorldConfig:
    config = DEFAULT if path is None else WorldConfig.from_toml(path)
    return config if seed is None else replace(config, seed=seed)
