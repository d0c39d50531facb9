"""Errors of the services."""

from core.errors import BotifyError


class ExperimentError(BotifyError):
    """The experiments file says something that cannot be done."""


class RecommenderError(BotifyError):
    """The recommender service cannot go on."""


class StateError(BotifyError):
    """The state in Redis has no answer to what was asked."""


class DemoError(BotifyError):
    """A step of the demo failed."""
