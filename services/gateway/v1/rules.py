"""Rules: items that are pinned, boosted or blocked in `/v1` until a time; rows and fallbacks heed blocks only.

They are the table `rules` of the file `BOTIFY_FEEDBACK`, and are read again when it changes::

    [rules.spring]
    filter = ["genre:folk", "year>=2010"]   # or items = ["t-1", 7]
    boost = 3                               # or pin = 1, a place, or block = true
    until = 2026-06-01T00:00:00Z            # without it, for as long as the rule is in the file

A request to the recommenders has the rules that hold at its time, so its answer can be computed again without the file.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, ValidationError, model_validator

from botify.core.errors import SettingsError
from botify.schemas.events import SlateRule
from botify.schemas.validation import MAX_BOOST, MAX_SLATE
from botify.services.gateway.api import TrackInBody
from botify.services.gateway.v1.kinds import read_tables
from botify.services.gateway.v1.models import Filter, Strict, Time

log = logging.getLogger(__name__)

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


class Rule(NamedTuple):
    """A rule with the numbers of its items, and the event time at which it ends."""

    rule: SlateRule
    until_ms: float


class Rules:
    """The rules of a file; `number_of` returns the number of an item, None of one that the catalogue does not have.

    `refresh` reads the file again if it has changed. A mistake is logged then, and the rules stay as they were.
    """

    def __init__(self, file: Path | None, number_of: Callable[[int | str], int | None]) -> None:
        self._file, self._number_of = file, number_of
        self._tables = read_rules(file)
        self._seen = self._stamp()
        self._rules: list[Rule] = []
        self._resolve()

    def now(self, now_ms: int) -> list[SlateRule]:
        """Return the rules that hold at an event time."""
        return [one.rule for one in self._rules if now_ms < one.until_ms]

    def refresh(self) -> None:
        """Follow the file and the catalogue."""
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
            self._rules.append(Rule(rule, math.inf if table.until is None else table.until.timestamp() * 1000))


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
