"""Lists that were made anywhere, as models: the format of `botify models publish`.

A JSON object with `users`, `items` or both::

    {"users": {"alice": ["t-17", "t-4"]}, "items": {"t-17": ["t-4", "t-9"]}}

Each maps a name to items, best first. `users` are served by `indexed`, `items`, which are similar items, by
`contextual`, `i2i` and `similar_users`. Names are external ids, or numbers where there are none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from botify.schemas.events import Model, Track
from botify.schemas.external_ids import UserIdError, UserIds, track_named
from botify.schemas.models import model_of
from botify.services.errors import RecommenderError
from botify.services.recommender.lists import NEIGHBOURS, NO_TRACK, USER_LISTS, Lists

MOST = 1_000  # items of a list

ListOfItems = Annotated[list[str | int], Field(max_length=MOST)]


class ListsFile(BaseModel):
    """What the file has."""

    model_config = ConfigDict(extra="forbid")

    users: dict[str, ListOfItems] = {}
    items: dict[str, ListOfItems] = {}


@dataclass(slots=True)
class ReadLists:
    """Models of a file with their numbers of lists, and names that neither the catalogue nor the id table has."""

    models: list[Model] = field(default_factory=list)
    lists: dict[str, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def read_lists(path: Path, tracks: Mapping[int, Track], users: UserIds, version: int, now_ms: int) -> ReadLists:
    """Read a file of lists.

    Raises `RecommenderError` if the file cannot be read, has another form, or no name of it is known; `TopicError` if a
    model is larger than a record of its topic may be.
    """
    try:
        file = ListsFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise RecommenderError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecommenderError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:
        raise RecommenderError(f"{path} is not JSON: {error}") from error
    numbers = {track.external_id: track.track for track in tracks.values() if track.external_id is not None}

    def item(name: str | int) -> int | None:
        name = track_named(name) if isinstance(name, str) and name not in numbers else name
        return (name if name in tracks else None) if isinstance(name, int) else numbers.get(name)

    def user(name: str | int) -> int | None:
        try:
            return users.number_of(str(name))
        except UserIdError:
            return None

    read = ReadLists()
    for name, lists, number_of in ((USER_LISTS, file.users, user), (NEIGHBOURS, file.items, item)):
        if lists:
            numbered = _numbered(lists, number_of, item, read.unknown)
            if numbered:
                read.models.append(model_of(name, version, _lists_of(numbered).to_bytes(), now_ms))
                read.lists[name] = len(numbered)
    if not read.models:
        raise RecommenderError(f"{path} has no list of known users or items; unknown: {', '.join(read.unknown[:5])}")
    return read


def _numbered(
    lists: Mapping[str, list[Any]],
    number_of: Callable[[str | int], int | None],
    item: Callable[[str | int], int | None],
    unknown: list[str],
) -> dict[int, list[int]]:
    numbered: dict[int, list[int]] = {}
    for name, names in lists.items():
        key = number_of(name)
        known = {one: item(one) for one in names}
        unknown += [str(one) for one, number in known.items() if number is None]
        if key is None:
            unknown.append(name)
        elif found := [number for number in dict.fromkeys(known.values()) if number is not None]:
            numbered[key] = found
    return numbered


def _lists_of(numbered: Mapping[int, list[int]]) -> Lists:
    keys = np.array(sorted(numbered), dtype=np.int64)
    tracks = np.full((len(keys), max(map(len, numbered.values()))), NO_TRACK, dtype=np.int32)
    for row, key in enumerate(keys.tolist()):
        tracks[row, : len(numbered[key])] = numbered[key]
    return Lists(keys, tracks)
