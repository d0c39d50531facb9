"""Listens for tests: drawn from a seed, with first listens that carry no treatment."""

import numpy as np

from botify.schemas.events import Listen


def listen(session: str = "r-1-0", position: int = 0, **changes: object) -> Listen:
    user = int(session.split("-")[-2])
    plain = Listen(f"{session}-{position}", user, 5, 0.5, position, session, position, False, None, {}, None, None)
    if position > 0:
        plain = plain._replace(recommender="random", treatments={"demo": "C"}, propensity=0.1, latency_ms=2.0)
    return plain._replace(**changes)


def drawn(users: int, rng: np.random.Generator, uplift: float = 0.0) -> list[Listen]:
    """A few sessions for each user; those with an odd id are in T1 and hear `uplift` more tracks a session."""
    listens: list[Listen] = []
    for user in range(users):
        treatment = "T1" if user % 2 else "C"
        for number in range(int(rng.integers(1, 4))):
            tracks = 2 + int(rng.poisson(3.0 + uplift * (user % 2)))
            for position in range(tracks):
                changes: dict[str, object] = {}
                if position:
                    changes = {"treatments": {"demo": treatment}, "latency_ms": float(rng.exponential(5.0))}
                changes |= {"timestamp_ms": len(listens) + 1, "ended_session": position == tracks - 1}
                fraction = round(float(rng.random()), 2)
                listens.append(listen(f"r-{user}-{number}", position, fraction=fraction, **changes))
    return listens


def with_a_second(listens: list[Listen], bonus: float = 0.0) -> list[Listen]:
    """Put every user into `other` too; those treated in both hear more of each track."""
    changed = []
    for one in listens:
        arm = "T1" if one.user // 2 % 2 else "C"
        fraction = min(1.0, one.fraction + bonus * (arm == one.treatments.get("demo") == "T1"))
        treated = one._replace(treatments={**one.treatments, "other": arm}, fraction=fraction)
        changed.append(treated if one.treatments else one)
    return changed
