"""Errors of the services."""

from typing import Self

from botify.core.errors import BotifyError


class ExperimentError(BotifyError):
    """The experiments file has an invalid declaration, or an experiment is not declared."""


class RecommenderError(BotifyError):
    """The recommender service, or the job that builds its lists, cannot continue."""


class UnavailableError(BotifyError):
    """Kafka or Redis cannot be used at the moment; a client of the gateway may retry (503)."""

    @classmethod
    def of_redis(cls, error: Exception) -> Self:
        """Return the error for one of Redis's client."""
        return cls(f"Redis does not answer ({type(error).__name__})")


class UnknownTrackError(BotifyError):
    """The catalogue has no such track (404 in a path, 422 in a body)."""


class UnknownItemError(BotifyError):
    """The catalogue has no such item, or it was deleted (404)."""


class InvalidRequestError(BotifyError):
    """The request does not have the form that its route demands (422); the argument is a list with `loc` and `msg`."""


class WrongEventError(BotifyError):
    """An event cannot be accepted (422); the arguments are the path of its field and why."""


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
