"""How the values of environment variables are read: each parser takes the variable's name and its text.

All raise `SettingsError`, which names the variable.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from core.errors import SettingsError

REDIS_SCHEMES = ("redis://", "rediss://", "redis+cluster://", "rediss+cluster://")
HTTP_SCHEMES = ("http://", "https://")


def text(variable: str, raw: str) -> str:
    """Take the text as it is."""
    return raw


def path(variable: str, raw: str) -> Path:
    """Return an absolute path."""
    return Path(raw).absolute()


def file(variable: str, raw: str) -> Path:
    """Return the absolute path of a file that exists."""
    if not Path(raw).is_file():
        raise SettingsError(f"{variable}: file {raw} does not exist")
    return Path(raw).absolute()


def count(variable: str, raw: str) -> int:
    """Return a whole number of 1 or more."""
    try:
        value = int(raw)
    except ValueError:
        value = 0
    if value < 1:
        raise SettingsError(f"{variable}: {raw!r} is not a whole number of 1 or more")
    return value


def port(variable: str, raw: str) -> int:
    """Return a port; 0 leaves the choice to the system."""
    if not (raw.isdecimal() and int(raw) <= 65_535):
        raise SettingsError(f"{variable}: {raw!r} is not a port, a whole number of 0 to 65535")
    return int(raw)


def either(one: str, other: str) -> Callable[[str, str], str]:
    """Return a parser of a choice between two words."""

    def parse(variable: str, raw: str) -> str:
        if raw not in (one, other):
            raise SettingsError(f"{variable}: {raw!r} is neither {one} nor {other}")
        return raw

    return parse


def redis_url(variable: str, raw: str) -> str:
    """Return an address of Redis that every reader of URLs understands alike.

    The value stays out of the messages: what confuses a reader of URLs is most often the password in it.

    Examples
    --------
    >>> redis_url("REDIS_URL", "redis://:pa/ss@cache:6379/0")
    Traceback (most recent call last):
    core.errors.SettingsError: REDIS_URL: not scheme://user:password@host:port/db; percent-encode / ? # @ : in it
    """
    return _url(variable, raw, REDIS_SCHEMES, "scheme://user:password@host:port/db")


def http_url(variable: str, raw: str) -> str:
    """Return an address of HTTP, read as `redis_url` is."""
    return _url(variable, raw, HTTP_SCHEMES, "https://user:password@host:port/path")


def _url(variable: str, raw: str, schemes: tuple[str, ...], form: str) -> str:
    if not raw.startswith(schemes):
        raise SettingsError(f"{variable}: the address must start with one of {', '.join(schemes)}")
    url = urlsplit(raw)
    try:
        readable = url.port != 0 and "@" not in url.path + url.query + url.fragment
    except ValueError:
        readable = False
    if not readable:
        raise SettingsError(f"{variable}: not {form}; percent-encode / ? # @ : in it")
    return raw
