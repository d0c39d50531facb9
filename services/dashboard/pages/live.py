"""The pages that show the same to everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nicegui import ui

from services.dashboard.broadcast import Broadcast
from services.dashboard.figures.snapshot import Snapshot
from services.dashboard.pages.frame import frame
from services.dashboard.views.experiments import experiments
from services.dashboard.views.fragment import View, laid_out
from services.dashboard.views.letters import letters
from services.dashboard.views.overview import overview
from services.dashboard.views.popular import popular
from services.dashboard.views.problems import with_problems
from services.dashboard.views.replays import replays


class LivePage(NamedTuple):
    """A page of fragments."""

    path: str
    subtitle: str
    view: View


PAGES = (
    LivePage("/", "How the loop is doing, second by second", overview),
    LivePage("/popular", "What all listeners together hear", popular),
    LivePage("/experiments", "Which recommender keeps listeners longer", experiments),
    LivePage("/letters", "Messages that could not enter, and why", letters),
    LivePage("/replays", "State that is folded anew from the topic", replays),
)


def add_live_pages(broadcast: Broadcast, snapshot: Callable[[], Snapshot]) -> None:
    """Serve them."""
    for page in PAGES:
        _add(page, broadcast, snapshot)


def _add(page: LivePage, broadcast: Broadcast, snapshot: Callable[[], Snapshot]) -> None:
    channel = broadcast.channel(with_problems(page.view))

    @ui.page(page.path)
    def show() -> None:
        with frame(page.path, page.subtitle):
            ui.html(laid_out(channel.join(ui.context.client, snapshot())), sanitize=False)
