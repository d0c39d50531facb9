"""The `botify` command, made of the entry points `botify.commands` of each package."""

from __future__ import annotations

import os
import sys
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
EXIT_STATUSES = (
    "Exit status: 0 done; 1 an error, which one line names, or a check that found a problem; 2 wrong options; "
    "130 interrupted by Ctrl-C."
)


def build_cli(only: str | None = None) -> typer.Typer:
    """Return the command line: an entry point that is a Typer app becomes a group, a function becomes a command.

    If `only` is a command, no other is imported: importing all takes longer than most of them run.
    """
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
    for entry in [found for found in entries if found.name == only] or entries:
        command = entry.load()
        if isinstance(command, typer.Typer):
            cli.add_typer(command, name=entry.name)
        else:
            cli.command(entry.name)(command)
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
    """Run a command; what its user or a server can cause is one message and exit status 1, no traceback."""
    try:
        cli = build_cli(next(iter(sys.argv[1:]), None))
        tune_gc()
        cli(prog_name="botify")
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
