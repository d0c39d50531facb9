"""Which lines of the shipped code universes execute; by `sys.settrace`, which makes them several times slower."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any


class Coverage:
    """Lines of some modules' functions, and those that were executed.

    Parameters
    ----------
    modules : ModuleType
    without : set of str
        Names of functions and classes that are not counted.
    """

    def __init__(self, *modules: ModuleType, without: Set[str] = frozenset()) -> None:
        self.executable = {file: _lines(file, without) for file in map(inspect.getfile, modules)}
        self._lines_of: dict[CodeType, set[int]] = {}
        self.executed: dict[str, set[int]] = {file: set() for file in self.executable}

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Note the lines that are executed meanwhile."""
        sys.settrace(self._on_call)
        try:
            yield
        finally:
            sys.settrace(None)

    def missed(self, file: str) -> list[int]:
        """Return the lines of a file that were not executed."""
        return sorted(self.executable[file] - self.executed[file])

    def report(self) -> str:
        """Return a line a file, and one for all."""
        lines = [_share(file, self.missed(file), of) for file, of in self.executable.items()]
        missed = sum(len(self.missed(file)) for file in self.executable)
        count = sum(map(len, self.executable.values()))
        return "\n".join([*lines, f"{1 - missed / count:6.1%} of {count} lines of all"])

    def _on_call(self, frame: FrameType, event: str, arg: object) -> Callable[..., Any] | None:
        executed = self.executed.get(frame.f_code.co_filename)
        if executed is None:
            return None
        if (lines := self._lines_of.get(frame.f_code)) is None:
            lines = self._lines_of[frame.f_code] = {line for _, _, line in frame.f_code.co_lines() if line}
        if lines <= executed:
            return None  # nothing is new there, and noting lines takes long
        executed.add(frame.f_lineno)

        def on_line(frame: FrameType, event: str, arg: object) -> Callable[..., Any]:
            executed.add(frame.f_lineno)
            return on_line

        return on_line


def _lines(file: str, without: Set[str]) -> set[int]:
    """Return the lines of all functions of a file; those of its classes and itself are executed by the import."""
    return set(_lines_of(compile(Path(file).read_text(encoding="utf-8"), file, "exec"), without))


def _lines_of(code: CodeType, without: Set[str]) -> Iterator[int]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and constant.co_name not in without:
            if constant.co_flags & inspect.CO_NEWLOCALS:  # a function, not a class
                yield from (line for _, _, line in constant.co_lines() if line and line != constant.co_firstlineno)
            yield from _lines_of(constant, without)


def _share(file: str, missed: Sequence[int], executable: Set[int]) -> str:
    return f"{1 - len(missed) / len(executable):6.1%} of {len(executable)} lines of {file}; not: {missed}"
