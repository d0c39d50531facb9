"""The inner loops of `next_track` in numpy: the reference that the compiled loops are held to."""

import math

import numpy as np

from botify.streams.learner.models.next_track_state import (
    ADAGRAD_START,
    ADAGRAD_START_HIDDEN,
    BACKWARD,
    BIAS,
    CONTEXT,
    CUT_WIDE,
    FEATURES,
    FORWARD,
    HIDDEN,
    LEAK,
    LEAST_VARIANCE,
    LEAST_VARIANCE_OF_QUIET,
    LOG_OFFSET,
    LOGARITHMS,
    NEGLIGIBLE,
    NEWEST,
    QUIET,
    SESSION,
    SESSION_GAP_MS,
    SKIP_BELOW,
    SKIPS,
    SKIPS_NEAR,
    SKIPS_WIDE,
    SUMS,
    WAYS,
    WIDE,
    Cells,
    Doubles,
    Events,
    Floats,
    Histories,
    Ints,
    Questions,
    Rows,
    Scratch,
    State,
)

_F = np.float32


def learn_events(state: State, events: Events, cells: Cells, scratch: Scratch) -> None:
    """Learn from the events of a chunk, one after the other."""
    for user, item, value, now_ms, trains in zip(*(column.tolist() for column in events), strict=True):
        if value > 0:
            heard, liked, times = _history(state, user)
            if trains and not (now_ms > 0 and (times[:1] == now_ms).any()):
                _train(state, item, value, heard, liked, _in_session(times, now_ms), cells)
            _link(state, item, _F(value), heard[: len(cells.near_lags)], liked[: len(cells.near_lags)], cells)
            state.plays[item] += cells.growth * value
            state.recent[item] += cells.recent_growth * value
            state.damped[item] = 1.0 / math.sqrt(state.plays[item] / cells.growth + 2.0)
        _remember(state, user, item, value, now_ms)


def rank_users(state: State, asked: Questions, cells: Cells, scratch: Scratch, items: Rows, scores: Floats) -> None:
    """Write the best `items` and their `scores` for each question, shape (n, k)."""
    for row, user in enumerate(asked.users.tolist()):
        history = _history(state, user)
        items[row], scores[row] = _rank(state, *history, asked.now_ms[row], asked.exclude, cells, items)


def rank_histories(
    state: State, histories: Histories, cells: Cells, scratch: Scratch, items: Rows, scores: Floats
) -> None:
    """Write the best `items` and their `scores` for each history, as `rank_users`."""
    for row in range(len(histories.starts) - 1):
        rows = np.arange(histories.starts[row], histories.starts[row + 1])[::-1]
        rows = rows[histories.items[rows] >= 0][:NEWEST]
        history = histories.items[rows], histories.values[rows], histories.times_ms[rows]
        items[row], scores[row] = _rank(state, *history, histories.now_ms[row], histories.exclude, cells, items)


def _rank(
    state: State, heard: Rows, liked: Floats, times: Ints, now_ms: int, exclude: bool, cells: Cells, items: Rows
) -> tuple[Rows, Floats]:
    excluded = heard if exclude else heard[:0]
    found, features = _candidates(state, heard, liked, _in_session(times, now_ms), excluded, cells)
    scored = _score(state, len(heard), features)[0]
    ranked, scores = np.full_like(items[0], -1), np.full(items.shape[1], -np.inf, dtype=np.float32)
    best = np.lexsort((found, -scored))[: items.shape[1]]
    ranked[: len(best)], scores[: len(best)] = found[best], scored[best]
    return ranked, scores


def _history(state: State, user: int) -> tuple[Rows, Floats, Ints]:
    """Return the items, values and times of the user's kept events, newest first."""
    size = len(state.ring_items)
    cells: list[int] = []
    event = int(state.user_last[user]) if user >= 0 else -1
    while event >= 0 and event >= state.clock[0] - size and len(cells) < NEWEST:
        if state.ring_items[event % size] >= 0:
            cells.append(event % size)
        event = int(state.ring_previous[event % size])
    return state.ring_items[cells], state.ring_values[cells], state.ring_times[cells]


def _in_session(times: Ints, now_ms: int) -> int:
    """Return how many of the newest events are of the present session; an unknown time ends none."""
    following = np.concatenate([[now_ms], times[:-1]])[: len(times)]
    ends = (times != 0) & (following != 0) & (following - times > SESSION_GAP_MS)
    return int(np.argmax(ends)) if ends.any() else len(times)


def _remember(state: State, user: int, item: int, value: float, now_ms: int) -> None:
    event = int(state.clock[0])
    cell = event % len(state.ring_items)
    state.ring_items[cell], state.ring_values[cell], state.ring_times[cell] = item, value, now_ms
    state.ring_previous[cell] = state.user_last[user]
    state.user_last[user] = event
    state.user_events[user] += 1
    state.clock[0] = event + 1


def _link(state: State, item: int, value: np.float32, others: Rows, liked: Floats, cells: Cells) -> None:
    weights = _F(cells.growth) * value * liked
    near, wide = weights * cells.near_lags[: len(others)], weights * cells.wide_lags[: len(others)]
    for at in np.flatnonzero((liked > 0) & (others != item)).tolist():
        _add(state, int(others[at]), item, FORWARD, near[at], wide[at])
        _add(state, item, int(others[at]), BACKWARD, near[at], wide[at])


def _add(state: State, row: int, neighbour: int, direction: int, near: np.float32, wide: np.float32) -> None:
    """Add to a neighbour's weights; one that is new takes the place of the lightest of its set."""
    begin = (neighbour * 40503 >> 4) % (state.neighbours.shape[1] // WAYS) * WAYS
    neighbours, weights = state.neighbours[row, begin : begin + WAYS], state.weights[row, begin : begin + WAYS]
    known = np.flatnonzero(neighbours == neighbour)
    place = known[0] if len(known) else np.argmin(weights[:, WIDE])
    if not len(known):
        neighbours[place] = neighbour
        weights[place] = 0
    weights[place, direction] += near
    weights[place, WIDE] += wide


def _candidates(
    state: State, heard: Rows, liked: Floats, in_session: int, excluded: Rows, cells: Cells
) -> tuple[Rows, Floats]:
    """Return the candidates of a history, newest first, and their features, shape (FEATURES, candidates)."""
    found, sums = _gather(state, heard, liked, in_session, excluded, cells)
    popular = state.pool[: state.clock[1]]
    popular = popular[~np.isin(popular, found) & ~np.isin(popular, excluded)]
    found = np.concatenate([found, popular])
    sums = np.concatenate([sums, np.zeros((len(popular), SUMS), dtype=np.float32)])
    if len(found) > cells.most:
        kept = _cut(state, found, sums, cells.most)
        found, sums = found[kept], sums[kept]
    sums[:, [SKIPS_NEAR, SKIPS_WIDE]] = _skips(state, found, heard, liked, cells)
    return found, _features(state, found, sums, heard, liked, in_session, cells)


def _gather(
    state: State, heard: Rows, liked: Floats, in_session: int, excluded: Rows, cells: Cells
) -> tuple[Rows, Floats]:
    """Return the neighbours of the last liked items in the order in which they are met, and their sums."""
    positive = np.flatnonzero(liked > 0)[: len(cells.near_ranks)]
    anchors, values = heard[positive], liked[positive]
    near_by = state.neighbours[anchors]
    usable = (near_by >= 0) & ~np.isin(near_by, excluded)
    names, first = np.unique(near_by[usable], return_index=True)
    found = names[np.argsort(first)]
    sums = np.zeros((len(found), SUMS), dtype=np.float32)
    place_of = np.full(len(state.plays), -1)
    place_of[found] = np.arange(len(found))
    for rank, anchor in enumerate(anchors.tolist()):
        root = _F(1.0 / math.sqrt(state.plays[anchor] / cells.growth + 2.0))
        scale = root * _F(1.0 / cells.growth)
        near, wide = values[rank] * cells.near_ranks[rank] * scale, values[rank] * cells.wide_ranks[rank] * scale
        forward, backward, both = state.weights[anchor, usable[rank]].T
        at = place_of[near_by[rank, usable[rank]]]
        sums[at, 0] += near * forward
        sums[at, 1] += near * backward
        sums[at, 2] += wide * both
        if positive[rank] < in_session:
            sums[at, SESSION] += wide * both
        sums[at, 3] += wide * root * both
        sums[at, 4] = np.maximum(sums[at, 4], scale * both)
        sums[at, 5] += _F(1)
        if rank == 0:
            sums[at, 6] += scale * forward
        if rank < 3:
            sums[at, 7] += scale * (forward + backward)
    return found, sums


def _skips(state: State, found: Rows, heard: Rows, liked: Floats, cells: Cells) -> Floats:
    """Return how near the candidates are to what was skipped, shape (candidates, 2)."""
    sums = np.zeros((len(found), 2), dtype=np.float32)
    missed = _F(1) - _F(1 / SKIP_BELOW) * np.maximum(liked[: len(cells.near_ranks)], _F(0))
    for at in np.flatnonzero(missed > 0)[:SKIPS].tolist():
        root = _F(1.0 / math.sqrt(state.plays[heard[at]] / cells.growth + 2.0))
        scale = missed[at] * (root * _F(1.0 / cells.growth))
        row = state.neighbours[heard[at]]
        _, entries, places = np.intersect1d(row, found, assume_unique=False, return_indices=True)
        forward, backward, both = state.weights[heard[at], entries].T
        sums[places, 0] += scale * cells.near_ranks[at] * (forward + backward)
        sums[places, 1] += scale * cells.wide_ranks[at] * both
    return sums


def _cut(state: State, found: Rows, sums: Floats, most: int) -> Ints:
    """Return about the `most` best by a sum of products, in order; whole buckets of float32 bit patterns."""
    rough = (sums[:, 0] + _F(0.5) * sums[:, 1] + _F(CUT_WIDE) * sums[:, 2]) * state.damped[found]
    levels = rough.view(np.int32) >> 19
    threshold = np.sort(levels)[-most - 1]
    kept = levels > threshold
    at_threshold = np.flatnonzero(levels == threshold)[: most - int(kept.sum())]
    kept[at_threshold] = True
    return np.flatnonzero(kept)


def _features(
    state: State, found: Rows, sums: Floats, heard: Rows, liked: Floats, in_session: int, cells: Cells
) -> Floats:
    features = np.zeros((FEATURES, len(found)), dtype=np.float32)
    features[:8] = sums.T[:8] + _F(LOG_OFFSET)
    features[5] = sums[:, 5] + _F(1)
    features[8] = (state.plays[found] / cells.growth).astype(np.float32) + _F(1)
    features[9] = (state.recent[found] / cells.recent_growth).astype(np.float32) + _F(0.3)
    root = _F(1) / np.sqrt(features[8] + _F(1))
    features[10:13] = sums.T[[SESSION, SKIPS_NEAR, SKIPS_WIDE]] + _F(LOG_OFFSET)
    features[13] = (sums[:, 0] + _F(0.5) * sums[:, 1]) * root
    features[14] = sums[:, 2] * root
    features[15] = sums[:, 4] * root
    features[16] = sums[:, 5] == 0
    features[:LOGARITHMS] = _log2(features[:LOGARITHMS])
    features[10] = features[10] - features[2] if 0 < in_session < len(heard) else 0
    usual = _F(0)
    positive = heard[:20][liked[:20] > 0]
    for item in positive.tolist():
        usual += _F(math.log2(state.plays[item] / cells.growth + 1.0))
    if len(positive):
        usual = usual / _F(len(positive))
    features[17] = np.abs(features[8] - usual)
    return features


def _log2(values: Floats) -> Floats:
    """Return logarithms to base 2 of positive float32, to about 1e-4."""
    bits = values.view(np.int32)
    m = ((bits & 0x007FFFFF) | 0x3F800000).view(np.float32)
    p = _F(-0.056570851) * m + _F(0.44717955)
    p = p * m + _F(-1.4699568)
    p = p * m + _F(2.8212026)
    p = p * m + _F(-1.7417939)
    logarithms: Floats = ((bits >> 23) - 127).astype(np.float32) + p
    return logarithms


def _group(known: int) -> int:
    return 1 + sum(known >= least for least in (6, 15, 40))


def _context(known: int) -> np.float32:
    return _F(0.5 * math.log(known + 1.0) - 1.0)


def _score(state: State, known: int, features: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the scores, the standardised features, and the hidden units, shape (candidates, HIDDEN)."""
    weights = (state.stacker[0] + state.stacker[_group(known)]).astype(np.float32)
    means, scales = state.scales[3].astype(np.float32), (1.0 / state.scales[0]).astype(np.float32)
    standard: Floats = (features - means[:, None]) * scales[:, None]
    scores = np.zeros(features.shape[1], dtype=np.float32)
    units = np.tile(state.hidden[BIAS] + _context(known) * state.hidden[CONTEXT], (len(scores), 1))
    for feature, row in enumerate(standard):
        scores += weights[feature] * row
        units += row[:, None] * state.hidden[feature]
    units = np.maximum(units, _F(LEAK) * units)
    for column in range(HIDDEN):
        scores += units[:, column] * state.output[column]
    return scores, standard, units


def _train(state: State, item: int, value: float, heard: Rows, liked: Floats, in_session: int, cells: Cells) -> None:
    """Take one step towards the item that was played, among those that would have been served."""
    if item in heard:
        return
    found, features = _candidates(state, heard, liked, in_session, heard, cells)
    target = np.flatnonzero(found == item)
    if not len(target) or len(found) < 2:
        return
    _rescale(state, features.astype(np.float64))
    scores, standard, units = _score(state, len(heard), features)
    chances = np.exp((scores - scores.max()).astype(np.float64))
    errors = chances * (min(value, 1.0) / chances.sum())
    errors[target] -= min(value, 1.0)
    slopes = standard.astype(np.float64) @ errors
    for part in (0, _group(len(heard))):
        state.squares[part] += slopes**2
        state.stacker[part] -= cells.learning_rate * slopes / np.sqrt(ADAGRAD_START + state.squares[part])
    _step_hidden(state, _context(len(heard)), errors.astype(np.float32), standard, units, _F(cells.learning_rate))


def _rescale(state: State, features: Doubles) -> None:
    """Follow each feature's mean, and its standard deviation within a request."""
    state.scales[1, 0] += 1
    rate = max(1.0 / (state.scales[1, 0] + 10.0), 1e-4)
    least = np.full(FEATURES, LEAST_VARIANCE)
    least[list(QUIET)] = LEAST_VARIANCE_OF_QUIET
    state.scales[2] += rate * (np.maximum(features.var(axis=1), least) - state.scales[2])
    state.scales[3] += rate * (features.mean(axis=1) - state.scales[3])
    state.scales[0] = np.sqrt(state.scales[2])


def _step_hidden(
    state: State, context: np.float32, errors: Floats, standard: Floats, units: Floats, rate: np.float32
) -> None:
    moved = np.abs(errors) >= NEGLIGIBLE
    errors, standard, units = errors[moved], standard[:, moved], units[moved]
    inward = errors[:, None] * state.output * np.where(units > 0, _F(1), _F(LEAK))
    biases = inward.sum(axis=0)
    slopes = np.concatenate([standard @ inward, [context * biases], [biases]])
    output = errors @ units
    state.output_squares[:] += output**2
    state.output[:] -= rate * output / np.sqrt(_F(ADAGRAD_START_HIDDEN) + state.output_squares)
    state.hidden_squares[:] += slopes**2
    state.hidden[:] -= rate * slopes / np.sqrt(_F(ADAGRAD_START_HIDDEN) + state.hidden_squares)
