"""Policies are named by who was to answer, not by who did."""

from __future__ import annotations

from botify.schemas.events import Listen
from botify.services.dashboard.figures import ListenSample, PolicyShare
from botify.services.experiments import Experiments
from botify.services.experiments.assignment import Experiment, Treatment

BOTH = Experiments((Experiment("A", "A", (Treatment("C", "toppop"), Treatment("T1", "mix"))),), "random")


def test_a_policy_counts_what_its_fallbacks_and_the_gateway_answered_for_it() -> None:
    controls = [user for user in range(50) if BOTH.assign(user).recommender == "toppop"][:4]
    treated = [user for user in range(50) if BOTH.assign(user).recommender == "mix"][:4]
    sample = ListenSample()
    for _ in range(10):
        assert sample.policies(BOTH) == (), "a share of a few answers says nothing"
        sample.update(
            _listen(user, who)
            for user, who in zip(controls, ("toppop", "toppop", "random", "gateway-popular"), strict=True)
        )
        sample.update(
            _listen(user, "mix", policy) for user, policy in zip(treated[:2], ("rerank", "rerank/random"), strict=True)
        )
    before = _listen(treated[2], "toppop")._replace(treatments={"A": "C"})  # the experiment has changed since
    sample.update([before])
    assert sample.policies(BOTH) == (
        PolicyShare("toppop", 4 / 6, fallbacks=0.25, late=0.25),
        PolicyShare("mix/rerank", 2 / 6, fallbacks=0.5, late=0.0),
    )


def _listen(user: int, recommender: str, policy: str | None = None) -> Listen:
    treatments = BOTH.assign(user).treatments
    return Listen(f"{user}", user, 7, 0.5, 1_000, "s", 1, False, recommender, treatments, 0.5, 3.0, policy)
