"""Viewers are sent the changes of a page, rendered once for all of them."""

import json
from collections.abc import Callable

from markupsafe import Markup

from botify.services.dashboard.figures import Snapshot
from botify.services.dashboard.pages import Channel
from botify.services.dashboard.views import Fragment


class Viewer:
    def __init__(self, id_: str) -> None:
        self.id = id_
        self.sent: list[str] = []
        self._gone: list[Callable[[], object]] = []

    def run_javascript(self, code: str) -> None:
        self.sent.append(code)

    def on_delete(self, handler: Callable[[], object]) -> None:
        self._gone.append(handler)

    def go(self) -> None:
        for handler in self._gone:
            handler()

    def places(self, begun: list[Fragment]) -> dict[str, str]:
        """What the viewer sees: the page as it was served, and all that was sent since."""
        seen = {fragment.name: fragment.html for fragment in begun}
        for code in self.sent:
            seen |= json.loads(code.removeprefix("dashboard.show(").removesuffix(")"))
        return seen


class Counting:
    """A view that counts how often it is rendered: the second, and a fragment that never changes."""

    def __init__(self) -> None:
        self.rendered = 0

    def __call__(self, snapshot: Snapshot) -> list[Fragment]:
        self.rendered += 1
        return [
            Fragment("second", Markup("<b>{}</b>").format(snapshot.at_s)),
            Fragment("still", Markup("always the same")),
        ]


def at(second: float) -> Snapshot:
    return Snapshot(at_s=second)


def test_a_late_viewer_starts_from_what_was_sent_last() -> None:
    """Otherwise a change that the others have seen already would never reach this one."""
    channel = Channel(Counting())
    channel.join(Viewer("early"), at(1))  # type: ignore[arg-type]
    channel.send(at(2))
    late = Viewer("late")
    page = channel.join(late, at(3))  # type: ignore[arg-type]
    channel.send(at(2))  # as it was: nothing is sent
    assert late.sent == []
    assert late.places(page)["second"] == "<b>2</b>"


def test_only_what_changed_is_sent_and_it_is_rendered_once_for_all() -> None:
    view = Counting()
    channel = Channel(view)
    viewers = [Viewer(str(number)) for number in range(200)]
    for viewer in viewers:
        channel.join(viewer, at(1))  # type: ignore[arg-type]
    view.rendered = 0
    channel.send(at(2))
    assert view.rendered == 1
    assert len({id(viewer.sent[0]) for viewer in viewers}) == 1, "one message, encoded once"
    assert "still" not in viewers[0].sent[0]
    channel.send(at(2))
    assert [len(viewer.sent) for viewer in viewers] == [1] * 200
