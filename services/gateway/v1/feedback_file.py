"""The file `BOTIFY_FEEDBACK`: kinds of feedback, and rules that pin, boost or block items. docs/v1.md has examples.

What a kind means for the next answer of its listener is in one table of declarations: `like`, `dislike` and `unlike`
are built in, and each table of the file except `rules` declares another. `un-save` withdraws a `save`.

The table `rules` is read again when the file changes. Rows and fallbacks heed blocks only. A request to the
recommenders has the rules that hold at its time, so its answer can be computed again without the file.
"""

from __future__ import annotations

import logging
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args

from pydantic import Field, ValidationError, model_validator

from botify.core.errors import SettingsError
from botify.schemas.events import DESCRIBED, NAMED, OPINION_KINDS, SHOWN, WITHDRAWS, SlateRule
from botify.schemas.validation import KIND, MAX_BOOST, MAX_SLATE
from botify.services.gateway.api import TrackInBody
from botify.services.gateway.v1.models import DURATION, LISTENED_KINDS, Filter, Strict, Time
from botify.streams.folds.feedback import Said

log = logging.getLogger(__name__)

Meaning = Literal["positive", "negative", "nothing"]
_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
RESERVED = (*LISTENED_KINDS, *OPINION_KINDS, SHOWN, NAMED, DESCRIBED, "rules")


def duration_ms(text: str) -> int:
    """Return a duration in ms.

    Examples
    --------
    >>> duration_ms("90m"), duration_ms("1d")
    (5400000, 86400000)
    """
    return int(text[:-1]) * _UNITS_MS[text[-1]]


class Kind(NamedTuple):
    """What a kind of feedback means."""

    means: Meaning
    weight: float = 1.0  # how much of a full listen a positive one counts for
    exclude_ms: float = 0.0  # for how long its items are not recommended; infinite for ever


_BUILT_IN = {
    "like": Kind("positive", exclude_ms=math.inf),
    "dislike": Kind("negative", exclude_ms=math.inf),
    "unlike": Kind("nothing"),
}


def read_tables(file: Path | None) -> dict[str, Any]:
    """Return the tables of `BOTIFY_FEEDBACK`, none without a file; raises `SettingsError` where it cannot be read."""
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"BOTIFY_FEEDBACK: {file} cannot be read as TOML: {error}") from error


class Signal(NamedTuple):
    """A positive kind of a track, which counts as a listen of a share at a time."""

    time_ms: int
    track: int
    weight: float
    kind: str


@dataclass(frozen=True, slots=True)
class Kinds:
    """The declared kinds; those that are not declared any more mean nothing.

    Examples
    --------
    >>> kinds = Kinds({**_BUILT_IN, "save": Kind("positive", 0.5)})
    >>> kinds.signals([(1, 7, "save"), (2, 8, "un-save"), (3, 7, "like"), (4, 9, "dislike")])
    [Signal(time_ms=3, track=7, weight=1.0, kind='like')]
    >>> kinds.excluded([(1, 6, "save"), (3, 7, "like"), (4, 9, "dislike")], now_ms=5)
    [7, 9]
    """

    declared: Mapping[str, Kind]

    @classmethod
    def of(cls, file: Path | None) -> Kinds:
        """Read the file; raises `SettingsError`, which names file, kind and value."""
        tables = read_tables(file)
        tables.pop("rules", None)
        try:
            return cls({**_BUILT_IN, **{name: _kind_of(name, table) for name, table in tables.items()}})
        except ValueError as error:
            raise SettingsError(f"BOTIFY_FEEDBACK: {file}: {error}") from error

    @property
    def names(self) -> list[str]:
        """What may be told, what withdraws own kinds included."""
        own = [WITHDRAWS + name for name in self.declared if name not in OPINION_KINDS]
        return [*self.declared, *own]

    def signals(self, said: Sequence[Said]) -> list[Signal]:
        """Return what counts as a listen, the oldest first; of a track the one of most weight, the newest of these."""
        best: dict[int, Signal] = {}
        for time_ms, track, kind in said:
            meant = self.declared.get(kind)
            if meant is not None and meant.means == "positive" and meant.weight > 0:
                one = Signal(time_ms, track, meant.weight, kind)
                best[track] = max(best.get(track, one), one, key=lambda two: (two.weight, two.time_ms))
        return sorted(best.values())

    def excluded(self, said: Sequence[Said], now_ms: int) -> list[int]:
        """Return the tracks that are not recommended because of what was said, the oldest first."""
        found = [(self.declared.get(kind), time_ms, track) for time_ms, track, kind in said]
        return [track for kind, at_ms, track in found if kind and kind.exclude_ms and now_ms < at_ms + kind.exclude_ms]


def _kind_of(name: str, table: Any) -> Kind:
    """Return a kind as it is declared; raises `ValueError`."""
    if not KIND.fullmatch(name) or len(WITHDRAWS + name) > 32 or name.startswith(WITHDRAWS) or name in RESERVED:
        taken = f"none of {', '.join(RESERVED)}, and does not begin with {WITHDRAWS}"
        raise ValueError(f"kind {name!r}: a kind is a word of a-z, 0-9 and -, of at most 29 letters; it is {taken}")
    if not isinstance(table, dict):
        raise ValueError(  # noqa: TRY004 - a wrong file, not a wrong call
            f"{name} = {table!r} is no table; write [{name}], and below it what it means"
        )
    if unknown := sorted(table.keys() - {"means", "weight", "exclude"}):
        raise ValueError(f"[{name}] {unknown[0]} = {table[unknown[0]]!r} is none of means, weight, exclude")
    means: Any = table.get("means")
    weight, exclude = table.get("weight", 1.0), table.get("exclude", "no")
    if means not in get_args(Meaning):
        raise ValueError(f"[{name}] means = {means!r} is none of {', '.join(get_args(Meaning))}")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise ValueError(f"[{name}] weight = {weight!r} is not a number from 0 to 1")
    if "weight" in table and means != "positive":
        raise ValueError(f"[{name}] weight = {weight!r}: only a positive kind has a weight; leave it out")
    if exclude in ("forever", "no"):
        return Kind(means, float(weight), math.inf if exclude == "forever" else 0.0)
    if not isinstance(exclude, str) or not re.fullmatch(DURATION, exclude):
        raise ValueError(f"[{name}] exclude = {exclude!r} is neither forever, no, nor a duration such as 30d, 12h, 90m")
    return Kind(means, float(weight), duration_ms(exclude))


MOST_RULES, MOST_ITEMS = 100, 1_000
"""Of a file, and of all its rules together: each request carries them."""


class RuleTable(Strict):
    """A rule as it is written."""

    items: Annotated[tuple[TrackInBody, ...], Field(max_length=MOST_ITEMS)] = ()
    filter: Annotated[tuple[Filter, ...], Field(max_length=20)] = ()
    pin: Annotated[int | None, Field(strict=True, ge=1, le=MAX_SLATE)] = None
    boost: Annotated[float | None, Field(strict=True, gt=1, le=MAX_BOOST)] = None
    block: Literal[True] | None = None
    until: Time | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if [self.pin, self.boost, self.block].count(None) != 2:
            raise ValueError("a rule has one of pin, boost and block")
        if bool(self.items) == bool(self.filter):
            raise ValueError("a rule has either items or filter, and not an empty one")
        if self.pin is not None and self.filter:
            raise ValueError("pin wants items, whose order is that of their places, and no filter")
        return self


class Rules:
    """The rules of a file; `number_of` returns the number of an item, None of one that the catalogue does not have.

    `refresh` reads the file again if it has changed. A mistake is logged then, and the rules stay as they were.
    """

    def __init__(self, file: Path | None, number_of: Callable[[int | str], int | None]) -> None:
        self._file, self._number_of = file, number_of
        self._tables = read_rules(file)
        self._seen = self._stamp()
        self._rules: list[tuple[SlateRule, float]] = []  # with the event time at which each ends, in ms
        self._resolve()

    def now(self, now_ms: int) -> list[SlateRule]:
        """Return the rules that hold at an event time."""
        return [rule for rule, until_ms in self._rules if now_ms < until_ms]

    def refresh(self) -> None:
        if (stamp := self._stamp()) != self._seen:
            self._seen = stamp
            try:
                self._tables = read_rules(self._file)
                log.info("%d rules", len(self._tables))
            except SettingsError as error:
                log.error("the rules stay as they were: %s", error)  # noqa: TRY400 - the message says it all
        self._resolve()

    def _stamp(self) -> Any:
        try:
            found = self._file.stat() if self._file is not None else None
        except OSError:
            return self._seen  # it is being replaced
        return found and (found.st_mtime_ns, found.st_size, found.st_ino)

    def _resolve(self) -> None:
        self._rules = []
        for table in self._tables:
            numbers = [number for item in table.items if (number := self._number_of(item)) is not None]
            boost = 0.0 if table.block else table.boost or 1.0
            place = None if table.pin is None else table.pin - 1
            rule: SlateRule = {"tracks": numbers, "filters": list(table.filter), "boost": boost, "place": place}
            self._rules.append((rule, math.inf if table.until is None else table.until.timestamp() * 1000))


def read_rules(file: Path | None) -> list[RuleTable]:
    """Read the rules of a file; raises `SettingsError`, which names file, rule and value."""
    tables = read_tables(file).get("rules", {})
    if not isinstance(tables, dict) or len(tables) > MOST_RULES:
        raise SettingsError(f"BOTIFY_FEEDBACK: {file}: rules are at most {MOST_RULES} tables, [rules.NAME] each")
    rules = []
    for name, table in tables.items():
        try:
            rules.append(RuleTable.model_validate(table))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = "".join(f" {part} =" for part in first["loc"][:1])
            value = f"{where} {first['input']!r}" if where else ""
            why = first["msg"].removeprefix("Value error, ")
            raise SettingsError(f"BOTIFY_FEEDBACK: {file}: [rules.{name}]{value}: {why}") from error
    if (items := sum(len(rule.items) for rule in rules)) > MOST_ITEMS:
        raise SettingsError(f"BOTIFY_FEEDBACK: {file}: the rules name {items} items; they may name {MOST_ITEMS}")
    return rules
