"""External ids: what users and tracks are called where they come from; inside, both are numbers.

A track's external id is on the catalogue topic. The ids of a dataset's users are in its id table, and a deployment that
serves them names it in `BOTIFY_DATASET`. Any other name is on the feedback topic since its first event, and in the
state (`streams/folds/feedback.py`).

A track is a number, or its external id. In JSON the type says which: `7` is a number, `"7"` an external id. In a path,
digits are a number and other text is an external id; in quotes, as in JSON, digits are an external id too. A user is
called as the caller likes; digits are the number, without a dataset.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.schemas.validation import MAX_USER

USERS = "users.parquet"  # the id table of a dataset's users: `id` and `external_id`, in the order of the numbers
NEWCOMERS_FROM = 2**52  # numbers of users who are not in the table; those below are the tables'
CANDIDATES = 3  # numbers that a name may have: of a million names, two share one with a probability of 1 in 9,000


class UserIdError(BotifyError):
    """A text names no user, or there is no id table."""


def datasets_directory(home: Path) -> Path:
    """Return where the datasets are, in the data directory of the settings."""
    return home / "datasets"


def track_named(text: str) -> int | str:
    """Return the number or the external id that a text stands for."""
    if text.isascii() and text.isdecimal():
        return int(text)
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


class UserIds:
    """The names of users and their numbers: external ids in the order of their numbers.

    Without an id table, digits name the number. Any other user who is not in the table gets a number from the hash of
    the name: the first of its candidates that no other name has. Who has which is in the state.

    Examples
    --------
    >>> users = UserIds()
    >>> users.candidates("42"), users.known_as("42"), users.known_as("alice")
    ((42,), 42, 'alice')
    >>> first, second, _ = users.candidates("alice")
    >>> chosen("alice", {first: "bob", second: None}) == second
    True
    """

    def __init__(self, external: Sequence[str] | None = None) -> None:
        self._external = external or ()
        self._numbers = None if external is None else {name: number for number, name in enumerate(external)}

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Read the id table of `Settings.dataset`, or raise `UserIdError`; without a dataset there is none."""
        if settings.dataset is None:
            return cls()
        import pyarrow.parquet as pq  # takes memory and time that deployments without a dataset need not spend

        directory = datasets_directory(settings.home)
        path = (directory / settings.dataset / USERS).resolve()
        if path.parent.parent != directory.resolve() or not path.is_file():
            raise UserIdError(
                f"dataset {settings.dataset!r} is not in {directory}; `botify data list` shows those that are"
            )
        with pq.ParquetFile(path) as file:  # `read_table` would import pandas, a second of CPU time
            return cls(file.read(columns=["external_id"])["external_id"].to_pylist())

    @property
    def are_external(self) -> bool:
        """Whether there is an id table, so that digits are a name as any other."""
        return self._numbers is not None

    def number_of(self, name: str) -> int:
        """Return the number that a user has unless another name had it first; raises as `candidates`."""
        return self.candidates(name)[0]

    def candidates(self, name: str) -> tuple[int, ...]:
        """Return the numbers that a user may have, the likeliest first; raises `UserIdError` for an empty name."""
        if not name:
            raise UserIdError("a user's id must not be empty")
        known = _number(name) if self._numbers is None else self._numbers.get(name)
        if known is not None:
            return (known,)
        text = name.encode("utf-8", "surrogatepass")
        return tuple(NEWCOMERS_FROM + digest_of(text, at) % NEWCOMERS_FROM for at in range(CANDIDATES))

    def name_of(self, number: int) -> str | None:
        """Return the name of a number in the id table, None for others."""
        return self._external[number] if number < len(self._external) else None

    def known_as(self, name: str) -> int | str:
        """Return what answers call a user: the name, or the number where the name is one."""
        number = _number(name) if self._numbers is None else None
        return name if number is None else number


def chosen(name: str, owners: Mapping[int, str | None]) -> int:
    """Return the number of a name by who has its candidates, in their order; raises `UserIdError` if all are taken."""
    for wanted in (name, None):
        for number, owner in owners.items():
            if owner == wanted:
                return number
    raise UserIdError(f"the numbers of {name!r} are other listeners'; call this listener otherwise")


def digest_of(text: bytes, at: int) -> int:
    """Return the hash of a name for its candidate at a place, 64 bits."""
    salt = b"" if at == 0 else b"%d" % at
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, salt=salt).digest(), "big")


def _number(name: str) -> int | None:
    if name.isascii() and name.isdecimal() and len(name) <= len(str(MAX_USER)) and int(name) <= MAX_USER:
        return int(name)
    return None
