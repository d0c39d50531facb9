"""Slates: several tracks to be shown together, diverse, with the probability of each.

    ranking of the policy, of its fallbacks, of what is popular ──► pool ──► one track after another ──► slate

The pool has the best tracks that pass the request's filters, are not excluded, and were not heard in the session. Each
place of the slate takes the track of the highest maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998) ::

    (1 − λ) · relevance − λ · greatest similarity to a track before it

or, with probability `EXPLORE`, any track of the pool. Relevance falls evenly with the place in the ranking, because
scores of different recommenders have no common scale; the policy's tracks come before those of its fallbacks. A track
of the same artist has similarity 1, one of the same genre `SAME_GENRE`. An artist has at most a fifth of the places, or
two if that is more, while others are left; a request may cap other fields, and artists otherwise. If the pool is used
up, the rest is drawn uniformly from all that is allowed. Where less than `WIDE` of the catalogue passes the filters, a
recommender that can (`Batch.allowed`) ranks that and nothing else; its ranking of all tracks is read deeper otherwise.

Rules of the request pin, boost and block tracks. A pinned one has its place, with probability 1, whatever the policy
ranks, and counts for diversity and caps. A boosted one counts as many times nearer to the top of the ranking, which is
read as many times deeper for it. A blocked one is not offered.

A track that was shown several times and not heard since is *ignored*: its relevance is lower by `IGNORED`, halved with
every `FADES_MS` since it was shown last. The pool has at most one a place, in addition to `POOL` others.

The probability of a track is that given the request and the tracks before it, and what a listen of it is attributed
with. Their product is that of the slate, by which off-policy estimators weight (`analytics/offline/slates.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import mix, uniform
from botify.schemas.events import RecommendationRequest, Slate, SlateRequest, SlateRule, Track
from botify.services.recommender.baselines import TopPop
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.filters import FIELDS, Filters
from botify.services.recommender.protocol import (
    NO_ANSWER,
    Batch,
    Because,
    Ints,
    RandomStream,
    Recommender,
    rank,
    said_by,
)
from botify.streams.folds.sessions import GAP_MS
from botify.streams.folds.users import HISTORY_LISTENS, LISTEN, UserState

EXPLORE = 0.02
LAMBDA = 0.3
SAME_GENRE = 0.3
POOL = 4  # tracks of the pool for each place of the slate
LEAST_CAP = 2
IGNORED = 4.0  # more than the stages of a chain, so others come first, by what is popular if need be
FADES_MS = 24 * 60 * 60 * 1000  # a day: after four, an ignored track may be shown again if it is the most relevant
TRIES = 8  # random draws for a place that the pool leaves
DEEP = 10_000  # how far a ranking is read for a request whose filters leave too few of its best tracks
WIDE = 0.5  # share of the catalogue that passes filters from which the usual ranking has enough of it
POPULAR, RANDOM = "toppop", "random"
PINNED = "pinned"  # the source of tracks that a rule pins
NO_TRACK = -1
TOGETHER = 16  # requests with filters that are ranked for at once: each may have a score of every track that passes


def from_state(request: RecommendationRequest, state: UserState | None) -> RecommendationRequest:
    """Return a request without a listen with the last listen of the state, or without any track."""
    if state is None or not state.history:
        return request._replace(track=NO_TRACK)
    last = state.last_listens()[-1]
    return request._replace(
        session_id=state.session_id,
        position=state.session_listens - 1,
        track=int(last["track"]),
        fraction=float(last["fraction"]),
    )


def with_liked(request: RecommendationRequest, state: UserState | None) -> UserState | None:
    """Return a state in which the tracks that the listener said to like are listens of a share, at their event times.

    One without a time was liked just now, one without a weight is a full listen. Likes of somebody without listens are
    the request's session. Without likes, it is the state itself.
    """
    asked = request.slate
    if asked is None or not asked["liked"]:
        return state
    made = UserState() if state is None else copy(state)
    listens, session_listens = made.last_listens(), made.session_listens
    times_ms = dict(zip(asked["liked"], asked["liked_ms"], strict=False))
    weights = dict(zip(asked["liked"], asked["liked_weights"], strict=False))
    said = sorted((times_ms.get(track, request.timestamp_ms), track) for track in asked["liked"])
    likes = np.array([(0, at_ms, weights.get(track, 1.0), track) for at_ms, track in said], dtype=LISTEN)
    places = np.searchsorted(np.maximum.accumulate(listens["timestamp_ms"]), likes["timestamp_ms"], side="right")
    both = np.insert(listens, places, likes)
    begun = len(listens) - min(session_listens, len(listens))
    before = int((places <= begun).sum()) if len(listens) else 0  # likes that are older than the session
    kept = made.session_tracks()[: session_listens - (len(listens) - begun)]
    session = both[begun + before :]
    # what may come again does so half an hour after it was liked, even if no session follows
    over = (session["event"] == 0) & (session["timestamp_ms"] < request.timestamp_ms - GAP_MS)
    over &= ~np.isin(session["track"], asked["exclude"])
    over[-1:] = False
    made.heard = np.concatenate([kept, session["track"][~over]]).tobytes()
    made.history = both[-HISTORY_LISTENS:].tobytes()
    made.session_id = made.session_id or request.session_id
    made.session_listens = session_listens + len(likes) - before - int(over.sum())
    return made


@dataclass(slots=True)
class Pool:
    """What one slate is chosen from, best first; all lists have a value a track."""

    blocked: set[int]  # rows that are excluded, heard, or in the pool
    mask: NDArray[np.bool_] | None  # shape (n,): rows that pass the filters, and that no rule blocks; None without
    among: NDArray[np.bool_] | None  # those that recommenders rank on their own; None for all, until too few are left
    share: float  # of the tracks that recommenders rank, those that pass the filters
    ignored: Mapping[int, float]  # rows that were shown and ignored, and how much less relevant they are
    # what says whether a row is boosted, and how much
    boosts: list[tuple[Callable[[int], bool], float]] = field(default_factory=list)
    pins: list[tuple[int, int]] = field(default_factory=list)  # places of the slate, ascending, and rows; not below
    others: int = 0  # number of rows that were not ignored
    # number of rows that were offered, and where those that were taken are in the ranking; only kept with boosts
    depth: int = 0
    places: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)

    @property
    def reach(self) -> float:
        """How many times deeper than without boosts a ranking is read, of what passes the filters."""
        return max((boost for _, boost in self.boosts), default=1.0)

    def add(self, rows: Sequence[int], scores: Sequence[float], source: str, most: int) -> None:
        deepest = most * self.reach if self.boosts else 0
        for row, score in zip(rows, scores, strict=True):
            if self.others >= most and self.depth >= deepest:
                return
            if row in self.ignored and len(self.rows) - self.others >= most // POOL:
                continue  # one a place is all that can be needed
            if row >= 0 and row not in self.blocked and (self.mask is None or self.mask[row]):
                if self.boosts and not self._place(row, most):
                    continue
                self.blocked.add(row)
                self.rows.append(row)
                self.scores.append(score)
                self.sources.append(source)
                self.others += row not in self.ignored

    def _place(self, row: int, most: int) -> bool:
        """Keep the place of a row where rows are boosted, and return whether the pool may have it."""
        place = self.depth / max((boost for has, boost in self.boosts if has(row)), default=1.0)
        self.depth += 1
        if self.others >= most and place >= most:
            return False
        self.places.append(place)
        return True


class Pick(NamedTuple):
    """The track of one place, and whether it was drawn from several."""

    row: int
    propensity: float
    score: float
    source: str
    explored: bool


class MmrSelector:
    """Selects the tracks of a pool by maximal marginal relevance; lists, because a pool has a few dozen tracks.

    `free` are the places in the pool of tracks that may be next; those of an artist, or another value, that has as many
    places as it may have only at the end. `caps` are such values, one a track of the pool, and how many; -1 has no cap.
    """

    def __init__(self, pool: Pool, catalogue: Catalogue, caps: Sequence[tuple[list[int], int]]) -> None:
        size = len(pool.rows) - len(pool.pins)
        stages = {source: stage for stage, source in enumerate(dict.fromkeys(pool.sources))}
        rows = np.array(pool.rows, dtype=np.int64)
        self.free = list(range(size))
        self._artists: list[int] = catalogue.artist_of[rows].tolist()
        self._genres: list[int] = catalogue.genre_of[rows].tolist()
        # a stage is more than diversity is worth
        self._relevance = [
            (1 - LAMBDA) * (1 - place / size) - stages[source] - pool.ignored.get(row, 0.0)
            for place, row, source in zip(
                pool.places or range(size), pool.rows, pool.sources, strict=False
            )  # pinned ones are last
        ]
        self._values = self._relevance.copy()
        self._capped: list[int] = []
        self._caps = [(values, cap, Counter[int]()) for values, cap in caps]

    def best(self) -> int:
        """Return the place in the pool of the best track, the first of equal ones."""
        return max(self.free, key=self._values.__getitem__)

    def take(self, taken: int) -> None:
        """Remove a track; what is similar is worth less from now on."""
        artist, genre = self._artists[taken], self._genres[taken]
        self.free.remove(taken)
        for at in self.free:
            if self._artists[at] == artist:
                self._values[at] = self._relevance[at] - LAMBDA
            elif self._genres[at] == genre:
                self._values[at] = min(self._values[at], self._relevance[at] - LAMBDA * SAME_GENRE)
        for values, cap, counts in self._caps:
            value = values[taken]
            counts[value] += 1
            if value >= 0 and counts[value] >= cap:
                self._capped += [at for at in self.free if values[at] == value]
                self.free = [at for at in self.free if values[at] != value]
        if not self.free:
            self.free, self._capped, self._caps = sorted(self._capped), [], []


class Slates:
    """Makes slates from the recommenders of one catalogue; `versions_of` returns the models' of a recommender."""

    def __init__(
        self,
        catalogue: Catalogue,
        tracks: Mapping[int, Track],
        popular: Callable[[], Ints],
        versions_of: Callable[[str], Mapping[str, int]],
    ) -> None:
        self._catalogue = catalogue
        self._filters = Filters(len(catalogue), lambda: (tracks[track] for track in catalogue.tracks.tolist()))
        self._popular = TopPop(popular)
        self._versions_of = versions_of
        self._deleted: Ints | None = None
        self._gone: list[int] = []  # the rows of these, of which the catalogue has few

    def make(
        self, batch: Batch, wanted: str, recommenders: Mapping[str, Recommender], deleted: Ints
    ) -> list[tuple[Slate, int] | None]:
        """Return each slate, empty if its request allows no track, and pool size; None while the catalogue is empty.

        None has a track of `deleted`.
        """
        if not len(self._catalogue):
            return [None] * len(batch)
        if deleted is not self._deleted:
            gone = self._catalogue.rows_of(deleted)
            self._deleted, self._gone = deleted, gone[gone >= 0].tolist()
        pools = self._pools(batch, wanted, recommenders, self._gone)
        made: list[tuple[Slate, int] | None] = []
        for row, (request, pool) in enumerate(zip(batch.requests, pools, strict=True)):
            chosen = self._choose(pool, _slate_of(request), batch.keys[row : row + 1])
            made.append((self._slate(batch, row, chosen, recommenders), len(pool.rows)))
        return made

    def _pools(self, batch: Batch, wanted: str, recommenders: Mapping[str, Recommender], gone: list[int]) -> list[Pool]:
        asked = [_slate_of(request) for request in batch.requests]
        passing = cache(self._passing)  # one array for equal filters
        pools = [
            self._empty_pool(request, state, *passing(*one["filters"]), gone)
            for request, state, one in zip(batch.requests, batch.states, asked, strict=True)
        ]
        sizes = [one["size"] for one in asked]

        def add(name: str, rows: list[int], k: int) -> set[int]:
            """Add the k best of a recommender, and return the rows for which there may be more.

            Requests with equal filters are ranked for together.
            """
            more: set[int] = set()
            for part in _alike(rows, pools):
                some = replace(batch.select(np.array(part)), allowed=pools[part[0]].among)
                ranking = self._popular.rank(some, k) if name == POPULAR else rank(recommenders[name], some, k)
                found: Any = self._catalogue.rows_of(ranking.tracks.ravel()).reshape(ranking.tracks.shape)
                for row, tracks, scores in zip(part, found.tolist(), ranking.scores.tolist(), strict=True):
                    pools[row].add(tracks, scores, name, POOL * sizes[row])
                more.update(np.array(part)[ranking.tracks[:, -1] != NO_ANSWER].tolist())
            return more

        for name in _chain(wanted, recommenders):
            lacking = [row for row, (pool, size) in enumerate(zip(pools, sizes, strict=True)) if pool.others < size]
            if not lacking:
                break
            out = [len(gone) + len(asked[row]["exclude"]) + len(pools[row].ignored) for row in lacking]
            reaches = [math.ceil(POOL * sizes[row] * pools[row].reach / pools[row].share) for row in lacking]
            k = max(map(sum, zip(reaches, out, strict=True)))
            more = add(name, lacking, k)
            still = [row for row in lacking if pools[row].mask is not None and pools[row].others < sizes[row]]
            deep = [row for row in still if row in more]
            wide = [row for row in still if row not in more and pools[row].among is None]
            for rows, most in ((deep, min(DEEP, len(self._catalogue))), (wide, k)):
                for row in rows:
                    pools[row].among, pools[row].share = pools[row].mask, 1.0
                if rows:
                    add(name, rows, most)
        return pools

    def _passing(self, *filters: str) -> tuple[NDArray[np.bool_] | None, float]:
        """Return which rows pass filters, None without any, and what share of the catalogue they are."""
        mask = self._filters.mask(filters) if filters else None
        return mask, 1.0 if mask is None else np.count_nonzero(mask) / len(mask)

    def _empty_pool(
        self,
        request: RecommendationRequest,
        state: UserState | None,
        mask: NDArray[np.bool_] | None,
        share: float,
        gone: list[int],
    ) -> Pool:
        asked = _slate_of(request)
        out = [*asked["exclude"], request.track]
        if state is not None:
            out += state.session_tracks().tolist()
        rows = self._catalogue.rows_of(np.array(out, dtype=np.int64))
        among, share = (mask, 1.0) if share < WIDE else (None, share)
        pool = Pool({*rows[rows >= 0].tolist(), *gone}, mask, among, share, _ignored(request, state, self._catalogue))
        if asked["rules"]:
            self._apply(sorted(asked["rules"], key=lambda rule: rule["boost"]), pool, asked["size"])
        return pool

    def _apply(self, rules: Sequence[SlateRule], pool: Pool, size: int) -> None:
        """Apply rules, those that block first: what is blocked, heard or excluded is not pinned."""
        for rule in rules:
            found: Any = self._catalogue.rows_of(np.array(rule["tracks"], dtype=np.int64))
            rows = list(dict.fromkeys(found[found >= 0].tolist()))
            passing = self._filters.mask(rule["filters"]) if rule["filters"] else None
            if rule["boost"] == 0.0:
                pool.blocked.update(rows)
                if passing is not None:
                    pool.mask = ~passing if pool.mask is None else pool.mask & ~passing
            elif (place := rule["place"]) is None:
                pool.boosts.append((set(rows).__contains__ if passing is None else passing.__getitem__, rule["boost"]))
            elif place < size:
                free = [row for row in rows if row not in pool.blocked and (pool.mask is None or pool.mask[row])]
                pool.pins += [(place, row) for row in free]
                pool.blocked.update(free)
        pool.pins.sort(key=lambda pin: pin[0])

    def _choose(self, pool: Pool, asked: SlateRequest, key: NDArray[np.uint64]) -> list[Pick]:
        chosen: list[Pick] = []
        pins = [(place, at) for at, (place, _) in enumerate(pool.pins, len(pool.rows))]
        pool.rows += [row for _, row in pool.pins]
        pool.scores += [0.0] * len(pins)
        pool.sources += [PINNED] * len(pins)
        size, rows = asked["size"], np.array(pool.rows, dtype=np.int64)
        caps = {"artist": max(LEAST_CAP, math.ceil(size / 5)), **asked["caps"]}
        selector = MmrSelector(
            pool,
            self._catalogue,
            [(self._values_of(field, rows), cap) for field, cap in caps.items() if field in FIELDS],
        )
        places = mix(key, np.arange(size))
        explores = (uniform(places, RandomStream.SLATE_EXPLORE) < EXPLORE).tolist()
        drawn = uniform(places, RandomStream.SLATE_TRACK).tolist()
        for due, pinned in [*pins, (size, None)]:  # what is before each pinned track, and then it
            while len(chosen) < due and selector.free:
                place = len(chosen)
                best, count = selector.best(), len(selector.free)
                at = selector.free[int(drawn[place] * count)] if explores[place] else best
                propensity = EXPLORE / count + (1 - EXPLORE if at == best else 0.0)
                chosen.append(Pick(pool.rows[at], propensity, pool.scores[at], pool.sources[at], explores[place]))
                selector.take(at)
            if len(chosen) < due:
                self._fill(chosen, pool, due, places)
            if pinned is not None and len(chosen) < size:
                chosen.append(Pick(pool.rows[pinned], 1.0, 0.0, PINNED, False))
                selector.free.append(pinned)
                selector.take(pinned)
        return chosen

    def _values_of(self, field: str, rows: Ints) -> list[int]:
        is_artist = field == "artist"
        found: Any = self._catalogue.artist_of[rows] if is_artist else self._filters.first_values(field, rows)
        values: list[int] = found.tolist()
        return values

    def _fill(self, chosen: list[Pick], pool: Pool, end: int, places: NDArray[np.uint64]) -> None:
        """Fill the places that the pool leaves before one, uniformly from all that is allowed."""
        count = len(self._catalogue) - len(pool.blocked)
        if pool.mask is not None:
            count = int(pool.mask.sum() - pool.mask[list(pool.blocked)].sum())
        tries: Any = uniform(mix(places[:, None], np.arange(TRIES)), RandomStream.SLATE_TRACK)
        for draws in tries[len(chosen) : min(end, len(chosen) + count)].tolist():
            row = self._drawn(pool, draws)
            pool.blocked.add(row)
            chosen.append(Pick(row, 1 / count, 0.0, RANDOM, True))
            count -= 1

    def _drawn(self, pool: Pool, draws: Sequence[float]) -> int:
        """Return an allowed row, uniformly: by rejection, or where few are allowed, by looking through all."""
        if pool.mask is None:
            for draw in draws[1:]:
                if (row := int(draw * len(self._catalogue))) not in pool.blocked:
                    return row
        allowed = np.ones(len(self._catalogue), dtype=np.bool_) if pool.mask is None else pool.mask.copy()
        allowed[list(pool.blocked)] = False
        rest = np.flatnonzero(allowed)
        return int(rest[int(draws[0] * len(rest))])

    def _slate(self, batch: Batch, row: int, chosen: list[Pick], recommenders: Mapping[str, Recommender]) -> Slate:
        sources = [one.source for one in chosen]
        models = [self._versions_of(source) for source in set(sources) if source != PINNED]
        tracks, because = self._catalogue.tracks[[one.row for one in chosen]], []
        if _slate_of(batch.requests[row])["explain"]:
            because = _because(batch.select(np.array([row])), tracks, chosen, recommenders)
        return {
            "tracks": tracks.tolist(),
            "propensities": [one.propensity for one in chosen],
            "scores": [one.score for one in chosen],
            "sources": sources,
            "because": because,
            "versions": {name: at for versions in models for name, at in versions.items()},
        }


def _alike(rows: Sequence[int], pools: Sequence[Pool]) -> Iterator[list[int]]:
    """Yield the rows in parts of the same filters; parts with filters have at most `TOGETHER` rows."""
    parts: dict[int, list[int]] = {}
    for row in rows:
        parts.setdefault(id(pools[row].among), []).append(row)
    for part in parts.values():
        size = len(part) if pools[part[0]].among is None else TOGETHER
        yield from (part[at : at + size] for at in range(0, len(part), size))


def _ignored(request: RecommendationRequest, state: UserState | None, catalogue: Catalogue) -> dict[int, float]:
    """Return the rows of the tracks that were shown and ignored, and how much less relevant they are."""
    asked = _slate_of(request)
    if not (triples := list(zip(asked["shown"], asked["shown_since_ms"], asked["shown_ms"], strict=False))):
        return {}
    tracks, since_ms, last_ms = np.array(triples, dtype=np.int64).T
    if state is not None:
        heard = state.last_listens()
        of_track = tracks[:, None] == heard["track"]
        ignored = ~(of_track & (heard["timestamp_ms"] >= since_ms[:, None])).any(axis=1)
        tracks, last_ms = tracks[ignored], last_ms[ignored]
    costs = IGNORED * 0.5 ** (np.maximum(request.timestamp_ms - last_ms, 0) / FADES_MS)
    return dict(zip(catalogue.rows_of(tracks).tolist(), costs.tolist(), strict=True))


def _because(batch: Batch, tracks: Ints, chosen: list[Pick], recommenders: Mapping[str, Recommender]) -> list[int]:
    """Return what led to each track of the one request: that its place explored, or what its source says."""
    found = np.full(len(tracks), Because.EXPLORED, dtype=np.int64)
    for source in {one.source for one in chosen}:
        at = np.flatnonzero([one.source == source and not one.explored for one in chosen])
        if source in (POPULAR, PINNED):
            found[at] = Because.POPULAR if source == POPULAR else Because.PINNED
        elif len(at):
            found[at] = said_by(recommenders[source], batch, tracks[at])
    return found.tolist()


def _slate_of(request: RecommendationRequest) -> SlateRequest:
    if request.slate is None:
        raise ValueError("the request asks for no slate")
    return request.slate


def _chain(wanted: str, recommenders: Mapping[str, Recommender]) -> list[str]:
    """Return whose rankings fill a pool: the policy, its fallbacks, what is popular; random tracks fill the rest."""
    chain: list[str] = []
    name: str | None = wanted
    while name is not None and name != RANDOM:
        chain.append(name)
        name = recommenders[name].fallback
    if wanted != RANDOM and POPULAR not in chain:
        chain.append(POPULAR)
    return chain
