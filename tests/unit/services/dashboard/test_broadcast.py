"""Viewers are sent the changes of a page, rendered once for all of them."""

import json
from unittest.mock import Mock

from markupsafe import Markup

from botify.services.dashboard.figures import Snapshot
from botify.services.dashboard.pages import Channel
from botify.services.dashboard.views import Fragment


class Viewer:
    def __init__(self, id_: str) -> None:
        self.id = id_
        self.sent: list[str] = []
        self.run_javascript, self.on_delete = self.sent.append, Mock()


def view(snapshot: Snapshot) -> list[Fragment]:
    """The second, and a fragment that never changes."""
    return [
        Fragment("second", Markup("<b>{}</b>").format(snapshot.at_s)),
        Fragment("still", Markup("always the same")),
    ]


def test_a_late_viewer_starts_from_what_was_sent_last() -> None:
    """Otherwise a change that the others have seen already would never reach this one."""
    channel = Channel(view)
    channel.join(Viewer("early"), Snapshot(at_s=1))
    channel.send(Snapshot(at_s=2))
    late = Viewer("late")
    page = channel.join(late, Snapshot(at_s=3))
    channel.send(Snapshot(at_s=2))  # as it was: nothing is sent
    assert late.sent == []
    assert [fragment.html for fragment in page] == ["<b>2</b>", "always the same"]


def test_only_what_changed_is_sent_and_it_is_rendered_once_for_all() -> None:
    counted = Mock(wraps=view)
    channel = Channel(counted)
    viewers = [Viewer(str(number)) for number in range(200)]
    for viewer in viewers:
        channel.join(viewer, Snapshot(at_s=1))
    counted.reset_mock()
    channel.send(Snapshot(at_s=2))
    assert counted.call_count == 1
    assert len({id(viewer.sent[0]) for viewer in viewers}) == 1, "one message, encoded once"
    assert json.loads(viewers[0].sent[0].removeprefix("dashboard.show(")[:-1]) == {"second": "<b>2</b>"}
    channel.send(Snapshot(at_s=2))
    assert [len(viewer.sent) for viewer in viewers] == [1] * 200
