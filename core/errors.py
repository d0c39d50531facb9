"""The error tree. Every error that Botify raises on purpose is a `BotifyError`.

Messages are printed as they are, so they name the thing, the value and the remedy.
"""


class BotifyError(Exception):
    """Base of all errors raised on purpose; the command line prints it and exits with status 1."""


class SettingsError(BotifyError):
    """A setting has a value that cannot be used; the message names its variable."""


class LoadError(BotifyError):
    """A `module:Class` cannot be imported or takes other arguments; the message names it."""


class JavaMissingError(BotifyError):
    """No Java that can run a program was found; the message says which and what to do."""


class EngineError(BotifyError):
    """An engine for SQL is not installed; the message says how to install it."""


class SchemaError(BotifyError):
    """The committed schemas, their lock file and the registry do not match."""


class TopicError(BotifyError):
    """A topic is missing, unreadable, or differs from its definition."""


class NoBrokerError(TopicError):
    """No broker answers."""


class PublishError(TopicError):
    """A record was not delivered to `topic`: one, or all that the publisher has sent to if it is not known which."""

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(f"{topic}: {reason}")
        self.topic = topic
        self.reason = reason


class SpeedError(BotifyError):
    """A text is not a speed; the message names the forms."""


class PositionError(BotifyError):
    """A text is not a position in a topic; the message lists the forms."""


class RejectedMessageError(BotifyError):
    """A message, whose value is `raw`, is not accepted; it goes to the dead-letter topic with this reason."""

    def __init__(self, message: str, raw: bytes) -> None:
        super().__init__(message)
        self.raw = raw


class DecodeError(RejectedMessageError):
    """The bytes are not Avro of a known schema in Confluent's wire format."""


class ValidationError(RejectedMessageError):
    """The bytes decode, but the event cannot be true (a fraction of 7, an unknown track)."""


class IgnoredHeaderError(ValidationError):
    """The event would be true if a header were, but it is one that anybody can write, and counts for nothing."""


class RejectedBeforeError(RejectedMessageError):
    """The record is a dead letter already; only a redrive lets it in."""


class ExcludedError(RejectedMessageError):
    """An operator has excluded the record, though it is valid."""


def rejection_classes() -> list[str]:
    """Return the names of all reasons that a dead letter can have, for metrics."""
    found, waiting = set(), RejectedMessageError.__subclasses__()
    while waiting:
        kind = waiting.pop()
        found.add(kind.__name__)
        waiting += kind.__subclasses__()
    return sorted(found)
