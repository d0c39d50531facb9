"""Gymnasium environments over the same user model as the Kafka loop: `Botify-v0`, single and vectorised.

Importing this package makes `gymnasium.make("Botify-v0")` and `gymnasium.make_vec("Botify-v0", num_envs=...)` work;
`gymnasium.make("sim.envs:Botify-v0")` imports it by itself.
"""

import gymnasium

ENV_ID = "Botify-v0"

gymnasium.register(
    ENV_ID,
    entry_point="sim.envs.environments:BotifyEnv",
    vector_entry_point="sim.envs.environments:BotifyVectorEnv",
)
