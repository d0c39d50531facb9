"""Session curves: who is still listening after k tracks, and how much of each track is heard."""

from __future__ import annotations

import numpy as np
import pandas as pd

MOST_TRACKS = 40
"""Where a curve stops: few sessions go on longer, and what they show is noise."""


def still_listening(sessions: pd.DataFrame, by: str = "treatment", most: int = MOST_TRACKS) -> pd.DataFrame:
    """Estimate the share of sessions that go on after k tracks.

    A session whose end was not seen has lasted at least so long, and counts until then: the product-limit estimator
    of Kaplan and Meier (JASA 53, 1958), S(k) = Π_{j ≤ k} (1 − ended at j / reached j).

    Parameters
    ----------
    sessions : DataFrame
        As `analytics.sessions.sessions_of`, with a column to group by.
    by : str
    most : int
        Last k.

    Returns
    -------
    DataFrame
        Index k from 0 to `most`, a column for each group, values from 1 down; NaN from where nobody is left to tell.

    Examples
    --------
    >>> sessions = pd.DataFrame({"treatment": "C", "tracks": [1, 2, 2, 3], "ended": [True, True, False, True]})
    >>> still_listening(sessions, most=3)["C"].tolist()
    [1.0, 0.75, 0.5, 0.0]
    """
    curves = {}
    for name, group in sessions.groupby(by, observed=True):
        length = np.minimum(group["tracks"].to_numpy(), most + 1)
        of_length = np.bincount(length, minlength=most + 2)
        ended = np.bincount(length[group["ended"].to_numpy(dtype=bool)], minlength=most + 2)
        reached = np.cumsum(of_length[::-1])[::-1]
        with np.errstate(invalid="ignore"):
            curves[str(name)] = np.cumprod(1.0 - ended / reached)[: most + 1]
    return pd.DataFrame(curves, index=pd.RangeIndex(most + 1, name="tracks"))


def fraction_by_position(listens: pd.DataFrame, by: str = "treatment", most: int = MOST_TRACKS) -> pd.DataFrame:
    """Average how much is heard of the track at each position of a session, the listener's own choice left out.

    Those who hear little leave, so later positions tell of those who like what they are given.

    Parameters
    ----------
    listens : DataFrame
        As `analytics.frames.listens_frame`, with a column to group by.
    by : str
    most : int
        Last position.

    Returns
    -------
    DataFrame
        Index position from 1, a column for each group.

    Examples
    --------
    >>> listens = pd.DataFrame({"treatment": "C", "position": [0, 1, 1], "fraction": [1.0, 0.2, 0.4]})
    >>> fraction_by_position(listens)["C"].round(2).to_dict()
    {1: 0.3}
    """
    recommended = listens[listens["position"].between(1, most)]
    means = recommended.groupby([by, "position"], observed=True)["fraction"].mean().unstack(by)
    return means.rename(columns=str).rename_axis(columns=None)
