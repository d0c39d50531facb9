"""The verdicts about experiments: `botify experiment decide` in a process of its own, while pages are looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import psutil

from core.settings import Settings
from services.dashboard.figures import Verdict

EVERY_S = 60.0
AT_MOST = 0.05
"""Share of the time in which a verdict is computed: it reads all listens, at the lowest priority."""
TIMEOUT_S = 1_800.0


class _Asked(NamedTuple):
    experiment: str
    began_s: float
    process: subprocess.Popen[str]


class Verdicts:
    """Asks for one verdict at a time, in turn; raises nothing, because a verdict that fails says why."""

    def __init__(self, settings: Settings, command: Sequence[str] = (sys.executable, "-m", "services.cli")) -> None:
        self._command = [*command, "experiment", "decide"]
        self._environment = {**os.environ, **settings.to_env()}
        self._asked: _Asked | None = None
        self._due_s: dict[str, float] = {}
        self._known: dict[str, Verdict] = {}

    def read(self, experiments: Collection[str]) -> Mapping[str, Verdict]:
        """Return what is known of these experiments by now, at 0 s where nothing is; does not wait."""
        now_s = time.monotonic()
        if self._asked is not None:
            self._listen(self._asked, now_s)
        due = [name for name in experiments if self._due_s.get(name, 0.0) <= now_s]
        if self._asked is None and due:
            name = min(due, key=lambda name: self._due_s.get(name, 0.0))
            process = subprocess.Popen(  # noqa: S603 - our own command, and names from our own file
                [*self._command, name, "--json"],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
            psutil.Process(process.pid).nice(19)
            self._asked = _Asked(name, now_s, process)
        return {name: self._known.get(name, Verdict(0.0)) for name in experiments}

    def close(self) -> None:
        """End the process, if one runs."""
        if self._asked is not None:
            self._asked.process.kill()
            self._asked.process.communicate()
            self._asked = None

    def _listen(self, asked: _Asked, now_s: float) -> None:
        took_s = now_s - asked.began_s
        try:
            said, refused = asked.process.communicate(timeout=0.01)
        except subprocess.TimeoutExpired:
            if took_s > TIMEOUT_S:
                asked.process.kill()
            return
        self._asked = None
        self._due_s[asked.experiment] = now_s + max(EVERY_S, took_s / AT_MOST)
        if asked.process.returncode == 0:
            verdict = Verdict(time.time(), tuple(json.loads(said)))
        else:
            why = (refused or said).strip() or f"`botify experiment decide` ended with {asked.process.returncode}"
            verdict = Verdict(time.time(), problem=why.splitlines()[-1])
        self._known[asked.experiment] = verdict
