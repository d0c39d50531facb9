"""Off-policy evaluation of slates: several tracks shown together, of which the listener hears some or none.

What `/v1` logs of a slate is the probability of each track given the request and the tracks before it. That is enough
for two weights, each the ratio of the target policy's probability to the logging policy's:

- **of the whole slate**, the product over all places: no assumption on the listener, but a variance that grows with
  every place (`whole_slates`, for `ips` and `snips` of `botify.analytics.offline.off_policy`);
- **of the slate up to a place**, the product over the places so far, for the reward of that place: reward interaction
  IPS (McInerney et al., "Counterfactual evaluation of slate recommendations with sequential reward interactions", KDD
  2020; `cascade_ips`, `cascade_snips`). It is unbiased if what comes after a place does not change what is heard there.

The pseudo-inverse (Swaminathan et al., NeurIPS 2017) and independent IPS (Li et al., KDD 2018) need the probability
of a track at a place whatever is before it. It is not logged, and cannot be had from what is, so they are not here.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from botify.analytics import AnalyticsError
from botify.analytics.offline.off_policy import Decisions, Floats, Lists, PolicyValue, with_interval
from botify.analytics.offline.ranking import NO_TRACK

SHOWN_MS = 30 * 60 * 1000  # how long after it was shown a slate may lead to a listen; gateways forget it then


@dataclass(frozen=True, slots=True)
class Slates:
    """Logged slates; raises `AnalyticsError` if shapes differ, or a probability is out of range."""

    # shape (n,); for intervals over users, and for target policies that look at what came before
    users: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    tracks: NDArray[np.int64]  # shape (n, places); `NO_TRACK` after the end of a shorter slate
    # shape (n, places); the logging policy's probability of each track, given those before it, in (0, 1]; 1 after the
    # end
    propensities: Floats
    rewards: Floats  # shape (n, places); what was heard of each track; 0 of those that were not heard

    def __post_init__(self) -> None:
        shapes = {self.tracks.shape, self.propensities.shape, self.rewards.shape}
        if len(shapes) != 1 or {len(self.users), len(self.timestamps_ms)} != {len(self.tracks)} or not self.tracks.size:
            raise AnalyticsError(
                f"tracks, propensities and rewards must be of one shape (slates, places), not {shapes}"
            )
        if not ((self.propensities > 0) & (self.propensities <= 1)).all():
            raise AnalyticsError("propensities must be above 0 and at most 1, as every logged slate was possible")

    def __len__(self) -> int:
        return len(self.tracks)

    def weights(self, targets: Floats) -> Floats:
        """Return target / propensity of each slate up to each place; raises as `checked`."""
        return np.asarray((self.checked(targets) / self.propensities).cumprod(axis=1))

    def checked(self, targets: Floats) -> Floats:
        """Return the target policy's probabilities, shape (n, places), with 1 after the end of a slate.

        Raises `AnalyticsError` if they are of another shape, or not between 0 and 1.
        """
        if targets.shape != self.tracks.shape:
            raise AnalyticsError(
                f"the target policy's probabilities have shape {targets.shape}, not {self.tracks.shape}"
            )
        if not ((targets >= 0) & (targets <= 1)).all():
            raise AnalyticsError("the target policy's probabilities must be between 0 and 1")
        return np.where(self.tracks == NO_TRACK, 1.0, targets)


def join_slates(slates: pd.DataFrame, listens: pd.DataFrame) -> Slates:
    """Return the slates that were answered, each with what its listener heard of it.

    A listen belongs to the newest slate of its user in the last half hour that has its track with the listen's
    propensity, as the gateway attributed it; of several listens of a track from one slate the first counts. Answers
    that came too late for the gateway are on the topic although nobody saw them; they count as slates of which nothing
    was heard. Raises `AnalyticsError` if there are no slates.
    """
    if slates.empty:
        raise AnalyticsError("there are no slates; `GET /v1/users/{id}/recommendations` is what logs them")
    sizes = slates["tracks"].str.len().to_numpy(np.int64)
    rows = np.repeat(np.arange(len(slates)), sizes)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    shape = len(slates), int(sizes.max(initial=0))
    tracks, propensities, rewards = np.full(shape, NO_TRACK, dtype=np.int64), np.ones(shape), np.zeros(shape)
    tracks[rows, places] = np.concatenate([*slates["tracks"], []])
    propensities[rows, places] = np.concatenate([*slates["propensities"], []])
    users, times = slates["user"].to_numpy(np.int64), slates["timestamp_ms"].to_numpy(np.int64)
    by = ["user", "track", "propensity"]
    known = {"user": users[rows], "track": tracks[rows, places], "propensity": propensities[rows, places]}
    shown = pd.DataFrame({**known, "timestamp_ms": times[rows], "row": rows, "place": places})
    heard = listens.loc[listens["propensity"].notna(), [*by, "timestamp_ms", "fraction"]]
    heard, shown = (listed.sort_values("timestamp_ms", kind="stable") for listed in (heard, shown))
    found = pd.merge_asof(heard, shown, on="timestamp_ms", by=by, tolerance=SHOWN_MS)
    found = found[found["row"].notna()].drop_duplicates(["row", "place"])
    rewards[found["row"].to_numpy(np.int64), found["place"].to_numpy(np.int64)] = found["fraction"]
    return Slates(users, times, tracks, propensities, rewards)


def drawn_slates(lists: Lists, tracks: NDArray[np.int64], explore: float = 1.0) -> Floats:
    """Return the probability of each place of slates, under a policy that fills them from a list, one after the other.

    Each place takes the first track that the list, best first, has left, or with probability `explore` any of those,
    evenly: 1 draws without replacement.
    """
    left, probabilities = lists != NO_TRACK, np.zeros(tracks.shape)
    rows = np.arange(len(lists))
    for place in range(tracks.shape[1]):
        hits = (lists == tracks[:, place, None]) & left
        first = hits[rows, left.argmax(axis=1)]
        even = hits.any(axis=1) / np.maximum(left.sum(axis=1), 1)
        probabilities[:, place] = explore * even + (1 - explore) * first
        left &= ~hits
    return probabilities


def whole_slates(slates: Slates, targets: Floats) -> Decisions:
    """Return each slate as one decision, whose reward is the sum over its places; `targets` has shape (n, places)."""
    probabilities = slates.checked(targets).prod(axis=1)
    return Decisions(slates.rewards.sum(axis=1), slates.propensities.prod(axis=1), probabilities, slates.users)


def cascade_ips(slates: Slates, targets: Floats) -> PolicyValue:
    """Weight the reward of each place by the slate up to it: unbiased for listeners who look from the top.

    `effective_decisions` is that of the last place, the smallest.
    """
    weights = slates.weights(targets)
    terms = (weights * slates.rewards).sum(axis=1)
    value = float(terms.mean())
    return with_interval(value, terms - value, slates.users, weights[:, -1])


def cascade_snips(slates: Slates, targets: Floats) -> PolicyValue:
    """Divide each place by its mean weight, as McInerney et al. do: a small bias, much less variance.

    The errors are the delta method's. Raises `AnalyticsError` if the target policy shows none of the logged slates.
    """
    weights = slates.weights(targets)
    means = weights.mean(axis=0)
    if not means.all():
        place = int(means.argmin()) + 1
        raise AnalyticsError(f"the target policy shows no logged slate up to place {place}, so they cannot evaluate it")
    of_places = (weights * slates.rewards).mean(axis=0) / means
    deviations: Floats = (weights * (slates.rewards - of_places) / means).sum(axis=1)
    return with_interval(float(of_places.sum()), deviations, slates.users, weights[:, -1])
