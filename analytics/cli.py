"""What analytics adds to the command line."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from analytics.experiment import CONTROL, experiment_results
from analytics.render import render_table
from analytics.topic import read_listens
from schemas.settings import Settings

experiment = typer.Typer(help="Experiments: what came out.", no_args_is_help=True)


@experiment.callback()
def _experiment() -> None:
    """Keep `results` a sub-command although it is the only one."""


@experiment.command()
def results(
    name: Annotated[str, typer.Argument(help="The experiment's name.")],
    control: Annotated[str, typer.Option(help="Treatment to compare with.")] = CONTROL,
    run: Annotated[str | None, typer.Option(help="Only this run of the simulator.")] = None,
) -> None:
    """Print an experiment's table from the listens that Kafka holds."""
    console = Console()
    with console.status("Reading listens"):
        listens = read_listens(Settings.from_env(), run_id=run)
    console.print(render_table(experiment_results(listens, name, control)))
