"""The `botify` command. Each package brings its commands through the entry points `botify.commands`."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import typer
from rich.console import Console
from rich.markup import escape

from schemas.errors import BotifyError

GROUP = "botify.commands"


def build_cli(only: str | None = None) -> typer.Typer:
    """Return the command with everything that is installed under it: a Typer app is a group, a function a command.

    Parameters
    ----------
    only : str, optional
        Import no other command than this one, if it exists: to import all takes longer than most of them run.
    """
    cli = typer.Typer(
        name="botify",
        help="A music service's recommendation pipeline on Apache Kafka, with the listeners who judge it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    cli.callback()(lambda: None)  # or a single command would be called without its name
    entries = sorted(entry_points(group=GROUP), key=lambda found: found.name)
    for entry in [found for found in entries if found.name == only] or entries:
        command = entry.load()
        if isinstance(command, typer.Typer):
            cli.add_typer(command, name=entry.name)
        else:
            cli.command(entry.name)(command)
    return cli


def main() -> None:
    """Run a command; an error that was foreseen is one message and exit status 1."""
    try:
        build_cli(next(iter(sys.argv[1:]), None))()
    except BotifyError as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
