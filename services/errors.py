"""Errors of the services."""

from botify.core.errors import BotifyError


class ExperimentError(BotifyError):
    """The experiments file has an invalid declaration, or an experiment is not declared."""


class RecommenderError(BotifyError):
    """The recommender service, or the job that builds its lists, cannot continue."""


class StateError(BotifyError):
    """The state in Redis has no answer to a query."""


class DemoError(BotifyError):
    """A step of the demo failed."""


class StackError(BotifyError):
    """The embedded stack cannot start, or a part of it ended; the message says what to do."""


class PortTakenError(StackError):
    """A port of the stack is used by another process."""


class DownloadError(StackError):
    """Kafka's jars cannot be downloaded, or differ from the list in this package."""


class ChildDiedError(StackError):
    """A process of the stack ended when it should run."""
