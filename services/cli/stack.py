"""`botify up`, `botify down`, `botify status`, and `botify demo`, which types them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from botify.core.cli import Json, console, print_json, progress, say
from botify.core.errors import SettingsError
from botify.core.settings import STACK_FILE, Settings, remember
from botify.schemas.external_ids import UserIds
from botify.services.errors import DemoError, StackError
from botify.services.experiments import load_policy
from botify.services.gateway import GatewayOptions
from botify.services.stack.embedded import LOCK_FILE, take_lock
from botify.services.stack.ports import check_free, choose
from botify.services.stack.record import ENDED_FILE, StackRecord
from botify.services.stack.run import running_stack, start_in_background, stop_stack, wait_for_gateway
from botify.services.stack.server import READY_S
from botify.services.stack.status import StackStatus, TopicStatus, read_status
from botify.services.stack.supervisor import ProcessStatus, programs

_STATE_STYLES = {"running": "green", "paused": "yellow", "ended": "bold red", "given up": "bold red"}


def status_view(status: StackStatus) -> RenderableType:
    """Return tables of processes, topics, lag and addresses, and the problems."""
    parts: list[RenderableType] = []
    if status.processes:
        parts.append(_processes(status.processes))
    if status.topics.records:
        parts.append(_topics(status.topics))
    if status.topics.lags:
        parts.append(_lags(status.topics))
    places = Table.grid(padding=(0, 2))
    places.add_row("Kafka", status.kafka_bootstrap_servers)
    places.add_row("Redis", status.redis_url)
    if status.gateway:
        places.add_row("REST API", status.gateway)
    places.add_row("data, logs", Text(str(status.home), overflow="fold"))
    places.add_row("policy", Text(status.policy, overflow="fold"))
    return Group(*parts, places, *(Text(problem, style="red") for problem in status.problems))


def _processes(processes: Sequence[ProcessStatus]) -> Table:
    figures = [Column(name, justify="right") for name in ("pid", "uptime", "restarts", "CPU %", "RSS MB")]
    table = Table("name", *figures, "state", title="Processes", title_justify="left")
    for process in processes:
        table.add_row(
            process.name,
            str(process.pid),
            duration(process.uptime_s),
            Text(str(process.restarts), style="yellow" if process.restarts else ""),
            f"{process.cpu_percent:.0f}",
            f"{process.rss_mb:.0f}",
            Text(process.state, style=_STATE_STYLES[process.state]),
        )
    return table


def _topics(topics: TopicStatus) -> Table:
    figures = [Column(name, justify="right") for name in ("records", "records/s")]
    table = Table("topic", *figures, title="Topics", title_justify="left")
    for topic, records in topics.records.items():
        table.add_row(topic, f"{records:,}", f"{topics.records_per_s[topic]:,.0f}")
    return table


def _lags(topics: TopicStatus) -> Table:
    columns = [Column("group"), Column("topic", no_wrap=True), Column("lag", justify="right"), Column("by partition")]
    for column in columns:
        column.overflow = "fold"
    table = Table(*columns, title="Consumer lag", title_justify="left")
    for lag in topics.lags:
        table.add_row(lag.group, lag.topic, f"{sum(lag.lags):,}", " ".join(map(str, lag.lags)))
    return table


def duration(seconds: float) -> str:
    """Return a time span in its two largest units."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h {minutes}m"
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"


PORT_HELP = "Default: the port of the last start; 0 picks a free port."
GATEWAY_PORT_HELP = "Default: BOTIFY_GATEWAY_PORT or the port of the last start; 0 picks a free port."
Port = Annotated[int | None, typer.Option(min=0, max=65_535, help=PORT_HELP)]


def up(
    workers: Annotated[int, typer.Option(min=0, help="Number of stream processors; they share the partitions.")] = 1,
    recommenders: Annotated[
        int, typer.Option(min=0, help="Number of recommender services; they share the requests.")
    ] = 1,
    learners: Annotated[
        int, typer.Option(min=0, help="Number of model learners; each shard has one, the others stand by.")
    ] = 1,
    gateways: Annotated[
        int,
        typer.Option(
            min=0, help="Number of gateways (REST API, dashboard); several share the port, without dashboard."
        ),
    ] = 1,
    detach: Annotated[
        bool, typer.Option("--detach/--foreground", help="Return once everything runs, or stay in the foreground.")
    ] = True,
    kafka_port: Port = None,
    redis_port: Port = None,
    gateway_port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help=GATEWAY_PORT_HELP, envvar="BOTIFY_GATEWAY_PORT", show_envvar=False),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Serve the users of an imported dataset, on topics of its name. Remembered, as is --prefix."),
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="First part of all topic names; users have any name, or a number.")
    ] = None,
    recommender: Annotated[
        str | None,
        typer.Option(
            help="For everybody, or for listeners without one from an experiment; see `botify models list`. "
            "Default: BOTIFY_RECOMMENDER, the default of the experiments, or botify."
        ),
    ] = None,
    experiments: Annotated[
        str | None,
        typer.Option(
            help="File that declares experiments; `course`: random against sticky_artist. Default: BOTIFY_EXPERIMENTS."
        ),
    ] = None,
) -> None:
    """Start Kafka, Valkey, stream processors, learners, recommenders and the gateway; existing data is kept."""
    if dataset or prefix:
        _remember(Settings.from_env(), dataset, prefix)
    # its processes inherit the variables, and `stack.json` names them for other terminals
    given = {"BOTIFY_RECOMMENDER": recommender, "BOTIFY_EXPERIMENTS": experiments}
    os.environ.update({name: value for name, value in given.items() if value is not None})
    settings = Settings.from_env()
    from botify.services.recommender.registry import RECOMMENDERS

    for warning in load_policy(settings, RECOMMENDERS).warnings():  # before programs start that would end because of it
        say(f"warning: {warning}")
    at = _gateway_port(settings, gateway_port) if gateways else None
    if detach:
        counts = {"workers": workers, "recommenders": recommenders, "learners": learners, "gateways": gateways}
        ports = {"kafka-port": kafka_port, "redis-port": redis_port, "gateway-port": at}
        _up_in_background(settings, {**counts, **ports}, at, gateways)
        return
    # SIGTERM (`botify down`) stops everything as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with running_stack(
            settings.home,
            programs(workers, recommenders, learners, gateways=gateways),
            kafka_port=kafka_port,
            redis_port=redis_port,
            environ={} if at is None else {"BOTIFY_GATEWAY_PORT": str(at)},
            notify=say,
        ) as running:
            say(str(load_policy(running.settings)))
            _say_addresses(running.settings, at, gateways)
            say("Ctrl-C stops everything; the data is kept")
            running.supervisor.watch()
    except KeyboardInterrupt:
        say("stopped; `botify up` starts it again with the same data")


def down(
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete topics and state too, not what was imported.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --delete: do not ask.")] = False,
) -> None:
    """Stop all processes that `botify up` started; the data is kept without --delete."""
    settings = Settings.from_env()
    with progress("stopping"):
        stopped = stop_stack(settings.home)
    say(f"stopped; the data is in {settings.home}" if stopped else f"no stack ran in {settings.home}")
    if delete:
        delete_state(settings.home, yes)


TOPICS_AND_STATE = ("kafka", "kafka.properties", "valkey", "faust", "cache", "logs", STACK_FILE, ENDED_FILE)
"""What is in the data directory of a stack, without what was imported, generated, exported or remembered."""


def delete_state(home: Path, yes: bool) -> None:
    """Delete the topics and the state of a stopped stack; datasets, worlds and other servers' data are kept."""
    found = [home / name for name in TOPICS_AND_STATE if (home / name).exists()]
    if not found:
        say(f"no topics and no state in {home}")
        return
    with take_lock(home):
        record = StackRecord.read(home)
        if left := record and ", ".join(record.survivors()):
            raise StackError(f"{left} of the stack in {home} still run; `botify down` stops them")
        for path in found:
            size = sum(file.lstat().st_size for file in (path, *path.rglob("*")) if not file.is_dir())
            say(f"{size / 1e6:10,.1f} MB  {path}")
        kept = sorted(path.name for path in home.iterdir() if path not in found and path.name != LOCK_FILE)
        say(f"kept: {', '.join(kept) or 'nothing'}")
        if not yes:
            typer.confirm("Delete these topics and this state?", abort=True)
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    say("deleted; `botify up` starts with empty topics")


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show processes, consumer lag and addresses; exit with 1 if a process that should run does not."""
    settings = Settings.from_env()
    if watch:
        with suppress(KeyboardInterrupt), Live(console=console, screen=True) as live:
            while True:  # a reading takes a second
                live.update(status_view(read_status(settings)), refresh=True)
        return
    reading = read_status(settings)
    if as_json:
        print_json(reading)
    else:
        console.print(status_view(reading))
    if reading.problems:
        raise typer.Exit(1)


def _remember(settings: Settings, dataset: str | None, prefix: str | None) -> None:
    """Keep what to serve for this and later commands, unless a stack runs, which would not follow."""
    for variable, value in (("BOTIFY_DATASET", dataset), ("BOTIFY_TOPIC_PREFIX", prefix or dataset)):
        if os.environ.get(variable, value) != value:
            raise SettingsError(f"{variable}={os.environ[variable]} would win over the option; unset it")
    UserIds.of(settings.with_(dataset=dataset))  # refuses one that is not there
    take_lock(settings.home).close()
    remember(settings.home, dataset=dataset, topic_prefix=prefix or dataset)


def _up_in_background(
    settings: Settings, options: Mapping[str, int | None], gateway_port: int | None, gateways: int
) -> None:
    command = [sys.executable, "-c", "from botify.services.cli import main; main()", "up", "--foreground"]
    command += [f"--{name}={value}" for name, value in options.items() if value is not None]
    problems: list[str] = []
    with progress("starting (the first time downloads Kafka)"):
        start_in_background(settings.home, command)
        if gateway_port is not None:
            problems = wait_for_gateway(
                gateway_port, READY_S, running=lambda: StackRecord.read(settings.home) is not None
            )
    say(str(load_policy(Settings.from_env())))
    _say_addresses(Settings.from_env(), gateway_port, gateways)
    for problem in problems:
        say(problem)
    say("`botify status` shows its state, `botify down` stops it")


def _gateway_port(settings: Settings, wanted: int | None) -> int:
    """Choose the gateway's port, and check it before the stack starts: later, only the gateway's log has the error."""
    settings.home.mkdir(parents=True, exist_ok=True)
    port = choose(settings.home, {"gateway": wanted}, {"gateway": GatewayOptions().port})["gateway"]
    if StackRecord.read(settings.home) is None:  # else it has the port, and starting again fails with a better message
        check_free("the gateway", port)
    return port


def _say_addresses(settings: Settings, gateway_port: int | None, gateways: int) -> None:
    if gateway_port is not None:
        dashboard = f"the dashboard is at http://127.0.0.1:{gateway_port}/ui, " if gateways == 1 else ""
        say(f"{dashboard}the REST API at http://127.0.0.1:{gateway_port}")
    say(f"Kafka at {settings.kafka_bootstrap_servers}, Redis at {settings.redis_address}, data in {settings.home}")
    users = f"the users of dataset {settings.dataset}" if settings.dataset else "users with any name or number"
    say(f"topics {settings.topic_prefix}.*, {users}")


EXPERIMENT = "STICKY_ARTIST"


def demo(
    listens: Annotated[int, typer.Option(min=1000, help="Number of listens to simulate.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Random seed; the same seed gives the same listeners.")] = 1,
) -> None:
    """Simulate an A/B experiment of random against sticky_artist, and print the results.

    A running stack is used and left running. Otherwise a stack is started, and stopped at the end.
    """
    settings = Settings.from_env()
    own_stack = not (settings.home / STACK_FILE).exists()
    served = load_policy(settings)
    if not own_stack and EXPERIMENT not in [one.name for one in served.experiments]:
        raise DemoError(f"the stack in {settings.home} serves {served}; stop it with `botify down`")
    run_id = f"demo{int(time.time()):x}"
    try:
        if own_stack:
            _botify(
                "up",
                "--gateways=0",
                "--experiments=course",
                why="start Kafka, Valkey, a Faust worker, a learner and the recommender",
            )
        _botify("sim", f"--listens={listens}", f"--seed={seed}", f"--set=run_id={run_id}", why="simulate listeners")
        _botify("verify", why="compare the state in Redis with a fold of the topic")
        _botify("experiment", "results", EXPERIMENT, f"--run={run_id}", why="compare the recommenders")
        page = settings.home / "report.html"
        _botify("report", f"--out={page}", f"--run={run_id}", why="write all results to one HTML page")
    finally:
        if own_stack:
            _botify("down", why="stop everything; the data is kept", check=False)
    console.print(
        "\nNext: [bold]botify up[/], then [bold]botify sim[/] in one terminal and "
        "[bold]botify status --watch[/] in another (after [bold]. .venv/bin/activate[/])."
    )


def _botify(*arguments: str, why: str, check: bool = True) -> None:
    """Print a `botify` command, and run it as a user would: in its own process."""
    console.print(f"\n[bold cyan]$ botify {' '.join(arguments)}[/]  [dim]# {why}[/]", soft_wrap=True)
    done = subprocess.run([sys.executable, "-m", "botify.services.cli", *arguments], check=False)  # noqa: S603
    if done.returncode and check:
        raise DemoError(f"`botify {' '.join(arguments)}` ended with status {done.returncode}; its message is above")
