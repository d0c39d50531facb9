"""What a call may raise."""

from __future__ import annotations

from collections.abc import Sequence


class BotifyClientError(Exception):
    """Any error of this client."""


class UnavailableError(BotifyClientError):
    """The service did not answer, or cannot serve at the moment, after all retries."""


class ProblemError(BotifyClientError):
    """The service refused the request.

    Attributes
    ----------
    status : int
        HTTP's.
    errors : sequence of (str, str)
        Where a field is wrong, as a JSON pointer, and why.
    """

    def __init__(self, status: int, detail: str, errors: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__("; ".join([f"{status}: {detail}", *(f"{where}: {why}" for where, why in errors)]))
        self.status = status
        self.detail = detail
        self.errors = errors


class NotFoundError(ProblemError):
    """There is no such item or listener."""
