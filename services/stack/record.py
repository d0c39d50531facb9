"""`stack.json`: what runs where, written by who runs it, read by everybody else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from schemas.settings import STACK_FILE
from services.stack.errors import StackError
from services.stack.identity import Identity


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
