"""Dispatch: requests are grouped by recommender, each group is answered in one call, then fallbacks fill the gaps.

A recommender that raises has no answer: its fallback answers, and the other recommenders are not affected. One that
keeps raising is skipped for a while (a circuit breaker: Nygard, "Release It!", 2007), so a broken treatment costs
little and does not fill the log.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from botify.schemas.catalogue import CatalogueReader
from botify.schemas.events import Slate, Track
from botify.services.errors import RecommenderError
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.protocol import (
    NO_ANSWER,
    Answers,
    Batch,
    Floats,
    Ints,
    Ranking,
    Recommender,
    rank,
    said_by,
    without,
)
from botify.services.recommender.slates import PINNED, Slates

log = logging.getLogger(__name__)

T = TypeVar("T")


class Dispatched:
    """The answers to a batch: the columns of `Answers`, and the recommender that gave each.

    `tracks` is `NO_ANSWER` if the whole fallback chain had none; `rankings` and `slates` are of requests for them.
    """

    def __init__(self, size: int) -> None:
        self.tracks: Ints = np.full(size, NO_ANSWER, dtype=np.int64)
        self.propensities: Floats = np.zeros(size)
        self.recommenders: list[str] = [""] * size
        self.candidates: list[int | None] = [None] * size
        self.policies: list[str | None] = [None] * size
        self.rankings: list[list[int] | None] = [None] * size
        self.slates: list[Slate | None] = [None] * size

    def put(self, rows: Ints, name: str, answers: Answers) -> Ints:
        """Store a recommender's answers to some rows; return the rows that it did not answer."""
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
        missing: Ints = rows[~has_answer]
        return missing

    def put_rankings(self, rows: Ints, name: str, tracks: Ints) -> Ints:
        """Store a recommender's lists, shape (rows, k), best first; return the rows whose list is empty."""
        for row, ranked in zip(rows.tolist(), tracks, strict=True):
            self.rankings[row] = ranked[ranked != NO_ANSWER].tolist()
        return self.put(rows, name, Answers(tracks[:, 0], np.ones(len(rows))))

    def put_slate(self, row: int, name: str, slate: Slate, candidates: int) -> None:
        """Store a slate that a recommender was asked for; an empty one has no `track`."""
        self.slates[row], self.recommenders[row] = slate, name
        if slate["tracks"]:
            self.tracks[row], self.propensities[row] = slate["tracks"][0], math.prod(slate["propensities"])
            self.recommenders[row] = next((one for one in slate["sources"] if one != PINNED), name)
            self.candidates[row] = candidates

    def asked(self, wanted: Sequence[str]) -> list[tuple[str, bool]]:
        """Return for each request what `asked_policy` does."""
        return list(map(asked_policy, wanted, self.recommenders, self.policies))


NONE_DELETED: Ints = np.zeros(0, dtype=np.int64)


def answer(
    batch: Batch,
    wanted: Sequence[str],
    recommenders: Mapping[str, Recommender],
    deleted: Ints = NONE_DELETED,
    slates: Slates | None = None,
) -> Dispatched:
    """Answer a batch by the recommenders that are wanted; none has a track of `deleted`.

    A request with a `list_size` gets a list, from the first of the fallback chain that has one. Requests for slates are
    answered only with `slates`.
    """
    answered = Dispatched(len(batch))
    groups: dict[tuple[str, int | None], list[int]] = {}
    of_slates: dict[str, list[int]] = {}
    for row, (asked, request) in enumerate(zip(wanted, batch.requests, strict=True)):
        if request.slate is None:
            groups.setdefault((asked, request.list_size), []).append(row)
        else:
            of_slates.setdefault(asked, []).append(row)
    for (first, list_size), members in groups.items():
        name: str | None = first
        rows = np.array(members, dtype=np.int64)
        while name is not None and len(rows):
            recommender, some = recommenders[name], batch.select(rows)
            if list_size is None:
                answers = recommender.recommend(some)
                left = np.where(np.isin(answers.tracks, deleted), NO_ANSWER, answers.tracks)
                rows = answered.put(rows, name, answers._replace(tracks=left))
            else:
                tracks = rank(recommender, some, list_size).tracks
                rows = answered.put_rankings(rows, name, without(tracks, np.isin(tracks, deleted)))
            name = recommender.fallback
    if slates is not None:
        for first, members in of_slates.items():
            made = slates.make(batch.select(np.array(members, dtype=np.int64)), first, recommenders, deleted)
            for row, one in zip(members, made, strict=True):
                if one is not None:
                    answered.put_slate(row, first, *one)
    return answered


def asked_policy(wanted: str, answered: str, policy: str | None) -> tuple[str, bool]:
    """Return the policy that a request was assigned to, and whether a fallback answered instead.

    That of a recommender that mixes several is named with its choice: `similar_users/contextual`. A choice that another
    one substituted for names both, as `rerank/random`.
    """
    if answered != wanted or policy is None:
        return wanted, answered != wanted
    drawn, _, stand_in = policy.partition("/")
    return f"{wanted}/{drawn}", bool(stand_in)


def check_chains(recommenders: Mapping[str, Recommender]) -> None:
    """Raise `RecommenderError`, with the chain, if a fallback does not exist or a chain has a cycle."""
    for first in recommenders:
        chain = [first]
        while (name := recommenders[chain[-1]].fallback) is not None:
            chain.append(name)
            if name not in recommenders or name in chain[:-1]:
                raise RecommenderError(f"the fallback chain {' → '.join(chain)} does not end")


REFRESH_S = 1.0
"""Interval between looks at what has arrived of the catalogue; what was deleted is not answered from then on."""
RETRY_S = 0.2
"""Interval between reads of the catalogue to its end while a requested track is unknown, or looks while it is empty."""
REBUILD_SHARE = 0.1  # most of the time that goes into rebuilding for what has arrived: a large catalogue takes a second
BROKEN_S = 10.0  # interval between attempts to rebuild after an error


class LiveRecommenders:
    """The recommenders that serve, by name; rebuilt when the catalogue has grown.

    If `build` raises for it, the recommenders of the last catalogue keep serving.
    """

    def __init__(
        self,
        reader: CatalogueReader,
        build: Callable[[Catalogue], list[Recommender]],
        build_slates: Callable[[Catalogue, Mapping[int, Track]], Slates],
    ) -> None:
        self._reader, self._build, self._build_slates = reader, build, build_slates
        self._deleted = NONE_DELETED
        self._refreshed_at_s = self._rebuild_from_s = -math.inf
        self.catalogue = Catalogue([])
        self._recommenders: Mapping[str, Recommender] = {}
        self._is_outdated = True
        self._refresh(to_end=True)

    def answer(self, batch: Batch, wanted: Sequence[str]) -> Dispatched:
        """Answer a batch, after reading the catalogue again if a track of it is unknown."""
        since_s = time.monotonic() - self._refreshed_at_s
        if since_s > RETRY_S and self._misses(batch):
            self._refresh(to_end=True)
        elif since_s > REFRESH_S:
            self._refresh(to_end=False)
        return answer(batch, wanted, self._recommenders, self._deleted, self._slates)

    def rank(self, batch: Batch, first: str, k: int) -> tuple[Ranking, list[str]]:
        """Return lists with their scores, and who made each: the first of the fallback chain that had one."""
        ranking, made_by = Ranking.none(len(batch), k), [""] * len(batch)
        name: str | None = first
        rows = np.arange(len(batch))
        while name is not None and len(rows):
            found = rank(self._recommenders[name], batch.select(rows), k)
            out = (found.tracks == NO_ANSWER) | np.isin(found.tracks, self._deleted)
            ranking.tracks[rows] = np.where(out, NO_ANSWER, found.tracks)
            ranking.scores[rows] = np.where(out, -np.inf, found.scores)
            for row in rows.tolist():
                made_by[row] = name
            rows, name = rows[out.all(axis=1)], self._recommenders[name].fallback
        return ranking, made_by

    def _misses(self, batch: Batch) -> bool:
        """Return whether a track of the requests is unknown, or has arrived since; one that was deleted is neither."""
        unknown, tracks = batch.tracks[self.catalogue.rows_of(batch.tracks) < 0].tolist(), self._reader.tracks
        return any(
            track >= 0 and (track not in tracks or (self._is_outdated and not tracks[track].deleted))
            for track in unknown
        )

    def refresh_if_empty(self) -> None:
        """Look for a catalogue while there is none; called between batches, because there may be none of them."""
        if not len(self.catalogue) and time.monotonic() - self._refreshed_at_s > RETRY_S:
            self._refresh(to_end=False)

    def _refresh(self, *, to_end: bool) -> None:
        """Read to the topic's end because something is missed, or what has arrived."""
        if self._reader.refresh() if to_end else self._reader.take_arrived():
            self._is_outdated = True
            self._deleted = self._reader.tracks.deleted_ids()
        began_s = time.monotonic()
        if self._is_outdated and (to_end or began_s >= self._rebuild_from_s):
            pause_s = 0.0
            try:
                self._rebuild()
            except Exception:
                if not self._recommenders:
                    raise
                log.exception("recommenders cannot be built for the new catalogue; those of the old one keep serving")
                pause_s = BROKEN_S
            ended_s = time.monotonic()
            self._rebuild_from_s = ended_s + max(pause_s, (ended_s - began_s) * (1 / REBUILD_SHARE - 1))
        self._refreshed_at_s = time.monotonic()

    def _rebuild(self) -> None:
        tracks = self._reader.tracks
        catalogue = Catalogue.of_columns(tracks.columns())
        recommenders = {recommender.name: recommender for recommender in self._build(catalogue)}
        check_chains(recommenders)
        self._slates = self._build_slates(catalogue, tracks)
        self.catalogue, self._recommenders, self._is_outdated = catalogue, recommenders, False


FAILURES_IN_A_ROW = 5
LEFT_OUT_S = 30.0
LOG_EVERY_S = 60.0


class Breaker:
    """The circuit breaker of one recommender; `failures` counts the calls that raised since the start.

    After `FAILURES_IN_A_ROW` calls that raised it is open for `LEFT_OUT_S`; then one call is tried.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._left_out_until_s = self._logged_at_s = -math.inf
        self._in_a_row = self._unlogged = self.failures = 0

    @property
    def left_out(self) -> bool:
        """Whether the circuit is open, so the recommender is not called."""
        return self._clock() < self._left_out_until_s

    def succeeded(self) -> None:
        self._in_a_row = 0

    def failed(self, error: Exception) -> None:
        """Count a call that raised; log it with its traceback, at most once in `LOG_EVERY_S`."""
        now_s = self._clock()
        self.failures += 1
        self._in_a_row += 1
        self._unlogged += 1
        if self._in_a_row >= FAILURES_IN_A_ROW:
            self._left_out_until_s = now_s + LEFT_OUT_S
        if now_s - self._logged_at_s >= LOG_EVERY_S:
            log.error(
                "recommender %s raised %s (%d times since the last report); its fallback answers%s",
                self._name,
                type(error).__name__,
                self._unlogged,
                f", and it is skipped for {LEFT_OUT_S:.0f} s" if self._left_out_until_s > now_s else "",
                exc_info=error,
            )
            self._logged_at_s, self._unlogged = now_s, 0


class Guarded:
    """A recommender behind its breaker.

    Examples
    --------
    >>> from botify.services.recommender.baselines import TopPop
    >>> guarded = Guarded(TopPop(lambda: 1 / 0), Breaker("toppop"))
    >>> guarded.recommend(Batch.of([], [])).tracks.tolist(), guarded.fallback
    ([], 'random')
    """

    def __init__(self, recommender: Recommender, breaker: Breaker) -> None:
        self.name, self.fallback = recommender.name, recommender.fallback
        self._recommender, self._breaker = recommender, breaker

    def recommend(self, batch: Batch) -> Answers:
        """Return the recommender's answers; no answers if it raises or its circuit is open."""

        def call() -> Answers:
            answers = self._recommender.recommend(batch)
            _check(answers, len(batch))
            return answers

        return self._call(call, Answers.none(len(batch)))

    def rank(self, batch: Batch, k: int) -> Ranking:
        """Return the recommender's lists; empty ones if it raises, or its circuit is open."""

        def call() -> Ranking:
            ranking = rank(self._recommender, batch, k)
            if ranking.tracks.shape != (len(batch), k):
                raise RecommenderError(f"the recommender returned lists of shape {ranking.tracks.shape}")
            return ranking

        return self._call(call, Ranking.none(len(batch), k))

    def because(self, batch: Batch, tracks: Ints) -> Ints:
        """Return what the recommender says led to tracks that it offered; guarded as `rank`."""
        return self._call(lambda: said_by(self._recommender, batch, tracks), np.full(len(tracks), NO_ANSWER))

    def _call(self, call: Callable[[], T], otherwise: T) -> T:
        if self._breaker.left_out:
            return otherwise
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - an error must not affect the other treatments; it is logged
            self._breaker.failed(error)
            return otherwise
        self._breaker.succeeded()
        return result


class Guards:
    """The circuit breakers by recommender name; they outlive a rebuild of the recommenders."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.breakers: dict[str, Breaker] = {}

    def __call__(self, recommender: Recommender) -> Recommender:
        """Put a recommender behind the breaker of its name."""
        name = recommender.name
        return Guarded(recommender, self.breakers.setdefault(name, Breaker(name, self._clock)))


def _check(answers: Answers, size: int) -> None:
    for field, values in answers._asdict().items():
        if values is None and field in ("candidates", "policies"):
            continue
        if len(values) != size:
            raise RecommenderError(f"the recommender returned {len(values)} {field} for {size} requests")
        if field == "tracks" and not np.issubdtype(values.dtype, np.integer):
            raise RecommenderError(f"the recommender returned tracks of type {values.dtype}; return integers")
        if field == "propensities" and not np.isfinite(values).all():
            raise RecommenderError("the recommender returned a propensity that is not finite")
