from __future__ import annotations

import json
import logging
import subprocess
import sys

from botify.core.logging import JsonFormatter, TextFormatter

PROGRAM = """
import logging
from botify.core.logging import configure_logging
from botify.core.settings import Settings
configure_logging(Settings(log_format="json"), quiet=["loud"])
logging.getLogger("loud").info("not heard")
logging.getLogger("ours").info("claimed %d", 3, extra={"partition": 3, "request_id": "r-1"})
"""


def failed() -> logging.LogRecord:
    try:
        json.loads("two\nlines")
    except ValueError:
        return logging.LogRecord("a", logging.ERROR, "", 1, "it broke", None, sys.exc_info())
    raise AssertionError


def test_a_program_logs_one_object_a_line() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)  # noqa: S603
    (line,) = done.stderr.splitlines()
    said = json.loads(line)
    said.pop("time")
    assert said == {"level": "INFO", "logger": "ours", "message": "claimed 3", "partition": 3, "request_id": "r-1"}


def test_a_traceback_stays_on_its_line_in_json() -> None:
    line = JsonFormatter().format(failed())
    assert "\n" not in line
    assert "Traceback (most recent call last):\n" in json.loads(line)["exception"]


def test_a_traceback_follows_its_line_in_text() -> None:
    first, *rest = TextFormatter().format(failed()).splitlines()
    assert first.endswith("ERROR a: it broke")
    assert rest[0] == "Traceback (most recent call last):"
