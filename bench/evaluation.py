"""Record what `botify evaluate --json` wrote: `python -m bench.evaluation GROUP FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.figures import fill_pages, record


def command_of(evaluation: Mapping[str, Any]) -> str:
    """Return the command that gave the figures."""
    names = ",".join(row["name"] for row in evaluation["recommenders"])
    settings = evaluation["settings"].items()
    chosen = [f"--set {peer}.{name}={value:g}" for peer, of_peer in settings for name, value in of_peer.items()]
    return " ".join(
        [
            f"botify evaluate {evaluation['dataset']['name']} --protocol {evaluation['protocol']}",
            f"--recommenders {names} --baseline {evaluation['baseline']} --seeds {evaluation['seeds']}",
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
        rows[row["name"]] = {**values, **row["figures"], "against": against.replace("-", "−")}
    return rows


def main(group: str, file: str) -> None:
    """Record a group of figures, and fill them into the pages that quote them."""
    evaluation = json.loads(Path(file).read_text(encoding="utf-8"))
    record(group, command_of(evaluation), values_of(evaluation))
    fill_pages()


if __name__ == "__main__":
    main(*sys.argv[1:])
