"""A listener over HTTP: asks for recommendations, listens to some, skips others, and asks again.

The name is the listener's, and the second argument the address of the gateway; `--async` uses the client for asyncio.
"""

from __future__ import annotations

import asyncio
import sys

from botify.client import AsyncBotify, Botify, Event, Recommendations

ROUNDS = 3
N = 5


def reaction(user: str, shown: Recommendations) -> list[Event]:
    """Return what a listener does with what is shown: hears the first items, skips the last."""
    *heard, last = [item.item for item in shown.items]
    return [*(Event.listen(user, item, 0.9) for item in heard), Event.skip(user, last), Event.dislike(user, last)]


def describe(shown: Recommendations) -> list[str]:
    """Return a line for each item, with the reason."""
    return [f"{item.title} by {item.artist}: {item.reason.text if item.reason else ''}" for item in shown.items]


def listen(botify: Botify, user: str) -> list[str]:
    """Listen for some rounds, and return what was shown last."""
    for _ in range(ROUNDS):
        shown = botify.recommendations(user, N, explain=True)
        if shown.items:
            botify.send(*reaction(user, shown))
    return describe(shown)


async def listen_async(botify: AsyncBotify, user: str) -> list[str]:
    """Listen for some rounds, and return what was shown last."""
    for _ in range(ROUNDS):
        shown = await botify.recommendations(user, N, explain=True)
        if shown.items:
            await botify.send(*reaction(user, shown))
    return describe(shown)


async def _async_lines(user: str, url: str) -> list[str]:
    async with AsyncBotify(url) as botify:
        return await listen_async(botify, user)


def main() -> None:
    """Print what was shown last."""
    words = [word for word in sys.argv[1:] if word != "--async"]
    user = words[0] if words else "42"
    url = words[1] if len(words) > 1 else "http://127.0.0.1:8000"
    if "--async" in sys.argv:
        lines = asyncio.run(_async_lines(user, url))
    else:
        with Botify(url) as botify:
            lines = listen(botify, user)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
