"""Choice models: which track of a slate a listener plays, or none.

The appeal of a track is the share that the listener would hear of it (`ComparingListenerModel`). Both models agree on
a slate of one track: it is played with the probability of its appeal. Further down a slate, tracks are noticed less:
the weight of place k, from 1, is ``k ** -EXAMINATION``, as in Joachims, Swaminathan and Schnabel (WSDM 2017).
"""

from collections.abc import Callable, Mapping

import numpy as np

from botify.core.keyed_random import Keys, uniform
from botify.sim import SimulationError
from botify.sim.listeners.model import CHOICE, Floats, Ints

EXAMINATION = 1.0  # 0: all places are noticed alike; more: the first places are noticed most
_MOST = 1 - 1e-9  # greatest appeal, so that odds are finite

ChoiceModel = Callable[[Floats], Floats]  # appeals to probabilities of places, (n, places); the rest to 1 is no choice


def logit(appeals: Floats) -> Floats:
    """Compare all tracks at once, by a multinomial logit with the option of none.

    The utility of a track is the log-odds of its appeal plus the logarithm of its place's weight; that of none is 0 ::

        P(k) = wₖ oₖ / (1 + Σⱼ wⱼ oⱼ),   o = appeal / (1 − appeal)

    The model of users in RecSim (Ie et al., arXiv:1909.04847, 2019) and in SlateQ (Ie et al., IJCAI 2019).
    """
    capped = np.minimum(appeals, _MOST)
    odds: Floats = capped / (1 - capped) * _weights(appeals.shape[1])
    return np.asarray(odds / (1 + odds.sum(axis=1, keepdims=True)))


def cascade(appeals: Floats) -> Floats:
    """Look at one track after the other, and play the first that pleases.

    ::

        P(k) = wₖ aₖ · Πⱼ₌₁ᵏ⁻¹ (1 − aⱼ)

    What comes after a track never changes whether it is played, as estimators of cascades assume. Craswell et al.,
    "An experimental comparison of click position-bias models" (WSDM 2008), with the places' weights.
    """
    rejected = np.cumprod(1 - appeals, axis=1)
    reached = np.concatenate([np.ones((len(appeals), 1)), rejected[:, :-1]], axis=1)
    return np.asarray(appeals * reached * _weights(appeals.shape[1]))


CHOICES: Mapping[str, ChoiceModel] = {"logit": logit, "cascade": cascade}


def choice_model(choice: str | ChoiceModel) -> ChoiceModel:
    """Return the choice model of a name, or the given one; raises `SimulationError` if there is none of that name."""
    if callable(choice):
        return choice
    if choice not in CHOICES:
        raise SimulationError(f"{choice!r} is not a choice model; there are {', '.join(CHOICES)}, or give a function")
    return CHOICES[choice]


def chosen(probabilities: Floats, keys: Keys) -> Ints:
    """Draw the place that each listener chooses, from probabilities of shape (n, places); `places` means none."""
    drawn = uniform(keys, CHOICE)
    return np.asarray((drawn[:, None] >= np.cumsum(probabilities, axis=1)).sum(axis=1))


def _weights(places: int) -> Floats:
    return np.arange(1, places + 1, dtype=np.float64) ** -EXAMINATION
