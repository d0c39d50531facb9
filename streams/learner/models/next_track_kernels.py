"""The inner loops of `next_track`, compiled by numba.

All arithmetic on the graph, the vectors and the features is float32 in a fixed order, so that every machine has the
same bytes there.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from botify.streams.learner.models.next_track_gradients import (
    context_of,
    dot,
    errors,
    group_of,
    learn_vectors,
    rescale,
    score,
    step,
    step_hidden,
    sum_history,
)
from botify.streams.learner.models.next_track_state import (
    BACKWARD,
    CHOICE_MS,
    COUNTED,
    CUT_WIDE,
    FADES_MS,
    FORWARD,
    HEARD,
    IGNORED,
    IMPRESSIONS,
    LOG_OFFSET,
    LOGARITHMS,
    LONG_VECTOR,
    ONE_REPEAT_IN,
    OWN,
    OWN_CANDIDATES,
    OWN_LATE,
    OWN_RANK,
    REPEATED,
    SESSION,
    SESSION_GAP_MS,
    SHOWN,
    SKIP_BELOW,
    SKIPS,
    SKIPS_NEAR,
    SKIPS_WIDE,
    TRAINED,
    VECTOR,
    WAYS,
    WIDE,
    Cells,
    Events,
    Histories,
    Questions,
    Scratch,
    State,
)

_ABSENT = -1
KEPT = np.float32(1e6)  # more than any sum of products
_FOR_EVER = np.iinfo(np.int64).max


@njit(cache=True)
def learn_events(state: State, events: Events, cells: Cells, scratch: Scratch) -> None:
    """Learn from the events of a chunk, one after the other."""
    for at in range(len(events.items)):
        user, item, value, now_ms = events.users[at], events.items[at], events.values[at], events.times_ms[at]
        state.clock[COUNTED] += 1
        if events.shown[at]:
            _show(state, user, item, now_ms)
            continue
        if value > 0:
            may_train = events.teaches[at] or state.user_shown[user] >= 0
            trains = may_train and events.trains[at] and not _is_tied(state, user, now_ms)
            known = _recall(state, user, now_ms, len(scratch.items) if trains else len(cells.near_lags), scratch)
            is_chosen = trains and _is_chosen(item, known, scratch)
            if is_chosen or (trains and events.teaches[at]):
                _train(state, item, value, known, cells, scratch)
            if events.teaches[at]:
                learn_vectors(state, item, value, known, cells, scratch)
            _link(state, item, value, min(known, len(cells.near_lags)), cells, scratch)
            state.plays[item] += cells.growth * value
            state.recent[item] += cells.recent_growth * value
            state.damped[item] = np.float32(1.0 / math.sqrt(state.plays[item] / cells.growth + 2.0))
        _remember(state, user, item, value, now_ms)


@njit(cache=True)
def rank_users(
    state: State, asked: Questions, cells: Cells, scratch: Scratch, items: np.ndarray, scores: np.ndarray
) -> None:
    """Write the best `items` and their `scores` for each question, shape (n, k); -1 and -inf where there are fewer."""
    for row in range(len(asked.users)):
        known = _recall(state, asked.users[row], asked.now_ms[row], len(scratch.items), scratch)
        _rank(state, known, asked.exclude, cells, scratch, items[row], scores[row])


@njit(cache=True)
def rank_histories(
    state: State, histories: Histories, cells: Cells, scratch: Scratch, items: np.ndarray, scores: np.ndarray
) -> None:
    """Write the best `items` and their `scores` for each history, as `rank_users`."""
    for row in range(len(histories.starts) - 1):
        known, next_ms, is_session = 0, histories.now_ms[row], True
        scratch.session[0] = 0
        for at in range(histories.starts[row + 1] - 1, histories.starts[row] - 1, -1):
            if histories.items[at] >= 0 and known < len(scratch.items):
                scratch.items[known] = histories.items[at]
                scratch.values[known] = histories.values[at]
                scratch.times[known] = histories.times_ms[at]
                known += 1
                is_session = is_session and _is_one_session(histories.times_ms[at], next_ms)
                scratch.session[0] += is_session
                next_ms = histories.times_ms[at]
        count = 0
        for at in range(histories.shown_starts[row + 1] - 1, histories.shown_starts[row] - 1, -1):
            if histories.shown_items[at] >= 0 and count < len(scratch.shown):
                scratch.shown[count] = histories.shown_items[at]
                scratch.shown_times[count] = histories.shown_times[at]
                count += 1
        _ask(count, histories.now_ms[row], scratch)
        _rank(state, known, histories.exclude, cells, scratch, items[row], scores[row])


@njit(cache=True)
def _rank(
    state: State, known: int, exclude: bool, cells: Cells, scratch: Scratch, items: np.ndarray, scores: np.ndarray
) -> None:
    if exclude:
        _exclude(scratch, known)
    found = _candidates(state, known, cells, scratch)
    score(state, known, found, scratch)
    items[:] = -1
    scores[:] = -np.inf
    for candidate in range(found):
        _insert(items, scores, scratch.candidates[candidate], scratch.scores[candidate])
    _clear(scratch, found, known)


@njit(cache=True)
def _is_tied(state: State, user: int, now_ms: int) -> bool:
    """Return whether the user's last event is of the same instant: such events do not predict each other."""
    event, size = state.user_last[user], len(state.ring_items)
    return event >= 0 and event >= state.clock[0] - size and now_ms > 0 and state.ring_times[event % size] == now_ms


@njit(cache=True)
def _is_one_session(before_ms: int, after_ms: int) -> bool:
    """Return whether two events that follow each other are of one session; they are where a time is unknown."""
    return before_ms == 0 or after_ms == 0 or after_ms - before_ms <= SESSION_GAP_MS


@njit(cache=True)
def _recall(state: State, user: int, now_ms: int, most: int, scratch: Scratch) -> int:
    """Read at most `most` events of the user, newest first; return how many there are."""
    known, size, next_ms, is_session = 0, len(state.ring_items), now_ms, True
    scratch.session[0] = 0
    event = state.user_last[user] if user >= 0 else -1
    while event >= 0 and event >= state.clock[0] - size and known < most:
        cell = event % size
        if state.ring_items[cell] >= 0:  # else it is forgotten
            scratch.items[known] = state.ring_items[cell]
            scratch.values[known] = state.ring_values[cell]
            scratch.times[known] = state.ring_times[cell]
            known += 1
            is_session = is_session and _is_one_session(state.ring_times[cell], next_ms)
            scratch.session[0] += is_session
            next_ms = state.ring_times[cell]
        event = state.ring_previous[cell]
    count, size = 0, len(state.shown_items)
    impression = state.user_shown[user] if user >= 0 else -1
    while impression >= 0 and impression >= state.clock[IMPRESSIONS] - size and count < len(scratch.shown):
        cell = impression % size
        if state.shown_items[cell] >= 0:
            scratch.shown[count] = state.shown_items[cell]
            scratch.shown_times[count] = state.shown_times[cell]
            count += 1
        impression = state.shown_previous[cell]
    _ask(count, now_ms, scratch)
    return known


@njit(cache=True)
def _ask(shown: int, now_ms: int, scratch: Scratch) -> None:
    scratch.asked[0] = shown
    scratch.asked[1] = now_ms
    scratch.asked[2] = _FOR_EVER


@njit(cache=True)
def _show(state: State, user: int, item: int, now_ms: int) -> None:
    if item < 0 or state.plays[item] == 0:  # not played yet, so nothing ranks it
        return
    impression = state.clock[IMPRESSIONS]
    cell = impression % len(state.shown_items)
    state.shown_items[cell] = item
    state.shown_times[cell] = now_ms
    state.shown_previous[cell] = state.user_shown[user]
    state.user_shown[user] = impression
    state.clock[IMPRESSIONS] = impression + 1


@njit(cache=True)
def _is_ignored(at: int, known: int, scratch: Scratch) -> bool:
    """Return whether the item of an impression was not played after it."""
    for later in range(known):
        if 0 < scratch.times[later] < scratch.shown_times[at]:
            return True
        if scratch.items[later] == scratch.shown[at]:
            return False
    return True


@njit(cache=True)
def _is_chosen(item: int, known: int, scratch: Scratch) -> bool:
    """Return whether an item was chosen from what was shown; only what was shown before that then counts."""
    for at in range(scratch.asked[0]):
        if scratch.shown[at] == item:
            shown_ms = scratch.shown_times[at]
            if not _is_ignored(at, known, scratch) or not _is_one_session(shown_ms, scratch.asked[1]):
                return False
            scratch.asked[2] = shown_ms - CHOICE_MS
            return True
    return False


@njit(cache=True)
def _remember(state: State, user: int, item: int, value: float, now_ms: int) -> None:
    event = state.clock[0]
    cell = event % len(state.ring_items)
    state.ring_items[cell] = item
    state.ring_values[cell] = value
    state.ring_times[cell] = now_ms
    state.ring_previous[cell] = state.user_last[user]
    state.user_last[user] = event
    state.clock[0] = event + 1


@njit(cache=True)
def _link(state: State, item: int, value: np.float32, used: int, cells: Cells, scratch: Scratch) -> None:
    neighbours, weights, growth = state.neighbours, state.weights, np.float32(cells.growth)
    for at in range(used):
        other, liked = scratch.items[at], scratch.values[at]
        if liked > 0 and other != item:
            weight = growth * value * liked
            near, wide = weight * cells.near_lags[at], weight * cells.wide_lags[at]
            _add(neighbours, weights, other, item, FORWARD, near, wide)
            _add(neighbours, weights, item, other, BACKWARD, near, wide)


@njit(cache=True)
def _add(
    neighbours: np.ndarray,
    weights: np.ndarray,
    item: int,
    neighbour: int,
    direction: int,
    near: np.float32,
    wide: np.float32,
) -> None:
    # Unsigned indices need no check for negative ones, and a state as an argument is copied: half the cost.
    row, column, both = np.uint64(item), np.uint64(direction), np.uint64(WIDE)
    begin = np.uint64((neighbour * 40503 >> 4) % (neighbours.shape[1] // WAYS) * WAYS)
    found = -1
    for way in range(WAYS):
        if neighbours[row, begin + np.uint64(way)] == neighbour:
            found = way
    if found >= 0:
        place = begin + np.uint64(found)
        weights[row, place, column] += near
        weights[row, place, both] += wide
        return
    found, lightest = 0, weights[row, begin, both]
    for way in range(1, WAYS):
        if weights[row, begin + np.uint64(way), both] < lightest:
            found, lightest = way, weights[row, begin + np.uint64(way), both]
    place = begin + np.uint64(found)
    neighbours[row, place] = neighbour
    weights[row, place, np.uint64(FORWARD)] = 0.0
    weights[row, place, np.uint64(BACKWARD)] = 0.0
    weights[row, place, column] = near
    weights[row, place, both] = wide


@njit(cache=True)
def _exclude(scratch: Scratch, known: int) -> None:
    for at in range(known):
        scratch.place_of[scratch.items[at]] = len(scratch.place_of) - 1


@njit(cache=True)
def _clear(scratch: Scratch, found: int, known: int) -> None:
    for at in range(found):
        scratch.place_of[scratch.candidates[at]] = _ABSENT
    for at in range(known):
        scratch.place_of[scratch.items[at]] = _ABSENT


@njit(cache=True)
def _candidates(state: State, known: int, cells: Cells, scratch: Scratch) -> int:
    found = _gather(state, known, cells, scratch)
    found = _count_own_plays(found, known, cells, scratch)
    for at in range(state.clock[1]):
        item = state.pool[at]
        if scratch.place_of[item] == _ABSENT:
            scratch.place_of[item] = found
            scratch.candidates[found] = item
            scratch.sums[found] = 0.0
            found += 1
    if found > cells.most:
        found = _cut(state, found, cells.most, scratch)
    _find_skips(state, found, known, cells, scratch)
    _count_impressions(found, known, scratch)
    _describe(state, found, known, cells, scratch)
    return found


@njit(cache=True)
def _gather(state: State, known: int, cells: Cells, scratch: Scratch) -> int:
    found, rank, in_session = 0, 0, -1
    inverse = np.float32(1.0 / cells.growth)
    one, nowhere = np.float32(1.0), len(scratch.place_of) - 1
    neighbours, weights, sums, place_of = state.neighbours, state.weights, scratch.sums, scratch.place_of
    for at in range(known):
        value = scratch.values[at]
        if value <= 0:
            continue
        if rank == len(cells.near_ranks):
            break
        if in_session < 0 and at >= scratch.session[0]:
            in_session = _end_session(sums, found)
        anchor = scratch.items[at]
        root = np.float32(1.0 / math.sqrt(state.plays[anchor] / cells.growth + 2.0))
        scale = root * inverse
        near, wide = value * cells.near_ranks[rank] * scale, value * cells.wide_ranks[rank] * scale
        wider = wide * root
        last = scale if rank == 0 else np.float32(0.0)
        latest = scale if rank < 3 else np.float32(0.0)
        row = np.uint64(anchor)
        for entry in range(neighbours.shape[1]):
            # Without branches: what is free, excluded or new is as good as random, and a wrong guess costs most.
            column = np.uint64(entry)
            item = neighbours[row, column]
            slot = np.uint64(item if item >= 0 else nowhere)
            is_new = place_of[slot] == _ABSENT
            place = np.uint64(found if is_new else place_of[slot])
            place_of[slot] = place
            scratch.candidates[np.uint64(found)] = item
            found += is_new
            kept = np.float32(0.0) if is_new else one
            forward, backward = weights[row, column, FORWARD], weights[row, column, BACKWARD]
            both = weights[row, column, WIDE]
            sums[place, 0] = kept * sums[place, 0] + near * forward
            sums[place, 1] = kept * sums[place, 1] + near * backward
            sums[place, 2] = kept * sums[place, 2] + wide * both
            sums[place, 3] = kept * sums[place, 3] + wider * both
            sums[place, 4] = max(kept * sums[place, 4], scale * both)
            sums[place, 5] = kept * sums[place, 5] + one
            sums[place, 6] = kept * sums[place, 6] + last * forward
            sums[place, 7] = kept * sums[place, 7] + latest * (forward + backward)
        rank += 1
    if in_session < 0:
        in_session = _end_session(sums, found)
    for later in range(in_session, found):
        sums[later, SESSION] = 0.0
    return found


@njit(cache=True)
def _count_own_plays(found: int, known: int, cells: Cells, scratch: Scratch) -> int:
    """Count the listener's own plays of each candidate; what was played last is one."""
    sums, place_of, distinct, positive = scratch.sums, scratch.place_of, 0, 0
    sums[:found, OWN_LATE:] = 0.0
    for at in range(min(known, len(cells.fades))):
        if scratch.values[at] <= 0:
            continue
        item = scratch.items[at]
        place = place_of[item]
        if place == _ABSENT and distinct < OWN_CANDIDATES:
            place = place_of[item] = found
            scratch.candidates[found] = item
            sums[found] = 0.0
            found += 1
        if 0 <= place < found:
            if sums[place, OWN] == 0:
                sums[place, OWN_RANK] = np.float32(positive)
                distinct += 1
            sums[place, OWN_LATE] += cells.fades[at] * scratch.values[at]
            sums[place, OWN] += scratch.values[at]
        positive += 1
    return found


@njit(cache=True)
def _end_session(sums: np.ndarray, found: int) -> int:
    """Note what the present session's events alone come to: they are the newest, and so the first."""
    for place in range(found):
        sums[place, SESSION] = sums[place, 2]
    return found


@njit(cache=True)
def _find_skips(state: State, found: int, known: int, cells: Cells, scratch: Scratch) -> None:
    sums, place_of, neighbours, weights = scratch.sums, scratch.place_of, state.neighbours, state.weights
    for place in range(found):
        sums[place, SKIPS_NEAR] = 0.0
        sums[place, SKIPS_WIDE] = 0.0
    one, skips = np.float32(1.0), 0
    for at in range(min(known, len(cells.near_ranks))):
        missed = one - np.float32(1.0 / SKIP_BELOW) * max(scratch.values[at], np.float32(0.0))
        if missed <= 0:
            continue
        anchor = scratch.items[at]
        root = np.float32(1.0 / math.sqrt(state.plays[anchor] / cells.growth + 2.0))
        scale = missed * (root * np.float32(1.0 / cells.growth))
        near, wide = scale * cells.near_ranks[at], scale * cells.wide_ranks[at]
        row = np.uint64(anchor)
        for entry in range(neighbours.shape[1]):
            column = np.uint64(entry)
            item = neighbours[row, column]
            place = place_of[np.uint64(item)] if item >= 0 else _ABSENT
            if 0 <= place < found:
                both_ways = weights[row, column, FORWARD] + weights[row, column, BACKWARD]
                sums[np.uint64(place), SKIPS_NEAR] += near * both_ways
                sums[np.uint64(place), SKIPS_WIDE] += wide * weights[row, column, WIDE]
        skips += 1
        if skips == SKIPS:
            break


@njit(cache=True)
def _count_impressions(found: int, known: int, scratch: Scratch) -> None:
    sums, one = scratch.sums, np.float32(1.0)
    for place in range(found):
        sums[place, IGNORED] = 0.0
    for at in range(scratch.asked[0]):
        place = scratch.place_of[scratch.shown[at]]
        if 0 <= place < found and scratch.shown_times[at] < scratch.asked[2] and _is_ignored(at, known, scratch):
            age = np.float32(max(scratch.asked[1] - scratch.shown_times[at], 0)) / np.float32(FADES_MS)
            sums[place, IGNORED] += one / (one + age)


@njit(cache=True)
def _cut(state: State, found: int, most: int, scratch: Scratch) -> int:
    """Keep about the `most` best by a sum of products; whole buckets of a histogram of float32 bit patterns."""
    rough = scratch.rough[:found]
    for place in range(found):
        sums = scratch.sums[place]
        near = sums[0] + np.float32(0.5) * sums[1]
        rough[place] = (near + np.float32(CUT_WIDE) * sums[2]) * state.damped[scratch.candidates[place]]
        if sums[OWN] > 0 and sums[OWN_RANK] < OWN_CANDIDATES:
            rough[place] += KEPT
    bits = rough.view(np.int32)
    histogram = scratch.histogram
    histogram[:] = 0
    for place in range(found):
        histogram[bits[place] >> 19] += 1
    bucket, above = len(histogram) - 1, 0
    while bucket > 0 and above + histogram[bucket] <= most:
        above += histogram[bucket]
        bucket -= 1
    room, kept = most - above, 0
    for place in range(found):
        item = scratch.candidates[place]
        level = bits[place] >> 19
        if level > bucket or (level == bucket and room > 0):
            if level == bucket:
                room -= 1
            scratch.candidates[kept] = item
            scratch.sums[kept] = scratch.sums[place]
            scratch.place_of[item] = kept
            kept += 1
        else:
            scratch.place_of[item] = _ABSENT
    return kept


@njit(cache=True)
def _describe(state: State, found: int, known: int, cells: Cells, scratch: Scratch) -> None:
    features = scratch.features
    offset, one = np.float32(LOG_OFFSET), np.float32(1.0)
    for place in range(found):
        sums, item = scratch.sums[place], scratch.candidates[place]
        for column in range(8):
            features[column, place] = sums[column] + (one if column == 5 else offset)
        features[8, place] = np.float32(state.plays[item] / cells.growth) + one
        features[9, place] = np.float32(state.recent[item] / cells.recent_growth) + np.float32(0.3)
        root = np.float32(1.0) / np.sqrt(features[8, place] + one)
        features[10, place] = sums[SESSION] + offset
        features[11, place] = sums[SKIPS_NEAR] + offset
        features[12, place] = sums[SKIPS_WIDE] + offset
        features[13, place] = sums[OWN_LATE] + offset
        features[14, place] = sums[OWN] + one
        features[15, place] = sums[OWN_RANK] + one
        features[16, place] = (sums[0] + np.float32(0.5) * sums[1]) * root
        features[17, place] = sums[2] * root
        features[18, place] = sums[4] * root
        features[19, place] = one if sums[5] == 0 else np.float32(0.0)
        features[HEARD, place] = one if sums[OWN] > 0 else np.float32(0.0)
        features[SHOWN, place] = sums[IGNORED] / (one + sums[IGNORED])
    sum_history(state, known, cells.ranks, scratch)
    for place in range(found):
        features[VECTOR, place] = dot(scratch.history, state.outputs[scratch.candidates[place]])
    used = sum_history(state, known, cells.evenly, scratch)
    scale = np.float32(1.0 / math.sqrt(max(used, 1)))
    for place in range(found):
        features[LONG_VECTOR, place] = scale * dot(scratch.history, state.outputs[scratch.candidates[place]])
    for row in range(LOGARITHMS):
        _log2(features[row, :found], scratch.mantissas[:found], scratch.mantissas[:found].view(np.float32))
    is_split = 0 < scratch.session[0] < known
    for place in range(found):
        features[10, place] = features[10, place] - features[2, place] if is_split else np.float32(0.0)
    usual, counted = np.float32(0.0), 0
    for at in range(min(known, 20)):
        if scratch.values[at] > 0:
            usual += np.float32(math.log2(state.plays[scratch.items[at]] / cells.growth + 1.0))
            counted += 1
    if counted:
        usual = usual / np.float32(counted)
    for place in range(found):
        features[20, place] = abs(features[8, place] - usual)


@njit(cache=True)
def _log2(values: np.ndarray, mantissas: np.ndarray, between: np.ndarray) -> None:
    """Replace positive float32 by their logarithm to base 2, to about 1e-4; without branches, the loops vectorise."""
    bits = values.view(np.int32)
    for at in range(len(values)):
        mantissas[at] = (bits[at] & 0x007FFFFF) | 0x3F800000
    for at in range(len(values)):
        m = between[at]
        p = np.float32(-0.056570851) * m + np.float32(0.44717955)
        p = p * m + np.float32(-1.4699568)
        p = p * m + np.float32(2.8212026)
        p = p * m + np.float32(-1.7417939)
        values[at] = np.float32((bits[at] >> 23) - 127) + p


@njit(cache=True)
def _insert(items: np.ndarray, scores: np.ndarray, item: int, score: np.float32) -> None:
    place = len(items) - 1
    if score < scores[place] or (score == scores[place] and item > items[place] >= 0):
        return
    while place > 0 and (score > scores[place - 1] or (score == scores[place - 1] and item < items[place - 1])):
        items[place] = items[place - 1]
        scores[place] = scores[place - 1]
        place -= 1
    items[place] = item
    scores[place] = score


@njit(cache=True)
def _train(state: State, item: int, value: np.float32, known: int, cells: Cells, scratch: Scratch) -> None:
    """Take one step towards the item that was played, among those that would have been served, or that were shown."""
    is_repeat = _is_heard(scratch, item, known)
    state.clock[TRAINED] += 1
    state.clock[REPEATED] += is_repeat
    repeats = state.clock[REPEATED] * ONE_REPEAT_IN > state.clock[TRAINED]
    if not repeats:
        _exclude(scratch, known)
    found = 0
    if repeats or not is_repeat:
        found = _candidates(state, known, cells, scratch)
        target = scratch.place_of[item]
        if target >= 0 and found > 1:
            rescale(state, found, scratch)
            score(state, known, found, scratch)
            _leave_out_others(found, scratch)
            errors(target, found, min(float(value), 1.0), scratch)
            step(state, group_of(known), found, cells.learning_rate, scratch)
            step_hidden(state, context_of(known), found, np.float32(cells.learning_rate), scratch)
    _clear(scratch, found, known)


@njit(cache=True)
def _leave_out_others(found: int, scratch: Scratch) -> None:
    """Give candidates that could not be chosen, because they were not shown, no chance."""
    if scratch.asked[2] == _FOR_EVER:
        return
    scratch.errors[:found] = 0.0  # which are computed next: until then, what was shown has 1
    for at in range(scratch.asked[0]):
        place = scratch.place_of[scratch.shown[at]]
        if 0 <= place < found and scratch.shown_times[at] >= scratch.asked[2]:
            scratch.errors[place] = 1.0
    for place in range(found):
        if scratch.errors[place] == 0:
            scratch.scores[place] = -np.inf


@njit(cache=True)
def _is_heard(scratch: Scratch, item: int, known: int) -> bool:
    for at in range(known):  # noqa: SIM110 - numba compiles no generator here
        if scratch.items[at] == item:
            return True
    return False
