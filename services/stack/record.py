"""`stack.json`: what runs where, written by who runs it, read by everybody else; and why a stack ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from schemas.settings import STACK_FILE
from services.stack.errors import StackError
from services.stack.identity import Identity

ENDED_FILE = "stack-ended.json"


@dataclass(frozen=True, slots=True)
class StackRecord:
    """The stack of a data directory.

    Attributes
    ----------
    owner : Identity
        Process that started the others and will stop them.
    ready : bool
        Whether everything has answered.
    settings : Mapping[str, str]
        Addresses, under the names of `Settings`, which reads them from the file.
    processes : Mapping[str, Identity]
        Name -> process.
    given_up : Mapping[str, str]
        Name of a program that ended too often and stays stopped -> how it ended.
    """

    owner: Identity
    ready: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    processes: Mapping[str, Identity] = field(default_factory=dict)
    given_up: Mapping[str, str] = field(default_factory=dict)

    def write(self, home: Path) -> None:
        """Write the file in one step, so that nobody reads half of it; others than its owner read nothing."""
        new = home / f"{STACK_FILE}.new"
        new.touch(mode=0o600)  # an address of Redis may hold its password
        new.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        new.replace(home / STACK_FILE)

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """Return what the file says, or None where there is none.

        Raises
        ------
        StackError
            The file is not one of ours.
        """
        path = home / STACK_FILE
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                owner=Identity(**written["owner"]),
                ready=bool(written["ready"]),
                settings=written["settings"],
                processes={name: Identity(**process) for name, process in written["processes"].items()},
                given_up=written["given_up"],
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StackError(f"{path} cannot be read ({error!r}); remove it and run `botify up`") from error

    def survivors(self) -> dict[str, Identity]:
        """Return the processes that are still alive; a number that another program has now does not count."""
        return {name: process for name, process in self.processes.items() if process.is_alive()}


@dataclass(frozen=True, slots=True)
class StackEnd:
    """Why the last stack of a data directory ended, where nobody told it to.

    Attributes
    ----------
    at : str
        When, in ISO 8601.
    why : str
        The error's message.
    """

    at: str
    why: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Return the end by an error, now."""
        return cls(datetime.now(UTC).isoformat(timespec="seconds"), str(error) or repr(error))

    def write(self, home: Path) -> None:
        """Leave it for `botify status`."""
        (home / ENDED_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """Return the end, or None where the last stack was told to stop; a file that is none of ours counts as none."""
        try:
            return cls(**json.loads((home / ENDED_FILE).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    @staticmethod
    def forget(home: Path) -> None:
        """Remove what an earlier stack left."""
        (home / ENDED_FILE).unlink(missing_ok=True)
