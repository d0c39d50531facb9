"""The arrays of `next_track`, and how they stay within their bounds.

Constants are compiled in; a change of one compiles the loops again (`botify.core.numba_cache`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import mix, uniform

Ints = NDArray[np.int64]
Rows = NDArray[np.int32]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

WAYS = 16  # places of a row in which a neighbour can be; their ids fill one cache line
FORWARD, BACKWARD, WIDE = 0, 1, 2
"""Columns of weights: played after the item, played before it, both with the wide lag kernel."""
SUMS = 15  # sums over the history's neighbours that a candidate collects
SESSION, SKIPS_NEAR, SKIPS_WIDE = 8, 9, 10  # those over the present session alone, and those over what was skipped
OWN_LATE, OWN, OWN_RANK = 11, 12, 13
"""The listener's own plays of the candidate: faded, all, and how many others came after the last one."""
IGNORED = 14  # how often the candidate was on the screen since it was played last, faded
FEATURES = 25
VECTOR, HEARD, SHOWN, LONG_VECTOR = 21, 22, 23, 24
LOGARITHMS = 16  # the first features are logarithms
QUIET = (10, 11, 12, 13, 14, 15, 22, 23)
"""Features that are constant in a log without pauses, skips, repeats or impressions: they begin without effect."""
LEAST_VARIANCE, LEAST_VARIANCE_OF_QUIET = 1e-4, 1.0  # bounds of the variance by which a feature is standardised
LOG_OFFSET = 1e-3
CUT_WIDE = 0.3
GROUPS = 4  # histories of less than 6, 15, 40, and more events have weights of their own in addition to the shared ones
HIDDEN = 16  # hidden units of the stacker, in addition to its linear part
CONTEXT, BIAS = FEATURES, FEATURES + 1  # rows of the hidden weights after those of the features
LEAK = 0.01
ADAGRAD_START = 1e-3
ADAGRAD_START_HIDDEN = 1e-2
NEGLIGIBLE = 1e-4  # a candidate whose error is smaller does not move the hidden units
NEWEST = 4096  # events of a history that are read at most
FIRST_WEIGHTS = np.array(
    [0.3, 0.1, 0.3, 0.2, 0.1, 0, 0, 0.1, -0.3, 0.1, 0, 0, 0, 0, 0, 0, 0.1, 0.2, 0.1, 0, 0, 0.1, 0, 0, 0.1]
)
"""Of the features in units of their standard deviation, before anything is learned."""
SESSION_GAP_MS = 30 * 60 * 1000  # a session ends when its user does nothing for longer than this
SKIP_BELOW = 0.5
SKIPS = 8  # most events of a history with a value below `SKIP_BELOW` that count as skips, the last ones
DIMENSIONS = 64  # of an item's vectors
VECTOR_ITEMS = 50  # last liked items of a history whose vectors count, the newest most
LONG_ITEMS = 200  # last liked items whose vectors count alike
VECTOR_RANK = 0.5
VECTOR_START = 1e-3  # where Adagrad's sums begin
FIRST_SPREAD = 0.1  # of vectors in histories; as what is next, vectors begin as 0
NEGATIVES = 64  # items drawn from the last `DRAWN_FROM` events, against which vectors are learned
DRAWN_FROM = 1 << 16
LAST_SHOWN = 64  # last impressions of a listener that count
FADES_MS = 24 * 60 * 60 * 1000  # an impression of this age counts half
CHOICE_MS = 30 * 1000  # what was shown so shortly before an item, or after it, is what the item was chosen from
TRAINED, REPEATED, COUNTED, BEGUN, IMPRESSIONS = 4, 5, 6, 7, 8  # of `State.clock`
ONE_REPEAT_IN = 50
"""With fewer repeats the stacker learns as if there were none: what was heard is no candidate."""
OWN_EVENTS = 512  # events of a history in which the listener's own plays of a candidate are counted
OWN_HALF_LIFE = 20.0  # events after which a play of one's own counts half as much
OWN_CANDIDATES = 64  # items played last that are candidates whatever the graph says
POOL = 40  # popular items, and items popular of late, that are always candidates


@dataclass(frozen=True, slots=True)
class NextTrackSettings:
    """The settings; the defaults are for any log."""

    neighbours: int = 256  # kept of an item at most; `WAYS` or a power of two times it, so that it can be halved
    lags: int = 60  # how many earlier events an event links to
    anchors: int = 30  # how many of a history's last liked items bring candidates
    candidates: int = 192  # left for the stacker
    # half_life, recent_half_life: in events, of weights and of what is popular of late
    half_life: int = 300_000
    recent_half_life: int = 3_000
    # near_lag, wide_lag, near_rank, wide_rank: exponents of the kernels over lags (learning) and ranks (serving)
    near_lag: float = 1.0
    wide_lag: float = 0.3
    near_rank: float = 1.2
    wide_rank: float = 0.3
    learning_rate: float = 0.1
    vector_rate: float = 0.1
    # events that the stacker all learns from; then its share falls with the square of their number
    trained_fully: int = 25_000
    least_share: float = 0.1  # of the events that the stacker learns from in the end
    most_links: int = 1 << 26  # neighbours of all items together; when there are more items, each keeps half as many
    # most_items, most_users, most_events: kept; the lightest items and the users longest away are forgotten first
    most_items: int = 200_000
    most_users: int = 1_000_000
    most_events: int = 1 << 22
    most_impressions: int = 1 << 18


DEFAULTS = NextTrackSettings()


class State(NamedTuple):
    """All that is learned; n items, u users, a ring of e events."""

    neighbours: Rows  # shape (n, K): item rows; -1 in free places
    weights: Floats  # shape (n, K, 3): with forward decay: an event weighs 2 ** (events since `clock[2]` / half-life)
    # plays, recent: shape (n,): liked events of each item with slow and with fast forward decay
    plays: Doubles
    recent: Doubles
    damped: Floats  # shape (n,): (plays + 2) ** -0.5 when the item was last played
    pool: Rows  # shape (2 * POOL,)
    # inputs, outputs: shape (n, DIMENSIONS): an item's vector as part of a history, and as what is played next
    inputs: Floats
    outputs: Floats
    # shape (n, 2): Adagrad's sums of both
    vector_squares: Floats
    # ring_items, ring_values, ring_times, ring_previous: shape (e,): the last events, and the user's event before each
    ring_items: Rows
    ring_values: Floats
    ring_times: Ints
    ring_previous: Ints
    # shown_items, shown_times, shown_previous: shape (s,): the last impressions, and the user's one before each
    shown_items: Rows
    shown_times: Ints
    shown_previous: Ints
    # user_last, user_shown: shape (u,): the last event and the last impression; -1 without one
    user_last: Ints
    user_shown: Ints
    # stacker, squares: shape (1 + GROUPS, FEATURES): shared weights and those of each group; Adagrad's sums
    stacker: Doubles
    squares: Doubles
    # shape (4, FEATURES): of the features: standard deviations; [1, 0] counts the requests; variances; means
    scales: Doubles
    # hidden, hidden_squares: shape (FEATURES + 2, HIDDEN): weights of the hidden units: of the features, of the
    # history's length, and biases
    hidden: Floats
    hidden_squares: Floats
    # output, output_squares: shape (HIDDEN,)
    output: Floats
    output_squares: Floats
    # shape (9,): events learned, items in the pool, where slow and fast decay begin; events that trained the stacker,
    # and how many of these were of an item that the user had heard; events and impressions, events when the chunk
    # began, impressions of known items
    clock: Ints


BY_ITEM = ("neighbours", "weights", "plays", "recent", "damped", "inputs", "outputs", "vector_squares")
BY_USER = ("user_last", "user_shown")
BY_EVENT = ("ring_items", "ring_values", "ring_times", "ring_previous")
BY_IMPRESSION = ("shown_items", "shown_times", "shown_previous")


class Events(NamedTuple):
    """Events as columns, rows instead of ids; all of shape (n,)."""

    users: Ints
    items: Rows
    values: Floats
    times_ms: Ints
    shown: NDArray[np.bool_]  # whether the item was on the screen, and no more; its row is -1 where it is not known
    teaches: NDArray[np.bool_]  # the vectors
    trains: NDArray[np.bool_]  # the stacker, if it teaches the vectors or was chosen from what was shown


class Histories(NamedTuple):
    """Histories one after another, oldest event first; row i is [starts[i], starts[i + 1]), asked at `now_ms[i]`."""

    items: Rows
    values: Floats
    times_ms: Ints
    starts: Ints
    now_ms: Ints
    exclude: bool
    # what was shown: the same, of row i [shown_starts[i], shown_starts[i + 1])
    shown_items: Rows
    shown_times: Ints
    shown_starts: Ints


class Questions(NamedTuple):
    """Rows of the users to rank for."""

    users: Ints
    now_ms: Ints
    exclude: bool


class Cells(NamedTuple):
    """Constants of one chunk of events."""

    growth: float
    recent_growth: float
    near_lags: Floats
    wide_lags: Floats
    near_ranks: Floats
    wide_ranks: Floats
    most: int
    learning_rate: float
    vector_rate: float
    seed: int
    fades: Floats
    # ranks, evenly: weights of the vectors of a history's last liked items, which learn, and which only describe it
    ranks: Floats
    evenly: Floats


class Scratch(NamedTuple):
    """Working memory, of no meaning between calls.

    `place_of` is -1 everywhere then, but for one entry more than there are items: that is for what is no candidate, and
    names the last row of `sums`. `session` counts the last events of a history that belong to the present session, and
    `shown` has the last impressions of its user, newest first: `asked` says how many, the moment of the question, and
    the moment from which they do not count.
    """

    place_of: Rows
    candidates: Rows
    sums: Floats
    rough: Floats
    histogram: Rows
    features: Floats
    mantissas: Rows
    scores: Floats
    errors: Doubles
    units: Floats
    slopes: Floats
    items: Rows
    values: Floats
    times: Ints
    session: Ints
    shown: Rows
    shown_times: Ints
    asked: Ints
    history: Floats
    slope: Floats
    drawn: Rows
    drawn_errors: Floats


def cells_of(settings: NextTrackSettings, seed: int) -> Cells:
    """Return the constants of the first chunk."""
    lags, ranks = np.arange(1, settings.lags + 1), np.arange(1, settings.anchors + 1)
    return Cells(
        growth=1.0,
        recent_growth=1.0,
        near_lags=(lags**-settings.near_lag).astype(np.float32),
        wide_lags=(lags**-settings.wide_lag).astype(np.float32),
        near_ranks=(ranks**-settings.near_rank).astype(np.float32),
        wide_ranks=(ranks**-settings.wide_rank).astype(np.float32),
        most=settings.candidates,
        learning_rate=settings.learning_rate,
        vector_rate=settings.vector_rate,
        seed=seed,
        fades=(0.5 ** (np.arange(OWN_EVENTS) / OWN_HALF_LIFE)).astype(np.float32),
        ranks=(np.arange(1, VECTOR_ITEMS + 1) ** -VECTOR_RANK).astype(np.float32),
        evenly=np.ones(LONG_ITEMS, dtype=np.float32),
    )


def scratch_for(items: int, settings: NextTrackSettings) -> Scratch:
    """Return working memory for a number of items."""
    kept = settings.candidates + 2 * POOL
    return Scratch(
        place_of=np.append(np.full(items, -1), items).astype(np.int32),
        candidates=np.zeros(items + 1, dtype=np.int32),
        sums=np.zeros((items + 1, SUMS), dtype=np.float32),
        rough=np.zeros(items, dtype=np.float32),
        histogram=np.zeros(1 << 12, dtype=np.int32),
        features=np.zeros((FEATURES, kept), dtype=np.float32),
        mantissas=np.zeros(kept, dtype=np.int32),
        scores=np.zeros(kept, dtype=np.float32),
        errors=np.zeros(kept),
        units=np.zeros((HIDDEN, kept), dtype=np.float32),
        slopes=np.zeros((FEATURES + 2, HIDDEN), dtype=np.float32),
        items=np.zeros(NEWEST, dtype=np.int32),
        values=np.zeros(NEWEST, dtype=np.float32),
        times=np.zeros(NEWEST, dtype=np.int64),
        session=np.zeros(1, dtype=np.int64),
        shown=np.zeros(LAST_SHOWN, dtype=np.int32),
        shown_times=np.zeros(LAST_SHOWN, dtype=np.int64),
        asked=np.zeros(3, dtype=np.int64),
        history=np.zeros(DIMENSIONS, dtype=np.float32),
        slope=np.zeros(DIMENSIONS, dtype=np.float32),
        drawn=np.zeros(1 + NEGATIVES, dtype=np.int32),
        drawn_errors=np.zeros(1 + NEGATIVES, dtype=np.float32),
    )


def empty_state(settings: NextTrackSettings, items: int = 0, seed: int = 0) -> State:
    """Return the arrays before the first event, with room for that number of items."""
    if settings.neighbours % WAYS:
        raise ValueError(f"{settings.neighbours} neighbours are not a multiple of {WAYS}")
    return State(
        neighbours=np.full((items, settings.neighbours), -1, dtype=np.int32),
        weights=np.zeros((items, settings.neighbours, 3), dtype=np.float32),
        plays=np.zeros(items),
        recent=np.zeros(items),
        damped=np.zeros(items, dtype=np.float32),
        pool=np.zeros(2 * POOL, dtype=np.int32),
        inputs=np.zeros((items, DIMENSIONS), dtype=np.float32),
        outputs=np.zeros((items, DIMENSIONS), dtype=np.float32),
        vector_squares=np.zeros((items, 2), dtype=np.float32),
        ring_items=np.zeros(0, dtype=np.int32),
        ring_values=np.zeros(0, dtype=np.float32),
        ring_times=np.zeros(0, dtype=np.int64),
        ring_previous=np.zeros(0, dtype=np.int64),
        shown_items=np.zeros(0, dtype=np.int32),
        shown_times=np.zeros(0, dtype=np.int64),
        shown_previous=np.zeros(0, dtype=np.int64),
        user_last=np.zeros(0, dtype=np.int64),
        user_shown=np.zeros(0, dtype=np.int64),
        stacker=np.concatenate([FIRST_WEIGHTS[None], np.zeros((GROUPS, FEATURES))]),
        squares=np.zeros((1 + GROUPS, FEATURES)),
        scales=np.stack([np.ones(FEATURES), np.zeros(FEATURES), np.ones(FEATURES), _first_means()]),
        hidden=_first_hidden(seed, FEATURES + 2, 0.4),
        hidden_squares=np.zeros((FEATURES + 2, HIDDEN), dtype=np.float32),
        output=_first_hidden(seed + 1, 1, 0.1)[0],
        output_squares=np.zeros(HIDDEN, dtype=np.float32),
        clock=np.zeros(9, dtype=np.int64),
    )


def begun_of(clock: Ints, chunk: int) -> int:
    """Return how many events were learned when the present chunk of events and impressions began."""
    return int(clock[0] if clock[COUNTED] % chunk == 0 else clock[BEGUN])


def _first_means() -> Doubles:
    means = np.zeros(FEATURES)
    means[[11, 12]] = np.log2(LOG_OFFSET)  # what they are without skips
    return means


def _first_hidden(seed: int, rows: int, spread: float) -> Floats:
    """Return small independent weights; of more than one row, those of quiet features and the biases begin at 0."""
    drawn = [row for row in range(rows) if rows == 1 or row not in QUIET]
    weights = np.zeros((rows, HIDDEN), dtype=np.float32)
    weights[drawn] = (uniform(mix(seed, np.arange(len(drawn)))[:, None], np.arange(HIDDEN)) - 0.5) * 2 * spread
    if rows > BIAS:
        weights[BIAS] = 0
    return weights


ROWS = 4096  # rows that are narrowed together, so that this needs little memory


def narrowed(state: State, used: int) -> State:
    """Return the state with half as many neighbours an item, the heaviest of each two sets that become one.

    `used` counts rows with an item or room for one that was forgotten.
    """
    rows, width = state.neighbours.shape
    neighbours = np.full((rows, width // 2), -1, dtype=np.int32)
    weights = np.zeros((rows, width // 2, 3), dtype=np.float32)
    # a set has the neighbours of one remainder by the number of sets, so sets s and s + n / 2 become set s
    sets = width // WAYS // 2
    for begin in range(0, used, ROWS):
        part = slice(begin, min(begin + ROWS, used))
        names = _in_one(state.neighbours[part].reshape(-1, 2, sets, WAYS))
        values = _in_one(state.weights[part].reshape(-1, 2, sets, WAYS, 3))
        heaviest = np.argsort(np.where(names >= 0, -values[..., WIDE], np.inf), axis=2, kind="stable")[:, :, :WAYS]
        neighbours[part] = np.take_along_axis(names, heaviest, axis=2).reshape(len(names), -1)
        weights[part] = np.take_along_axis(values, heaviest[..., None], axis=2).reshape(len(names), -1, 3)
    return state._replace(neighbours=neighbours, weights=weights)


def _in_one(sets: NDArray[Any]) -> NDArray[Any]:
    n, _, count, ways, *rest = sets.shape
    return np.moveaxis(sets, 1, 2).reshape(n, count, 2 * ways, *rest)


def popular(plays: NDArray[np.float64], recent: NDArray[np.float64]) -> Rows:
    """Return the most popular items, then those popular of late that are not among them."""
    chosen: list[int] = []
    for worth in (plays, recent):
        best = np.argsort(-worth, kind="stable") if len(worth) <= POOL else _best(worth, POOL)
        chosen += [row for row in best.tolist() if worth[row] > 0]
    return np.array(list(dict.fromkeys(chosen)), dtype=np.int32)


def _best(worth: NDArray[np.float64], n: int) -> Ints:
    threshold = np.partition(worth, len(worth) - n)[len(worth) - n]
    rows = np.flatnonzero(worth >= threshold)
    return rows[np.argsort(-worth[rows], kind="stable")][:n]
