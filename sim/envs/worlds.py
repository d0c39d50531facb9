"""Which world an environment is made of."""

from __future__ import annotations

from schemas.settings import Settings
from sim.world import World, WorldConfig, find_world, open_world


def world_of(world: World | str | None) -> World:
    """Return the world itself, the stored one of that name or directory, or the default world.

    Raises
    ------
    WorldError
        There is no world of that name, or it is damaged.
    """
    if isinstance(world, World):
        return world
    home = Settings.from_env().home
    return open_world(home, WorldConfig()) if world is None else find_world(home, world)
