"""Sends what has changed to everybody who looks at a page: rendered and encoded once a second, however many look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from nicegui import Client

from services.dashboard.figures import Snapshot
from services.dashboard.views.html import Fragment, View

EVERY_S = 1.0

Message = str
"""JavaScript that replaces the changed pieces of a page."""


class Channel:
    """One page and its viewers.

    A viewer joins with the page as it was last sent, so what changes from then on is all that it needs.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._sent: dict[str, str] = {}
        self._viewers: dict[str, Client] = {}

    def join(self, client: Client, snapshot: Snapshot) -> list[Fragment]:
        """Return the page's pieces, and send this client what changes in them until it goes away."""
        fragments = self._view(snapshot)
        if not self._viewers:  # nobody was sent anything for a while
            self._sent = {fragment.name: fragment.html for fragment in fragments}
        self._viewers[client.id] = client
        client.on_delete(lambda: self._viewers.pop(client.id, None))
        return [fragment._replace(html=self._sent.get(fragment.name, "")) for fragment in fragments]

    def send(self, snapshot: Snapshot) -> None:
        """Send what has changed since the last time."""
        if not self._viewers:
            return
        changed = self.changes(snapshot)
        if changed:
            message = show(changed)
            for client in list(self._viewers.values()):
                client.run_javascript(message)

    def changes(self, snapshot: Snapshot) -> dict[str, str]:
        """Return the pieces that differ from what was sent, which they are from now on."""
        now = {fragment.name: fragment.html for fragment in self._view(snapshot)}
        changed = {name: html for name, html in now.items() if self._sent.get(name) != html}
        self._sent.update(changed)
        return changed


def show(changed: dict[str, str]) -> Message:
    """Return the message; JSON is JavaScript since ECMAScript 2019.

    Examples
    --------
    >>> show({"tiles": "<b>1</b>"})
    'dashboard.show({"tiles": "<b>1</b>"})'
    """
    return f"dashboard.show({json.dumps(changed, ensure_ascii=False)})"


class Broadcast:
    """All pages.

    Parameters
    ----------
    snapshot : callable
        Returns the newest.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self._channels: list[Channel] = []

    def channel(self, view: View) -> Channel:
        """Return a new page's channel."""
        channel = Channel(view)
        self._channels.append(channel)
        return channel

    async def run(self) -> None:
        """Send once a second, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            snapshot = self._snapshot()
            for channel in self._channels:
                channel.send(snapshot)
                await asyncio.sleep(0)  # requests are served between two pages
