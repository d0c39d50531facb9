"""Sends the changes of a page to its viewers; they are rendered and encoded once a second, for all viewers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping

from markupsafe import Markup
from nicegui import Client

from botify.services.dashboard.figures import Snapshot
from botify.services.dashboard.views import Fragment

EVERY_S = 1.0

Message = str
"""JavaScript that replaces the changed fragments of a page."""

Renderer = Callable[[Snapshot], list[Fragment]]


class Channel:
    """One page and its viewers.

    A viewer gets the page as it was last sent, so the changes from then on keep it current.
    """

    def __init__(self, view: Renderer) -> None:
        self._view = view
        self._sent: dict[str, Markup] = {}
        self._viewers: dict[str, Client] = {}

    @property
    def is_viewed(self) -> bool:
        """Whether the page has viewers."""
        return bool(self._viewers)

    def join(self, client: Client, snapshot: Snapshot) -> list[Fragment]:
        """Return the page's fragments, and send their changes to this client until it disconnects."""
        fragments = self._view(snapshot)
        if not self._viewers:  # what was sent last is out of date
            self._sent = {fragment.name: fragment.html for fragment in fragments}
        self._viewers[client.id] = client
        client.on_delete(lambda: self._viewers.pop(client.id, None))
        return [fragment._replace(html=self._sent.get(fragment.name, Markup())) for fragment in fragments]

    def send(self, snapshot: Snapshot) -> None:
        """Send what has changed since the last message."""
        if not self.is_viewed:
            return
        changed = self.changes(snapshot)
        if changed:
            message = show(changed)
            for client in list(self._viewers.values()):
                client.run_javascript(message)

    def changes(self, snapshot: Snapshot) -> dict[str, Markup]:
        """Return the fragments that differ from what was sent, and note them as sent."""
        now = {fragment.name: fragment.html for fragment in self._view(snapshot)}
        changed = {name: html for name, html in now.items() if self._sent.get(name) != html}
        self._sent.update(changed)
        return changed


def show(changed: Mapping[str, str]) -> Message:
    """Return the message; JSON is JavaScript since ECMAScript 2019."""
    return f"dashboard.show({json.dumps(changed, ensure_ascii=False)})"


class Broadcast:
    """The channels of all pages; `snapshot` returns the newest snapshot."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self._channels: list[Channel] = []

    def channel(self, view: Renderer) -> Channel:
        """Add a page, and return its channel."""
        channel = Channel(view)
        self._channels.append(channel)
        return channel

    async def run(self) -> None:
        """Send once a second, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            viewed = [channel for channel in self._channels if channel.is_viewed]
            if not viewed:  # a snapshot that is not read is not made
                continue
            snapshot = self._snapshot()
            for channel in viewed:
                channel.send(snapshot)
                await asyncio.sleep(0)  # let requests run between two pages
