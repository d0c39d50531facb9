"""The `botify` command, made of the entry points `botify.commands` of each package: `group.command`, or `command`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from botify.core.cli import say
from botify.core.errors import BotifyError
from botify.core.process import tune_gc
from botify.core.settings import find_home

GROUP = "botify.commands"
GROUPS = {
    "data": "Import real logs as datasets, list and publish them; export topics.",
    "topics": "Create and list the Kafka topics, and give them more partitions.",
    "replay": "Rebuild state and models from the topics next to the live ones, swap and save them.",
    "dlq": "Inspect and resolve dead letters: messages that were rejected or excluded.",
    "experiment": "Plan A/B experiments, analyse and decide them.",
    "models": "The recommenders, and the lists that some of them serve.",
    "world": "Make the world of a simulation: its tracks and listeners.",
}
FORMER = {
    "bench drift": "botify bench --model drifting",
    "bench online": "botify bench --online",
    "bench recommenders": "botify bench",
    "course": "python -m botify.bench.studies",
    "data sample": "botify data import csv FILE --sample",
    "data show": "botify data list NAME",
    "dlq show": "botify dlq list ID",
    "experiment decide": "botify experiment results NAME --decide",
    "experiment interaction": "botify experiment results NAME OTHER",
    "experiment list": "botify experiment results",
    "experiment show": "botify experiment results",
    "export": "botify data export",
    "import-log": "python -m botify.bench.studies import-log",
    "inspect popular": "botify inspect",
    "inspect user": "botify inspect USER",
    "lists": "botify models publish",
    "recommenders": "botify models list",
    "replay gc": "botify replay status --gc",
    "replay models": "botify verify --models",
    "replay plan": "botify replay run --dry-run",
    "replay repartition": "botify topics repartition",
    "replay rollback": "botify replay swap --back",
    "reset": "botify down --delete",
    "sim run": "botify sim",
    "snapshot load": "botify replay load",
    "snapshot save": "botify replay save",
    "tenant add": "botify topics create --tenant NAME",
    "tenant list": "botify topics create --tenants",
    "topics list": "botify topics create",
    "world card": "python -m botify.bench.studies card",
    "world generate": "botify world make",
    "world import": "botify world make",
    "world list": "botify world make",
    "world publish": "botify world make --publish",
}
"""Commands of earlier versions, and what does the same now."""
EXIT_STATUSES = (
    "Exit status: 0 done; 1 an error, which one line names, or a check that found a problem; 2 wrong options; "
    "130 interrupted by Ctrl-C."
)


def build_cli(*words: str) -> typer.Typer:
    """Return the command line; if the words begin with a command or a group, no other is imported: all take longer."""
    cli = typer.Typer(
        name="botify",
        help="Run and inspect a music recommendation pipeline on Apache Kafka, with simulated listeners.",
        epilog=EXIT_STATUSES,
        context_settings={"help_option_names": ["-h", "--help"]},
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    cli.callback()(_botify)
    entries = sorted(entry_points(group=GROUP), key=lambda found: found.name)
    asked = [found for found in entries if found.name in (".".join(words[:2]), *words[:1])]
    of_group = [found for found in entries if found.name.partition(".")[0] in words[:1]]
    groups: dict[str, typer.Typer] = {}
    for entry in asked or of_group or entries:
        group, _, command = entry.name.rpartition(".")
        if group and group not in groups:
            groups[group] = typer.Typer(help=GROUPS[group], no_args_is_help=True)
            groups[group].callback()(lambda: None)  # keeps the name of a single command
            cli.add_typer(groups[group], name=group)
        (groups[group] if group else cli).command(command)(entry.load())
    return cli


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"botify {version('botify-streams')}")
        raise typer.Exit


def _botify(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Say which data directory is used where the working directory's own is not."""
    home = find_home(os.environ)
    if not os.environ.get("BOTIFY_HOME") and home.parent != Path.cwd():
        say(f"using {home}", Console(stderr=True))


def main() -> None:
    """Run a command."""
    with report_errors():
        _refuse_former(sys.argv[1:])
        cli = build_cli(*sys.argv[1:3])
        tune_gc()
        cli(prog_name="botify")


@contextmanager
def report_errors() -> Iterator[None]:
    """Give what the user or a server can cause as one message and exit status 1, without a traceback."""
    try:
        yield
    except BotifyError as error:
        _fail(str(error))
    except OSError as error:
        _fail(_file_problem(error))
    except Exception as error:
        if (message := _server_problem(error)) is None:
            raise
        _fail(message)
    except KeyboardInterrupt:
        sys.exit(130)


def _refuse_former(words: Sequence[str]) -> None:
    for name in (" ".join(words[:2]), " ".join(words[:1])):
        if name in FORMER:
            raise BotifyError(f"`botify {name}` is `{FORMER[name]}` now")


def _fail(message: str) -> None:
    Console(stderr=True).print(f"[red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(1)


def _file_problem(error: OSError) -> str:
    where = " -> ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
    reason = error.strerror or str(error)
    return f"{where}: {reason}" if where else reason


def _server_problem(error: Exception) -> str | None:
    """Return the message for an error of Kafka's or Redis's client; None for any other error."""
    # imported here, because they take longer to import than most commands run
    from confluent_kafka import KafkaException
    from redis.exceptions import RedisClusterException, RedisError

    from botify.streams.store.connect import refusal_of

    if isinstance(error, KafkaException):
        return f"Kafka: {error.args[0].str()}; `botify status` shows whether it runs"
    if isinstance(error, RedisError | RedisClusterException):
        return refusal_of(error) or f"Redis: {error}; `botify status` shows whether it runs"
    return None
