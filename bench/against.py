"""Two commits in turn: `python -m botify.bench NAMES --against REV`.

Both run in turn on the same machine, with the same packages, each from its own folder with its own data directory; in
every second round the other commit is first. The other one is a git worktree in a temporary folder, removed at the end.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rich.table import Table

from botify.bench.figures import ROOT, table
from botify.bench.loop import wait_until
from botify.core.errors import BotifyError
from botify.services.stack.record import Watchdog
from botify.services.stack.server import ChildProcess

THIS = "this"
RUNNER = Path(__file__).with_name("one_round.py")
LIMIT_S = 3_600.0  # time that one measurement may take
GRACE_S = 60.0  # time that a measurement has to stop its servers when it is interrupted
DISTRIBUTION = "botify_streams"  # also for commits of another name: entry points of two would be there twice


class AgainstError(BotifyError):
    """The other commit does not exist, or one of the two cannot be measured."""


class Run(NamedTuple):
    """One measurement of one commit: numbers by dotted name."""

    measurement: str
    round: int
    commit: str
    figures: Mapping[str, float]


class Ratio(NamedTuple):
    """Medians of a figure, and its ratio, this commit to the other one, over the rounds."""

    figure: str
    this: float
    other: float
    minimum: float
    median: float
    maximum: float


@contextmanager
def checked_out(rev: str, root: Path = ROOT) -> Iterator[Path]:
    """Yield a temporary folder with the commit in `other`, and remove both after the block, whatever happens in it."""
    place = Path(tempfile.mkdtemp(prefix="botify-bench-")).resolve()
    try:
        with _uninterrupted():
            _git(root, "worktree", "add", "--quiet", "--detach", str(place / "other"), f"{rev}^{{commit}}")
        yield place
    finally:
        with _uninterrupted():
            if (place / "other").exists():
                _git(root, "worktree", "remove", "--force", "--force", str(place / "other"))
            shutil.rmtree(place, ignore_errors=True)


def run_rounds(
    names: Sequence[str], rev: str, rounds: int, place: Path, root: Path = ROOT, notify: Callable[[str], None] = print
) -> Iterator[Run]:
    """Measure both commits in alternating order, and yield every run; `AgainstError` has the end of a failed log."""
    roots = {THIS: root, rev: place / "other"}
    homes = {commit: place / f"home-{at}" for at, commit in enumerate(roots)}
    for commit, home in homes.items():
        home.mkdir()
        _write_entry_points(roots[commit], home)
        notify(f"{commit}: compiling")
        _run(commit, ["-m", "botify.streams.compiled"], roots[commit], home)
    for number in range(rounds):
        for name in names:
            for commit in list(roots)[:: -1 if number % 2 else 1]:
                notify(f"round {number + 1} of {rounds}: {name}, {commit}")
                out = homes[commit] / "figures.json"
                out.unlink(missing_ok=True)
                _run(f"{name} of {commit}", [str(RUNNER), str(out), name], roots[commit], homes[commit])
                if out.exists():  # else the other commit lacks this measurement
                    (measured,) = json.loads(out.read_text(encoding="utf-8"))["runs"]
                    yield Run(name, number + 1, commit, measured["figures"])


def flat(figures: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return nested figures by dotted names: the numbers, without words and what was not measured."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            found[prefix + name] = float(value)
    return found


def ratios_of(runs: Sequence[Run]) -> list[Ratio]:
    """Return the figures that both commits have in at least one round; a ratio is of two runs of the same round."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    others = {(run.measurement, run.round): run.figures for run in runs if run.commit != THIS}
    for run in runs:
        other = others.get((run.measurement, run.round), {})
        if run.commit == THIS:
            for name in run.figures.keys() & other.keys():
                pairs.setdefault(name, []).append((run.figures[name], other[name]))
    found = []
    for name in dict.fromkeys(name for run in runs for name in run.figures if name in pairs):
        ratios = [this / other if other else float("nan") for this, other in pairs[name]]
        this, other = (median(of_commit) for of_commit in zip(*pairs[name], strict=True))
        found.append(Ratio(name, this, other, min(ratios), median(ratios), max(ratios)))
    return found


def table_of(ratios: Sequence[Ratio], rev: str, title: str) -> Table:
    rows = []
    for name, *values in ratios:
        rows.append((name, *(f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}" for value in values)))
    return table(title, ("figure", THIS, rev, "ratio: min", "median", "max"), rows, words=("figure",))


def _write_entry_points(root: Path, home: Path) -> None:
    """Describe the checkout as an installed package, which hides that of the environment: it has the same name."""
    about = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder = home / f"{DISTRIBUTION}-{about['version']}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {about['name']}\nVersion: {about['version']}\n", encoding="utf-8")
    groups = {"console_scripts": about.get("scripts", {}), **about.get("entry-points", {})}
    with (folder / "entry_points.txt").open("w", encoding="utf-8") as file:
        for group, points in groups.items():
            file.write(f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()) + "\n")


def _run(what: str, arguments: Sequence[str], root: Path, home: Path) -> None:
    environ = {
        "PYTHONPATH": os.pathsep.join([str(root), str(home)]),
        "PYTHONSAFEPATH": "1",  # or the programs of the other commit would be imported from the working directory
        "TMPDIR": str(home),
        "BOTIFY_HOME": str(home / "botify"),
    }
    with closing(Watchdog()) as watchdog:
        log = home / "bench.log"
        child = ChildProcess(what, [sys.executable, *arguments], log_path=log, watchdog=watchdog, env=environ)
        try:
            child.spawn()
            wait_until(lambda: not child.running, LIMIT_S, f"{what} has not ended (log: {log})")
        finally:
            with _uninterrupted():
                child.stop(GRACE_S)
    if child.exit_status:
        raise AgainstError(child.death_notice())


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ignore a second Ctrl-C, so that what the first one stops is removed."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _git(root: Path, *arguments: str) -> None:
    # no hooks: the repository's own may run programs
    command = ["git", "-c", "core.hooksPath=/dev/null", *arguments]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise AgainstError(f"git is not there to check out another commit: {error}") from error
    if done.returncode:
        raise AgainstError(f"git {arguments[0]} {arguments[1]}: {done.stderr.strip()}")
