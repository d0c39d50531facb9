"""Read the state that the workers derive, directly from Redis: listeners and popular tracks.

`StateReader` is the read side of state for any service. It follows the live namespace, also after `botify replay swap`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from botify.core.settings import Settings
from botify.streams.read import StateReader
from botify.streams.store.connect import connect, require_redis

HALF_LIFE = "1d"


def describe(reader: StateReader, users: Sequence[int], top: int = 5) -> list[str]:
    """Return a line for each listener, read in one round trip, and for each of the `top` most popular tracks."""
    lines = []
    for user, state in zip(users, reader.users(users), strict=True):
        if state is None:
            lines.append(f"listener {user}: no listens")
            continue
        last = state.last_listens()[-1]
        lines.append(
            f"listener {user}: {state.listens} listens in {state.sessions} sessions, "
            f"last {last['fraction']:.0%} of track {last['track']}"
        )
    tracks, listens, _ = reader.top_tracks(HALF_LIFE, top)
    for rank, (track, value) in enumerate(zip(tracks.tolist(), listens.tolist(), strict=True), start=1):
        lines.append(f"{rank}. track {track}: {value:.2f} listens, each halved every day")
    return lines


def main() -> None:
    """Print the state of the listeners whose ids are the arguments."""
    settings = require_redis(Settings.from_env())
    users = [int(argument) for argument in sys.argv[1:]] or [0]
    print("\n".join(describe(StateReader(connect(settings), settings), users)))


if __name__ == "__main__":
    main()
