"""Record what `botify evaluate --json` wrote.

    python -m botify.bench.evaluation GROUP FILE        # the whole table
    python -m botify.bench.evaluation --again NAME # one recommender of each table again, and its baseline

The second replaces that recommender's rows. It needs the datasets, and the packages of the baselines.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from botify.bench.figures import FigureError, fill_pages, read_figures, record

EVALUATE = "botify evaluate "


def command_of(evaluation: Mapping[str, Any]) -> str:
    """Return the command that gave the figures."""
    names = ",".join(row["name"] for row in evaluation["recommenders"])
    settings = evaluation["settings"].items()
    chosen = [f"--set {peer}.{name}={value:g}" for peer, of_peer in settings for name, value in of_peer.items()]
    return " ".join(
        [
            f"{EVALUATE}{evaluation['dataset']['name']} --protocol {evaluation['protocol']}",
            f"--recommenders {names} --baseline {evaluation['baseline']} --seeds {evaluation['seeds']}",
            *(f"--{option.replace('_', '-')}" for option in ("through_kafka", "served") if evaluation.get(option)),
            *chosen,
        ]
    )


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


def arguments_of(command: str, name: str) -> list[str]:
    """Return the arguments of `botify` that run one recommender of a recorded command, and its baseline.

    Raises
    ------
    FigureError
        It is the baseline, so that all differences would change.

    Examples
    --------
    >>> table = "botify evaluate ml --recommenders mine,als,ease --baseline ease --seeds 5 --set als.factors=9"
    >>> " ".join(arguments_of(table, "mine"))
    'evaluate ml --recommenders mine,ease --baseline ease --seeds 5'
    """
    words = shlex.split(command)[1:]
    baseline = words[words.index("--baseline") + 1]
    if name == baseline:
        raise FigureError(f"{name} is the baseline of `{command}`; run the whole table again")
    words[words.index("--recommenders") + 1] = f"{name},{baseline}"
    return list(_of_these(words, (name, baseline)))


def _of_these(words: list[str], names: tuple[str, ...]) -> Iterator[str]:
    """Yield the words without the settings of other recommenders."""
    following = iter(words)
    for word in following:
        if word != "--set":
            yield word
        elif (setting := next(following)).partition(".")[0] in names:
            yield from (word, setting)


def run_again(name: str) -> None:
    """Run a recommender of every recorded table again, and replace its rows."""
    for group, recorded in read_figures().items():
        if recorded["command"].startswith(EVALUATE) and name in recorded["values"]:
            with tempfile.TemporaryDirectory() as place:
                file = Path(place) / "figures.json"
                arguments = [*arguments_of(recorded["command"], name), "--json", str(file)]
                subprocess.run([sys.executable, "-m", "botify.services.cli", *arguments], check=True)  # noqa: S603
                row = values_of(json.loads(file.read_text(encoding="utf-8")))[name]
            record(group, recorded["command"], {**recorded["values"], name: row})


def main(group: str, file: str) -> None:
    """Record a group of figures, and fill them into the pages that quote them."""
    if group == "--again":
        run_again(file)
    else:
        evaluation = json.loads(Path(file).read_text(encoding="utf-8"))
        record(group, command_of(evaluation), values_of(evaluation))
    fill_pages()


if __name__ == "__main__":
    main(*sys.argv[1:])
