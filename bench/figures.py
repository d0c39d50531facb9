"""Measured figures: `docs/figures.json` holds them, README and docs quote them, commands print them as tables.

    python -m botify.bench.figures    # makes the pages that quote figures

A page that quotes figures is made of its template in `bench/pages`, where `{{worker.listens_per_s:,.0f}}` is a figure.
A line `{{rows of recommenders}}| {{*}} | {{recommenders.*.time:.2f}} |` becomes one row for each name in that group.
Each such page ends with the age of its figures.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from botify.bench.sizing import sizes_of
from botify.core.errors import BotifyError

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs/figures.json"
TEMPLATES = ROOT / "bench/pages"

# Group to the record of a measurement: `command`, `machine`, `python`, `date`, `commit`, `values`, and for those of
# `python -m botify.bench` `load`, the machine's load average `before` and `after`. The values are numbers by name, or
# rows of a table by name, each with numbers by name.
Figures = Mapping[str, Any]
Record = Annotated[  # option of the commands whose figures are recorded
    str | None,
    typer.Option("--record", help="Write the figures to docs/figures.json under this name, and into the pages."),
]
FIELD = re.compile(r"\{\{([^{}\n]+)\}\}")
ROWS = re.compile(r"^\{\{rows of (?P<group>\w+)\}\}(?P<row>.*)$", re.MULTILINE)


class FigureError(BotifyError):
    """A figure is quoted that was not recorded, or there is no file to record it in."""


class _Quoted(Formatter):
    """Formats `{group.name:format}` from the figures."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self.groups = set[str]()

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        group, *path = field_name.split(".")
        self.groups.add(group)
        entry = self._figures.get(group, {})
        found: Any = {**entry, **entry.get("values", {})}
        for part in path:
            if not isinstance(found, Mapping) or part not in found:
                raise FigureError(f"{field_name} is quoted but not in {FIGURES.name}; measure it again or remove it")
            found = found[part]
        return found, group

    def format_field(self, value: Any, format_spec: str) -> str:
        """Format a number with a true minus sign, none for 0, and nothing where nothing could be measured."""
        shown = "" if value is None else format(value, format_spec)
        if not isinstance(value, int | float):
            return shown
        return shown.replace("-", "−" if set(shown) & set("123456789") else "")


def fill(template: str, figures: Figures) -> str:
    """Return the page of a template, with the figures as recorded; `FigureError` if one is not."""
    quoted = _Quoted(figures)

    def rows(match: re.Match[str]) -> str:
        if match["group"] not in figures:
            raise FigureError(f"{match['group']} is quoted but not in {FIGURES.name}")
        names = figures[match["group"]]["values"]
        return "\n".join(match["row"].replace("{{*}}", name).replace(".*.", f".{name}.") for name in names)

    page = FIELD.sub(lambda field: quoted.format(f"{{{field[1]}}}"), ROWS.sub(rows, template))
    return page + _ages(figures, quoted.groups)


def _ages(figures: Figures, groups: Iterable[str]) -> str:
    of_stamps: dict[str, list[str]] = {}
    for group in sorted(groups):
        if "commit" in figures[group]:  # sizes are computed from others
            of_stamps.setdefault("{date}, {commit}".format(**figures[group]), []).append(group)
    ages = "; ".join(f"{', '.join(names)} ({stamp})" for stamp, names in sorted(of_stamps.items()))
    return "\n" + textwrap.fill(f"Figures recorded: {ages}.", 120, break_on_hyphens=False) + "\n" if ages else ""


def pages(root: Path = ROOT) -> Iterator[tuple[Path, Path]]:
    """Yield the templates, and the page that is made of each."""
    folder = root / TEMPLATES.relative_to(ROOT)
    for template in sorted(folder.rglob("*.md")):
        yield template, root / template.relative_to(folder)


def read_figures(path: Path = FIGURES) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return recorded


def quotable(figures: Figures) -> dict[str, Any]:
    """Return the figures that pages may quote: the recorded ones, and the sizes that are computed from them."""
    return {**figures, **(sizes_of(figures) if {"scale", "learned_loop"} <= set(figures) else {})}


def record(
    group: str, command: str, values: Mapping[str, Any], path: Path = FIGURES, load: Mapping[str, float] | None = None
) -> None:
    """Replace a group of figures, and say which command, machine and commit gave them."""
    if not path.exists():
        raise FigureError(f"{path} does not exist: figures are recorded in a checkout of the repository only")
    about = {"command": command, **provenance(), **({"load": load} if load else {})}
    entry = {**about, "values": _rounded(values)}
    groups = {**read_figures(path), group: entry}
    text = json.dumps(dict(sorted(groups.items())), indent=1, ensure_ascii=False)
    # numbers that belong together on one line
    text = re.sub(r"\{[^{}]*\}", lambda innermost: re.sub(r"\s+", " ", innermost[0]), text)
    path.write_text(text + "\n", encoding="utf-8")


def record_command(groups: Mapping[str, Mapping[str, Any]]) -> None:
    module = getattr(sys.modules["__main__"].__spec__, "name", "botify.services.cli").removesuffix(".__main__")
    program = "botify" if module == "botify.services.cli" else f"python -m {module}"
    for group, values in groups.items():
        record(group, shlex.join([program, *sys.argv[1:]]), values)
    fill_pages()


def provenance() -> dict[str, str]:
    return {
        "machine": f"{os.cpu_count()} cores, {_cpu()}",
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": _commit(),
    }


def _commit() -> str:
    """Return the commit of the tree, `-dirty` if more was changed since than figures and the pages that quote them."""
    made = [page.relative_to(ROOT).as_posix() for _, page in pages()]
    others = [".", *(f":!{path}" for path in (FIGURES.relative_to(ROOT).as_posix(), *made))]
    found = git("rev-parse", "--short=8", "HEAD")
    if found is None:
        return "unknown"
    return f"{found}-dirty" if git("status", "--porcelain", "--", *others) else found


def git(*arguments: str, root: Path = ROOT) -> str | None:
    """Return what git prints; None if it fails, or there is none, as in the image."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603, S607
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(one) for name, one in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def fill_pages(root: Path = ROOT) -> bool:
    """Make the pages of their templates, and print the names of those that changed.

    Returns False, and says why, if a page quotes a figure that is not recorded yet; that page stays as it is.
    """
    figures, complete = quotable(read_figures(root / FIGURES.relative_to(ROOT))), True
    for template, page in pages(root):
        try:
            made = fill(template.read_text(encoding="utf-8"), figures)
        except FigureError as error:
            sys.stderr.write(f"{page.relative_to(root)} is not made: {error}\n")
            complete = False
            continue
        if made != page.read_text(encoding="utf-8"):
            page.write_text(made, encoding="utf-8")
            sys.stdout.write(f"{page.relative_to(root)}\n")
    return complete


def table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[str] = ("",), caption: str = ""
) -> Table:
    """Return a table for the terminal: columns of words are aligned to the left, those of numbers to the right."""
    made = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="left" if heading in words else "right", no_wrap=heading not in words)
    for row in rows:
        made.add_row(*row)
    return made


if __name__ == "__main__":
    sys.exit(not fill_pages())
