"""The commands, as an operator types them, in this process."""

import json
from typing import Any

import typer
from typer.testing import CliRunner, Result

from botify.core.settings import Settings
from botify.services.cli import build_cli

CLI = build_cli()


def botify(settings: Settings, *arguments: str, status: int = 0, cli: typer.Typer = CLI) -> Result:
    """Run a command, and return what it printed; what it raises is raised here."""
    done = CliRunner(env={**settings.to_env(), "COLUMNS": "160"}).invoke(cli, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    return done


def as_json(settings: Settings, *arguments: str, status: int = 0) -> Any:
    return json.loads(botify(settings, *arguments, "--json", status=status).stdout)
