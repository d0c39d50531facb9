"""Logging: one line an event, as text for people or as JSON for programs (`BOTIFY_LOG_FORMAT`).

Fields of an event are passed as `extra`, so they can be searched for: `log.info("claimed", extra={"partition": 3})`.
"""

import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from botify.core.settings import Settings

REPEATING = ("aiokafka",)  # loggers that say the same up to sixty times a second while no broker answers
REPEAT_S = 10.0
MOST_REMEMBERED = 256

_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def configure_logging(settings: Settings, *, quiet: Iterable[str] = ()) -> None:
    """Log to standard error at level INFO, the `quiet` loggers at level WARNING."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    handler.addFilter(RepeatFilter(REPEATING))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)


class RepeatFilter:
    """Lets a message of some loggers pass once in `REPEAT_S`; its field `repeated` counts those left out since."""

    def __init__(self, loggers: Iterable[str]) -> None:
        self._loggers = frozenset(loggers)
        self._said: dict[tuple[str, str], list[float]] = {}  # when, and how many were left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether to log the record."""
        if record.name.partition(".")[0] not in self._loggers:
            return True
        key, now = (record.name, record.getMessage()), record.created
        last = self._said.get(key)
        if last is not None and now - last[0] < REPEAT_S:
            last[1] += 1
            return False
        if last is not None and last[1]:
            record.repeated = int(last[1])
        if last is None and len(self._said) >= MOST_REMEMBERED:
            self._said.clear()
        self._said[key] = [now, 0]
        return True


class TextFormatter(logging.Formatter):
    """A line for people: the message, then its fields as key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - as in the base
        """Return the time in UTC."""
        return _time_of(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as in the base class
        """Return the line without a traceback."""
        return " ".join([super().formatMessage(record), *(f"{k}={v}" for k, v in _extra(record).items())])


class JsonFormatter(logging.Formatter):
    r"""One JSON object a line, a traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": _time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
