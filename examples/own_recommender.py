"""A recommender of your own: what was most often liked after the item that a user liked last.

It is judged on a made-up log, then plays to simulated listeners; neither needs a server. docs/recommenders.md says how
one is served.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

import botify
from botify.ingest.sample import write_sample


class Follows:
    """Counts which item was liked after which.

    Examples
    --------
    >>> follows = Follows()
    >>> for item in ("a", "b", "a"):
    ...     follows.learn_one("alice", item, 1.0)
    >>> follows.rank("alice", 2)
    ['b']
    """

    name = "follows"

    def __init__(self) -> None:
        self._after: defaultdict[str, Counter[str]] = defaultdict(Counter)  # "" is the start
        self._last: dict[str, str] = {}

    def learn_one(self, user: str, item: str, value: float) -> None:
        """Count the item after the user's last one, if half of it was heard."""
        if value >= 0.5:
            self._after[self._last.get(user, "")][item] += 1
            self._last[user] = item

    def rank(self, user: str, k: int) -> list[str]:
        """Return what was liked after the user's last item, most often first."""
        return [item for item, _ in self._after[self._last.get(user, "")].most_common(k)]


def main(sessions: int = 2000) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Print how it does on the log and with the listeners, against popularity and random tracks."""
    with TemporaryDirectory() as place:
        write_sample(Path(place) / "plays.csv")
        log = botify.load(Path(place) / "plays.csv")
    judged = log.evaluate([Follows(), "toppop"])
    played = botify.simulate(["random", Follows()], sessions=sessions)
    print(judged[["recall", "recall_lower", "recall_upper"]], played[["time", "time_lower", "time_upper"]], sep="\n\n")
    return judged, played


if __name__ == "__main__":
    main()
