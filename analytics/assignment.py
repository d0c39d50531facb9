"""Who had which treatment, and since when."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import pandas as pd

from analytics.errors import AnalyticsError


class Assignment(NamedTuple):
    """Who takes part in an experiment.

    Attributes
    ----------
    users : DataFrame
        Indexed by user: `treatment` (categorical) and `since_ms`, the time of the first listen that carried it.
    until_ms : int
        Time of the last listen of all that carried a treatment of this experiment.
    mixed : int
        Users seen in more than one treatment; they are left out, because what they heard cannot be put down to one.
    """

    users: pd.DataFrame
    until_ms: int
    mixed: int


def assign(listens: pd.DataFrame, experiment: str) -> Assignment:
    """Find each user's treatment.

    A session's first listen was not recommended and carries no treatment, so a user's treatment is that of any listen
    that has one. Users without any were never treated and say nothing about the treatments.

    Parameters
    ----------
    listens : DataFrame
        As `analytics.frames.listens_frame`.
    experiment : str
        Its name.

    Raises
    ------
    AnalyticsError
        No listen carries a treatment of this experiment.
    """
    texts = listens["treatments"].cat
    declared = [json.loads(text) for text in texts.categories]
    of_text = np.array([treatments.get(experiment) for treatments in declared], dtype=object)
    names = sorted({name for name in of_text if name is not None})
    if not names:
        seen = sorted({name for treatments in declared for name in treatments})
        raise AnalyticsError(
            f"no listen carries a treatment of experiment {experiment!r}; "
            + (f"the data has {', '.join(seen)}" if seen else "the data has no experiment at all")
        )
    code_of_text = np.array([names.index(name) if name is not None else -1 for name in of_text])
    codes = code_of_text[texts.codes]
    treated = codes >= 0
    seen_by_user = (
        pd.DataFrame(
            {
                "user": listens["user"].to_numpy()[treated],
                "code": codes[treated],
                "timestamp_ms": listens["timestamp_ms"].to_numpy()[treated],
            }
        )
        .groupby("user")
        .agg(lowest=("code", "min"), highest=("code", "max"), since_ms=("timestamp_ms", "min"))
    )
    pure = seen_by_user[seen_by_user["lowest"] == seen_by_user["highest"]]
    users = pd.DataFrame(
        {
            "treatment": pd.Categorical.from_codes(pure["lowest"].to_numpy(), categories=pd.Index(names)),
            "since_ms": pure["since_ms"],
        },
        index=pure.index,
    )
    until_ms = int(listens["timestamp_ms"].to_numpy()[treated].max())
    return Assignment(users, until_ms, mixed=len(seen_by_user) - len(pure))
