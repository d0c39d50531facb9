"""Record the figures that pages quote, in one sitting: `make figures`.

    python -m botify.bench.record [GROUP ...]    # what is not recorded, or older than the code it measures; or these
    python -m botify.bench.record --list         # say which these are, and run nothing

Each command can be run by hand after `make compile`. Those of `evaluate` need their datasets (docs/evaluation.md),
`quality_fitted` the world of `botify world fit lastfm-hetrec`.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from botify.bench.cpu import load_average
from botify.bench.figures import ROOT, FigureError, fill_pages, git, read_figures, record
from botify.core.cli import say
from botify.core.errors import BotifyError
from botify.evaluation.rankers.registry import check_name

STREAMS = ("core", "schemas", "streams", "services/stack/kafka.py", "services/stack/embedded.py")  # with their servers
WORKER = (*STREAMS, ":!streams/learner")  # git's pathspecs: all but the learner
LOOP = (*STREAMS, "services/recommender", "services/experiments", "services/lists", "sim")
STACK = (*STREAMS, "services", "sim")
WITHOUT_KAFKA = (":!sim/loop/__init__.py", ":!services/recommender/service.py")  # the two that talk to brokers
OFFLINE = ("streams/learner", "services/recommender", "sim", "bench/simulated.py", *WITHOUT_KAFKA)
LOGS = ("streams/learner/models", "evaluation")
LASTFM = "lastfm-hetrec --protocol leave-last-out"
PEERS = "item_knn,ease,vsknn,als,bpr"
TUNED = "--set tune=12"
QUIET_LOAD, WAIT_S, ASK_S = 0.5, 900, 15  # load average above which nothing is timed, and how long to wait for less


class Recipe(NamedTuple):
    """Arguments of a command, the groups of figures it records, and the paths whose change makes them old."""

    command: str
    groups: tuple[str, ...]
    paths: tuple[str, ...]
    timed: bool = False  # on a quiet machine only


def _bench(name: str, groups: tuple[str, ...], paths: tuple[str, ...]) -> Recipe:
    return Recipe(f"-m botify.bench {name} --record", groups, paths, timed=True)


def _quality(group: str, arguments: str, paths: tuple[str, ...] = OFFLINE) -> Recipe:
    program = "botify.services.cli" if arguments.startswith("bench") else "botify.bench.studies"
    return Recipe(f"-m {program} {arguments} --record {group}", (group,), paths)


def _learners(group: str, world: str = "") -> Recipe:
    return _quality(group, f"bench sticky_norepeat,botify --sessions 60000 --skip 40000 {world}".strip())


def _evaluate(group: str, arguments: str) -> Recipe:
    return Recipe(f"-m botify.services.cli evaluate {arguments}", (group,), LOGS)


RECIPES = (
    _bench("retrieval", ("retrieval",), ("services/recommender", "streams/learner/models")),
    _bench("loop", ("closed_loop", "latency"), LOOP),
    _bench("peers", ("peers",), (*WORKER, "bench/peers.py", "bench/KafkaStreamsPeer.java")),
    _bench("replay", ("replay",), WORKER),
    _bench("verify", ("verify",), WORKER),
    _bench("learned_loop", ("learned_loop",), LOOP),
    _bench("gateway", ("gateway", "gateway_v1"), STACK),
    _bench("large_catalogue", ("large_catalogue",), STACK),
    _bench("scale", ("scale", "scale_runs"), STACK),
    _quality("quality_recommenders", "bench random,toppop,sticky_norepeat,rerank,botify,scene,oracle --sessions 10000"),
    _quality("quality_online_1", "bench --online --sessions 100000 --rate 1000 --seed 1", LOOP)._replace(
        groups=("quality_online_1", "quality_online_1_run"), timed=True
    ),
    _quality("quality_grade_2022", "grade --recommender botify --edition 2022 --rate 1000", LOOP)._replace(timed=True),
    _quality("quality_grade_2026", "grade --recommender botify --edition 2026 --rate 1000", LOOP)._replace(timed=True),
    _learners("quality_as_in_course"),
    _learners("quality_tire_soon", "--world bench/worlds/artists-tire-soon.toml"),
    _learners("quality_never_tire", "--world bench/worlds/artists-never-tire.toml"),
    _learners("quality_no_genres", "--world bench/worlds/no-genres.toml"),
    _learners("quality_probit", "--model probit"),
    _learners("quality_threshold", "--model threshold"),
    _learners("quality_recovering", "--model recovering"),
    _learners("quality_fitted", "--world d78bcb2f3c65"),  # the name of `botify world fit lastfm-hetrec`
    _quality(
        "streaming_card", "card --model streaming --picture docs/skips.png", ("sim", "bench/world_card", *WITHOUT_KAFKA)
    ),
    _evaluate("evaluate_lastfm", f"{LASTFM} --recommenders botify,rerank,toppop,{PEERS} --baseline item_knn {TUNED}"),
    _evaluate("evaluate_lastfm_served", f"{LASTFM} --recommenders botify --through snapshots"),
    _evaluate("evaluate_ml100k", f"ml-100k --recommenders botify,toppop,{PEERS} --baseline ease --seeds 1 {TUNED}"),
    _evaluate(
        "evaluate_ml100k_shuffled",
        f"ml-100k --recommenders botify,item_knn,ease --baseline ease --seeds 1 {TUNED} --set shuffle_sittings=30",
    ),
    _evaluate("evaluate_shop", f"yoochoose --recommenders botify,toppop,{PEERS} --baseline vsknn --seeds 1 {TUNED}"),
    _evaluate(
        "evaluate_listens",
        f"lastfm-sessions --repeats --recommenders botify,toppop,personal,vsknn --baseline personal --seeds 1 {TUNED}",
    ),
    _evaluate("evaluate_card", "lastfm-hetrec,ml-100k,lastfm-sessions,yoochoose,completejourney --card")._replace(
        paths=("streams/learner/models", "evaluation/card.py", "evaluation/rankers", "sim", *WITHOUT_KAFKA)
    ),
)


def outdated(recipe: Recipe, figures: Mapping[str, Any]) -> str | None:
    """Return why the figures of a recipe are to be recorded again; None if they are as new as what they measure."""
    for group in recipe.groups:
        commit = figures.get(group, {}).get("commit")
        if commit is None:
            return f"{group} is not recorded"
        if commit.endswith("-dirty"):
            return f"{group} was recorded with changes that are in no commit"
        changed = git("diff", "--name-only", commit, "--", *recipe.paths, root=ROOT)
        if changed is None:
            return f"{group} was recorded at {commit}, which is not in this repository"
        if count := len(changed.splitlines()):
            return f"{count} files that it measures changed since {commit}, which gave {group}"
    return None


def run(recipe: Recipe) -> bool:
    """Run a recipe, on a quiet machine if it is timed, and return whether its figures are recorded."""
    if recipe.timed:
        wait_for_quiet()
    evaluates = " evaluate " in recipe.command
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures.json")
        command = [sys.executable, *shlex.split(recipe.command), *(["--json", str(file)] if evaluates else [])]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:  # noqa: S603
            return False
        if evaluates:
            content = json.loads(file.read_text(encoding="utf-8"))
            values = content.get("card") or values_of(content)
            record(recipe.groups[0], recipe.command.replace("-m botify.services.cli", "botify"), values)
            fill_pages()
    return True


def wait_for_quiet() -> None:
    """Wait until the machine is quiet; `FigureError` if it stays busy."""
    deadline = time.monotonic() + WAIT_S
    while (load := load_average()) > QUIET_LOAD:
        if time.monotonic() > deadline:
            raise FigureError(f"the load average is {load} for {WAIT_S / 60:.0f} min; end other work, and start again")
        time.sleep(ASK_S)


def main(
    groups: Annotated[
        list[str] | None, typer.Argument(help="Groups of docs/figures.json; default: the old ones.")
    ] = None,
    *,
    only_list: Annotated[bool, typer.Option("--list", help="Say what would be recorded, and why.")] = False,
) -> None:
    """Record figures; a command that fails does not stop the others, and what is recorded stays if this is stopped."""
    if unknown := set(groups or ()) - {group for recipe in RECIPES for group in recipe.groups}:
        raise FigureError(f"no command records {', '.join(sorted(unknown))}; see RECIPES in bench/record.py")
    figures = read_figures()
    why = {recipe: "asked for" for recipe in RECIPES if set(recipe.groups) & set(groups or ())} or {
        recipe: reason for recipe in RECIPES if (reason := outdated(recipe, figures))
    }
    if not only_list:
        for names in re.findall(r"--recommenders (\S+)", "\n".join(recipe.command for recipe in why)):
            for name in names.split(","):
                check_name(name)  # an hour later it would be too late for an error about a missing package
    failed = []
    for recipe, reason in why.items():
        say(f"python {recipe.command}\n  {reason}")
        if not only_list and not run(recipe):
            failed.append(f"python {recipe.command}")
    if failed:
        raise FigureError("ended with an error:\n" + "\n".join(failed))


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
        typer.run(main)
    except BotifyError as error:
        sys.exit(f"error: {error}")
