"""One person's session on the dashboard: what plays, what was heard, and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from services.dashboard.listening.player import Player, Recommended

SKIPPED = 0.05
"""Share of a track that who skips it has heard."""

MOST_HEARD = 100
"""Listens that are shown."""


class Heard(NamedTuple):
    """A track, why it played, and how much of it was heard."""

    recommended: Recommended
    fraction: float


@dataclass(slots=True)
class Sitting:
    """A listener and a player. Favourites are told as listens to the end, before anything is recommended.

    Attributes
    ----------
    user : int
    playing : Recommended
        What plays now.
    heard : list of Heard
        Newest first.

    Examples
    --------
    >>> import asyncio
    >>> class Jukebox:
    ...     async def next(self, user, track, fraction): return Recommended(track + 1, "jukebox")
    ...     async def last(self, user, track, fraction): pass
    >>> sitting = asyncio.run(Sitting.begin(42, [7, 8], Jukebox()))
    >>> sitting.playing.track, [heard.recommended.track for heard in sitting.heard]
    (9, [8, 7])
    >>> asyncio.run(sitting.next(0.5)), sitting.playing.track
    (None, 10)
    """

    user: int
    playing: Recommended
    _player: Player
    heard: list[Heard] = field(default_factory=list)

    @classmethod
    async def begin(cls, user: int, favourites: Sequence[int], player: Player) -> Sitting:
        """Tell the favourites, at least one, and play what is recommended after the last of them.

        Raises
        ------
        PlayerError
        """
        first, *others = favourites
        sitting = cls(user, Recommended(first), player)
        for favourite in others:
            await player.next(user, sitting.playing.track, 1.0)
            sitting._remember(1.0)
            sitting.playing = Recommended(favourite)
        await sitting.next(1.0)
        return sitting

    async def next(self, fraction: float) -> None:
        """Tell how much was heard of what plays, and play the next track; `PlayerError` changes nothing."""
        following = await self._player.next(self.user, self.playing.track, fraction)
        self._remember(fraction)
        self.playing = following

    async def leave(self, fraction: float) -> None:
        """Tell how much was heard of what plays, and that the session is over; raises `PlayerError`."""
        await self._player.last(self.user, self.playing.track, fraction)
        self._remember(fraction)

    def _remember(self, fraction: float) -> None:
        self.heard.insert(0, Heard(self.playing, fraction))
        del self.heard[MOST_HEARD:]
