"""What an environment shows and takes."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from sim.world.model import World


def action_space(world: World) -> spaces.Discrete:
    """Return the tracks."""
    return spaces.Discrete(len(world.catalogue))


def observation_space(world: World) -> spaces.Dict:
    """Return what an agent sees: who listens, and the listen just made.

    `user` and `track` are ids, `fraction` has shape (1,) and goes from 0 to 1, `position` is the listen's place in the
    session, from 0.
    """
    return spaces.Dict(
        user=spaces.Discrete(len(world.listeners)),
        track=spaces.Discrete(len(world.catalogue)),
        fraction=spaces.Box(0.0, 1.0, shape=(1,), dtype=np.float32),
        position=spaces.Box(0, np.iinfo(np.int32).max, shape=(1,), dtype=np.int32),
    )
