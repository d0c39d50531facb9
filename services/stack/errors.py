"""What goes wrong with processes, ports and downloads."""

from __future__ import annotations

from core.errors import BotifyError


class StackError(BotifyError):
    """The embedded stack cannot start, or a part of it died; the message says what to do."""


class PortTakenError(StackError):
    """A port that the stack should listen on belongs to another process."""


class JavaMissingError(StackError):
    """No Java that can run Kafka was found."""


class DownloadError(StackError):
    """Kafka's jars could not be fetched, or are not the ones that we know."""


class ChildDiedError(StackError):
    """A process of the stack ended when it should have run."""
