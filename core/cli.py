"""What the commands of all packages share: how they print, and options."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status

console = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Data = Annotated[Path | None, typer.Option(help="Folder that `botify export` wrote; default: read the topic.")]
Run = Annotated[str | None, typer.Option(help="Only listens of this simulator run.")]
Alpha = Annotated[float, typer.Option(min=1e-6, max=0.5, help="Significance level: one minus the confidence level.")]


def say(message: str, to: Console = console) -> None:
    """Print a line of text as it is."""
    to.print(message, highlight=False, markup=False, soft_wrap=True)


def spinner(doing: str) -> Status:
    """Return what shows that something takes time, on standard error: the output is the result's, printed after it."""
    return Console(stderr=True).status(doing)


def print_json(value: object) -> None:
    """Print an object for programs: data classes as objects, numbers that are not finite as null.

    Examples
    --------
    >>> print_json({"mean": float("nan"), "users": 2})
    {
      "mean": null,
      "users": 2
    }
    """
    text = json.dumps(value, default=_plain)
    sys.stdout.write(json.dumps(json.loads(text, parse_constant=lambda _: None), indent=2, ensure_ascii=False) + "\n")


def _plain(value: Any) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)
