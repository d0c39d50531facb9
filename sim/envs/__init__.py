"""Gymnasium environments over the same user model as the Kafka loop: `Botify-v0`, single and vectorised."""

import gymnasium

ENV_ID = "Botify-v0"


def register() -> None:
    """Make `gymnasium.make("Botify-v0")` and `gymnasium.make_vec("Botify-v0", num_envs=...)` work."""
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            ENV_ID, entry_point="sim.envs.single:BotifyEnv", vector_entry_point="sim.envs.vector:BotifyVectorEnv"
        )


register()
