"""Record the figures that pages quote of recommenders' quality.

    python -m botify.bench.record quality [GROUP ...]    # on simulated listeners: all groups, or some
    python -m botify.bench.record evaluation GROUP FILE  # on real logs: what `botify evaluate --json` wrote

Each command of `quality` can also be run by hand, with fewer sessions.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from botify.bench.figures import FigureError, fill_pages, record

LEARNERS = "bench sticky_norepeat,botify --sessions 60000 --skip 40000"
FITTED = "d78bcb2f3c65"  # of `botify world fit` on Last.fm's sequences; it must be there
COMMANDS = {  # group of figures -> arguments of `botify` (`bench`), or of `python -m botify.bench.studies` (the others)
    "quality_recommenders": "bench random,toppop,sticky_norepeat,rerank,botify,scene,oracle --sessions 10000",
    "quality_online_1": "bench --online --sessions 100000 --rate 2000 --seed 1",
    "quality_as_in_course": LEARNERS,
    "quality_tire_soon": f"{LEARNERS} --world bench/worlds/artists-tire-soon.toml",
    "quality_never_tire": f"{LEARNERS} --world bench/worlds/artists-never-tire.toml",
    "quality_no_genres": f"{LEARNERS} --world bench/worlds/no-genres.toml",
    "quality_probit": f"{LEARNERS} --model probit",
    "quality_threshold": f"{LEARNERS} --model threshold",
    "quality_recovering": f"{LEARNERS} --model recovering",
    "quality_fitted": f"{LEARNERS} --world {FITTED}",
    "quality_grade_2022": "grade --recommender botify --edition 2022 --rate 1000",
    "quality_grade_2026": "grade --recommender botify --edition 2026 --rate 1000",
}

app = typer.Typer(help=(__doc__ or "").splitlines()[0], no_args_is_help=True)


def command_of(group: str) -> list[str]:
    if group not in COMMANDS:
        raise FigureError(f"unknown group {group!r}; choose from {', '.join(COMMANDS)}")
    arguments = shlex.split(COMMANDS[group])
    program = "botify.services.cli" if arguments[0] == "bench" else "botify.bench.studies"
    return ["-m", program, *arguments, "--record", group]


@app.command()
def quality(
    groups: Annotated[
        list[str] | None,
        typer.Argument(help=f"{', '.join(COMMANDS)}. Default: all, which takes about two hours on two cores."),
    ] = None,
) -> None:
    """Record how good the recommenders are on simulated listeners; a failure does not stop the other groups."""
    commands = [command_of(group) for group in groups or COMMANDS]
    failed = [
        shlex.join(["python", *command])
        for command in commands
        if subprocess.run([sys.executable, *command], check=False).returncode  # noqa: S603
    ]
    if failed:
        raise FigureError(f"ended with an error: {'; '.join(failed)}")


@app.command("evaluation")
def record_evaluation(group: str, file: Path) -> None:
    """Record the table that `botify evaluate --json` wrote to a file."""
    evaluation = json.loads(file.read_text(encoding="utf-8"))
    record(group, evaluate_command_of(evaluation), values_of(evaluation))
    fill_pages()


def evaluate_command_of(evaluation: Mapping[str, Any]) -> str:
    names = ",".join(row["name"] for row in evaluation["recommenders"])
    settings = evaluation["settings"].items()
    chosen = [f"--set {peer}.{name}={value:g}" for peer, of_peer in settings for name, value in of_peer.items()]
    what = f"botify evaluate {evaluation['dataset']['name']} --protocol {evaluation['protocol']}"
    how = f"--recommenders {names} --baseline {evaluation['baseline']} --seeds {evaluation['seeds']}"
    through = [f"--through {evaluation['through']}"] if evaluation.get("through") else []
    of_run = ("shuffle_sittings", "tune", "new_plays")
    run = [f"--set {one}={evaluation[one]:g}" for one in of_run if evaluation.get(one)]
    return " ".join([what, how, *through, *chosen, *run])


def values_of(evaluation: Mapping[str, Any]) -> dict[str, dict[str, float | str]]:
    """Return one row for each recommender: metrics with standard errors, the difference in recall, and the costs."""
    rows: dict[str, dict[str, float | str]] = {}
    for row in evaluation["recommenders"]:
        values: dict[str, float | str] = {}
        for metric, found in row["metrics"].items():
            values |= {metric: found["mean"], f"{metric}_error": found["error"]}
        difference = row["differences"].get("recall")
        against = "{value:+.4f} [{lower:+.4f}, {upper:+.4f}]".format(**difference) if difference else ""
        star = "*" if row["note"] == "untuned" else ""
        rows[row["name"]] = {**values, **row["figures"], "against": against.replace("-", "−"), "untuned": star}
    return rows


if __name__ == "__main__":
    try:
        app()
    except FigureError as error:
        sys.exit(f"error: {error}")
