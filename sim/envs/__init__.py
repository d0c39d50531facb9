"""Gymnasium environments over the same user model as the Kafka loop, each single and vectorised.

`Botify-v0` plays one track after the other; `BotifySlate-v0` shows several, of which the listener chooses. Importing
this package makes `gymnasium.make("Botify-v0")` and `gymnasium.make_vec("Botify-v0", num_envs=...)` work;
`gymnasium.make("botify.sim.envs:Botify-v0")` imports it by itself.
"""

import gymnasium

ENV_ID = "Botify-v0"
SLATE_ENV_ID = "BotifySlate-v0"

gymnasium.register(
    ENV_ID,
    entry_point="botify.sim.envs.environments:BotifyEnv",
    vector_entry_point="botify.sim.envs.environments:BotifyVectorEnv",
)
gymnasium.register(
    SLATE_ENV_ID,
    entry_point="botify.sim.envs.slates:BotifySlateEnv",
    vector_entry_point="botify.sim.envs.slates:BotifySlateVectorEnv",
)
