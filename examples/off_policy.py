"""Off-policy evaluation: the value of another policy, estimated from an exported log of one policy.

The other policy draws evenly from the tracks that half of the listeners heard longest. It is evaluated on the logged
decisions of the other half, each with its propensity: no track is evaluated on the listens that put it into the list.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from botify.analytics import AnalyticsError
from botify.analytics.exported import open_listens
from botify.analytics.offline.off_policy import (
    Decisions,
    PolicyValue,
    earned,
    ips,
    logged_decisions,
    probability,
    snips,
)

SIZE = 20
"""Number of tracks that the policy draws from."""


def best_tracks(decisions: pd.DataFrame, size: int) -> list[int]:
    """Return the tracks with the greatest mean reward; each has five decisions of average reward added to its own."""
    of_track = decisions.groupby("track")["reward"].agg(["sum", "count"])
    quality = (of_track["sum"] + 5 * decisions["reward"].mean()) / (of_track["count"] + 5)
    return [int(track) for track in quality.nlargest(size).index]


def evaluate(folder: Path, size: int = SIZE) -> dict[str, PolicyValue]:
    """Estimate the mean fraction heard under the logging policy, and under the other one by two estimators.

    Parameters
    ----------
    folder : Path
        An export of the listens topic, with recommendations that logged their propensity.
    size : int
        Number of tracks that the other policy draws from.

    Raises
    ------
    AnalyticsError
        The folder is not such an export, or the policy takes none of the logged decisions.
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
        sys.exit("usage: python -m examples.off_policy FOLDER (an export of `botify data export --out FOLDER`)")
    for name, value in evaluate(Path(sys.argv[1])).items():
        print(
            f"{name:7} {value.value:.3f}  ({value.lower:.3f} … {value.upper:.3f})  "
            f"{value.effective_decisions:,.0f} decisions count"
        )


if __name__ == "__main__":
    main()
