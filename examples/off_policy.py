"""Off-policy evaluation: what another policy would have earned, from an exported log of one policy.

The policy to be judged draws evenly from the tracks that half of the listeners heard longest. It is judged on the
decisions that were logged for the other half, each with the probability with which it was taken: no track is judged by
the listens that put it into the list.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from analytics import AnalyticsError
from analytics.exported import open_listens
from analytics.offline.data import logged_decisions, probability
from analytics.offline.off_policy import Decisions, PolicyValue, earned, ips, snips

SIZE = 20
"""Tracks that the policy draws from."""


def best_tracks(decisions: pd.DataFrame, size: int) -> list[int]:
    """Return the tracks with the greatest mean reward; each has five decisions of average reward added to its own."""
    of_track = decisions.groupby("track")["reward"].agg(["sum", "count"])
    quality = (of_track["sum"] + 5 * decisions["reward"].mean()) / (of_track["count"] + 5)
    return [int(track) for track in quality.nlargest(size).index]


def evaluate(folder: Path, size: int = SIZE) -> dict[str, PolicyValue]:
    """Estimate the mean fraction heard, of the logging policy and of the other one by two estimators.

    Parameters
    ----------
    folder : Path
        An export of the listens topic, with recommendations that logged their propensity.
    size : int
        How many tracks the other policy draws from.

    Raises
    ------
    AnalyticsError
        It is no such export, or the policy takes none of the logged decisions.
    """
    with open_listens(folder) as exported:
        decisions = logged_decisions(exported.frame())
    learning = decisions["user"] % 2 == 0
    if not learning.any() or learning.all():
        raise AnalyticsError(f"{folder} has no logged decisions of two listeners; play longer, and export again")
    judged = decisions[~learning]
    lists = np.tile(best_tracks(decisions[learning], size), (len(judged), 1))
    log = Decisions(
        judged["reward"].to_numpy(np.float64),
        judged["propensity"].to_numpy(np.float64),
        probability(lists, judged["track"], otherwise=0.0),
        judged["user"].to_numpy(np.int64),
    )
    return {"logged": earned(judged), "IPS": ips(log), "SNIPS": snips(log)}


def main() -> None:
    """Print the values for the export that the argument names."""
    if len(sys.argv) != 2:
        sys.exit("say which export: python -m examples.off_policy FOLDER (made by botify export --out FOLDER)")
    for name, value in evaluate(Path(sys.argv[1])).items():
        print(
            f"{name:7} {value.value:.3f}  ({value.lower:.3f} … {value.upper:.3f})  "
            f"{value.effective_decisions:,.0f} decisions count"
        )


if __name__ == "__main__":
    main()
