"""Requests grouped by recommender, each group answered at once, with the declared fallbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from services.errors import RecommenderError
from services.recommender.protocol import NO_ANSWER, Answers, Batch, Recommender


class Answered:
    """The answers to a batch, and who made them.

    Attributes
    ----------
    tracks : ndarray of int64, shape (n,)
        `NO_ANSWER` where the whole chain had none.
    propensities : ndarray of float64, shape (n,)
    recommenders : list of str, length n
        Who really answered.
    candidates : list of int or None, length n
        How many tracks it was chosen from.
    policies : list of str or None, length n
        Which of the recommender's policies chose.
    """

    def __init__(self, size: int) -> None:
        self.tracks: NDArray[np.int64] = np.full(size, NO_ANSWER, dtype=np.int64)
        self.propensities: NDArray[np.float64] = np.zeros(size)
        self.recommenders: list[str] = [""] * size
        self.candidates: list[int | None] = [None] * size
        self.policies: list[str | None] = [None] * size

    def put(self, rows: NDArray[np.int64], name: str, answers: Answers) -> NDArray[np.int64]:
        """Enter a recommender's answers to some rows; return the rows that it had none for."""
        has_answer = answers.tracks != NO_ANSWER
        self.tracks[rows] = answers.tracks
        self.propensities[rows] = answers.propensities
        answered = rows[has_answer].tolist()
        for row in answered:
            self.recommenders[row] = name
        if answers.candidates is not None:
            for row, count in zip(answered, answers.candidates[has_answer].tolist(), strict=True):
                self.candidates[row] = count
        if answers.policies is not None:
            for row, there, policy in zip(rows.tolist(), has_answer.tolist(), answers.policies, strict=True):
                self.policies[row] = policy if there else None
        missing: NDArray[np.int64] = rows[~has_answer]
        return missing

    def asked(self, wanted: Sequence[str]) -> list[tuple[str, bool]]:
        """Return the policy that each request was meant for, and whether another answered in its place.

        Parameters
        ----------
        wanted : sequence of str, length n
            As `answer` had it.

        Returns
        -------
        list of (str, bool), length n
            A policy is called as in `streams.folds.policy_results`: `sticky_artist`, `mix/rerank`.
        """
        return list(map(_asked, wanted, self.recommenders, self.policies))


def answer(batch: Batch, wanted: Sequence[str], recommenders: Mapping[str, Recommender]) -> Answered:
    """Answer a batch.

    Parameters
    ----------
    batch : Batch, n requests
    wanted : sequence of str, length n
        The recommender that each request's treatment names.
    recommenders : mapping of name to Recommender
    """
    answered = Answered(len(batch))
    groups: dict[str, list[int]] = {}
    for row, asked in enumerate(wanted):
        groups.setdefault(asked, []).append(row)
    for first, members in groups.items():
        name: str | None = first
        rows = np.array(members, dtype=np.int64)
        while name is not None and len(rows):
            recommender = recommenders[name]
            answers = recommender.recommend(batch if len(rows) == len(batch) else batch.select(rows))
            rows = answered.put(rows, name, answers)
            name = recommender.fallback
    return answered


def drawn_policy(drawn: str, answered: str) -> str:
    """Name the policy that was drawn, and who stood in for it.

    Examples
    --------
    >>> drawn_policy("memory", "memory"), drawn_policy("memory", "sticky_norepeat")
    ('memory', 'memory/sticky_norepeat')
    """
    return drawn if answered == drawn else f"{drawn}/{answered}"


def _asked(wanted: str, answered: str, policy: str | None) -> tuple[str, bool]:
    if answered != wanted or policy is None:
        return wanted, answered != wanted
    drawn, _, stand_in = policy.partition("/")
    return f"{wanted}/{drawn}", bool(stand_in)


def check_chains(recommenders: Mapping[str, Recommender]) -> None:
    """Make sure that every fallback exists and no chain runs in a circle.

    Raises
    ------
    RecommenderError
        Naming the chain.
    """
    for first in recommenders:
        chain = [first]
        while (name := recommenders[chain[-1]].fallback) is not None:
            chain.append(name)
            if name not in recommenders or name in chain[:-1]:
                raise RecommenderError(f"the fallback chain {' → '.join(chain)} does not end")
