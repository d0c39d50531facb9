"""Kafka's jars.

jgo downloads them once from Maven Central into its cache (`~/.cache/jgo`, hard links to Maven's `~/.m2/repository`),
which all stacks of a user share. `kafka_jars.json` lists the name and SHA-256 of every jar, so a truncated download, a
modified jar, and a resolver that mixes two versions of Kafka are detected before a broker starts. For another version
of Kafka, change `ENDPOINT` and write the list again with

    python -m botify.services.stack.kafka_jars lock
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from botify.services.errors import DownloadError

KAFKA_VERSION = "4.4.0"
# slf4j-simple without log4j: log4j's BOM would select kafka-clients 3.8.0, and the broker would end with
# NoSuchMethodError
ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
LIST_FILE = Path(__file__).with_name("kafka_jars.json")

Notify = Callable[[str], None]


def class_path(notify: Notify) -> list[Path]:
    """Return Kafka's jars, and download missing ones, with a line to `notify` for each; raises `DownloadError`."""
    expected = json.loads(LIST_FILE.read_text(encoding="utf-8"))
    with _one_download():
        jars = _resolve(notify)
        wrong = differences(jars, expected)
        if wrong:
            # an interrupted download leaves a truncated jar in both caches: download it again, once
            _forget(jars, wrong)
            jars = _resolve(notify)
            wrong = differences(jars, expected)
    if wrong:
        problems = "; ".join(f"{name} is {problem}" for name, problem in wrong.items())
        raise DownloadError(
            f"Kafka's jars differ from {LIST_FILE.name}: {problems}. They were downloaded twice, so a proxy or a "
            f"mirror may serve other files; remove {jars[0].parents[1] if jars else '~/.cache/jgo'} and try again."
        )
    return jars


def differences(jars: Sequence[Path], expected: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with jars, compared with the SHA-256 by file name: `missing`, `not expected` or `corrupt`.

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


@contextmanager
def _one_download() -> Iterator[None]:
    """Let one process of this user download at a time: jgo moves files that another one has just begun to write."""
    cache = Path.home() / ".cache" / "jgo"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "botify.lock").open("a")
    except OSError:  # nothing can be downloaded into it
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it when this process ends
        yield


def _resolve(notify: Notify) -> list[Path]:
    """Return the jars that jgo finds or downloads; those of the module path go on the class path, too."""
    import jgo
    from jgo.maven import PythonResolver

    @contextmanager
    def started(name: str, size: int) -> Iterator[Callable[[int], None]]:
        notify(f"downloading {name} ({size / 1e6:.1f} MB)")
        yield lambda _: None

    try:
        return list(jgo.build(ENDPOINT, resolver=PythonResolver(progress_callback=started)).all_jars)
    except Exception as error:  # jgo raises RuntimeError, errors of requests and of XML: all mean a failed download
        raise DownloadError(
            f"Kafka {KAFKA_VERSION} cannot be downloaded ({type(error).__name__}: {error}). The first start needs the "
            "network (the proxy of HTTPS_PROXY, the mirror of jgo's configuration); later ones do not. Or set "
            "KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs elsewhere."
        ) from error


def _forget(jars: Sequence[Path], wrong: Mapping[str, str]) -> None:
    """Remove wrong jars from Maven's cache, and the environment from jgo's, so that both are downloaded again."""
    from jgo.config import GlobalSettings

    repository = Path(GlobalSettings.load().repo_cache)
    for name in wrong:
        for copy in repository.rglob(name):
            copy.unlink()
    if jars:
        shutil.rmtree(jars[0].parents[1])


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        sys.exit("usage: python -m botify.services.stack.kafka_jars lock")
    listed = {jar.name: sha256(jar) for jar in _resolve(print)}
    LIST_FILE.write_text(json.dumps(dict(sorted(listed.items())), indent=2) + "\n", encoding="utf-8")
