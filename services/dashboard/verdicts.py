"""Effects of experiments and verdicts: `botify experiment` in a process of its own, while pages are looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import psutil

from botify.core.settings import Settings
from botify.services.dashboard.figures import Verdict

EVERY_S = 15.0
AT_MOST = 0.1  # share of the time in which a command runs: it reads all listens, at the lowest priority
TIMEOUT_S = 1_800.0
MOST_LISTENS = 2_000_000  # more take too much memory next to a gateway

Question = tuple[str, ...]  # an experiment, and `--decide` if its verdict is asked for


class _Asked(NamedTuple):
    question: Question
    began_s: float
    process: subprocess.Popen[str]


class _Answer(NamedTuple):
    at_s: float
    value: Any = None
    problem: str = ""


class Verdicts:
    """Asks one question at a time, in turn; raises nothing, because an answer that fails says why."""

    def __init__(
        self, settings: Settings, command: Sequence[str] = (sys.executable, "-m", "botify.services.cli")
    ) -> None:
        self._command = command
        self._environment = {**os.environ, **settings.to_env()}
        self._asked: _Asked | None = None
        self._due_s = 0.0
        self._known: dict[Question, _Answer] = {}

    def read(self, experiments: Mapping[str, bool], listens: int = 0) -> Mapping[str, Verdict]:
        """Return what is known by now of experiments, given with whether they have goals; does not wait."""
        now_s = time.monotonic()
        if listens > MOST_LISTENS:
            why = f"{listens:,} listens are too many to read here; use `botify experiment results`, also with --decide"
            return {name: Verdict(has_goals=has_goals, problem=why) for name, has_goals in experiments.items()}
        if self._asked is not None:
            self._listen(self._asked, now_s)
        questions: list[Question] = [(name,) for name in experiments]
        questions += [(name, "--decide") for name, has_goals in experiments.items() if has_goals]
        if self._asked is None and questions:
            oldest = min(questions, key=lambda one: self._known.get(one, _Answer(0.0)).at_s)
            if oldest not in self._known or now_s >= self._due_s:
                self._ask(oldest, now_s)
        found = {}
        for name, has_goals in experiments.items():
            results, decided = (self._known.get(asked, _Answer(0.0)) for asked in ((name,), (name, "--decide")))
            problem = results.problem or decided.problem
            found[name] = Verdict(results.value, decided.value, has_goals, results.at_s, problem)
        return found

    def close(self) -> None:
        if self._asked is not None:
            self._asked.process.kill()
            self._asked.process.communicate()
            self._asked = None

    def _ask(self, question: Question, now_s: float) -> None:
        process = subprocess.Popen(  # noqa: S603 - our own command, and names from our own file
            [*self._command, "experiment", "results", *question, "--json"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        psutil.Process(process.pid).nice(19)
        self._asked = _Asked(question, now_s, process)

    def _listen(self, asked: _Asked, now_s: float) -> None:
        took_s = now_s - asked.began_s
        try:
            said, refused = asked.process.communicate(timeout=0.01)
        except subprocess.TimeoutExpired:
            if took_s > TIMEOUT_S:
                asked.process.kill()
            return
        self._asked = None
        if asked.process.returncode == 0:
            answer = _Answer(time.time(), json.loads(said))
        else:
            why = (refused or said).strip() or f"`botify experiment` ended with status {asked.process.returncode}"
            answer = _Answer(time.time(), problem=why.splitlines()[-1])
        self._known[asked.question] = answer
        self._due_s = now_s + max(EVERY_S, took_s / AT_MOST)
