"""Botify's JSON data log, with the tracks of its catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botify.ingest.formats.generic import json_rows
from botify.ingest.inputs import Source
from botify.ingest.lines import Rows


def read_botify(source: Source, columns: Mapping[str, str]) -> Iterator[Rows]:
    """Read `log.json`, or the only file, and `tracks.json` where it is there."""
    del columns
    if tracks := source.find("tracks.json"):
        for rows in json_rows(source, tracks, _track):
            yield rows._replace(about_items=True)
    member = source.find("log.json") or source.one(".json", ".jsonl")
    yield from json_rows(source, member, _Sessions().listen)


def _track(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "item": line.get("track"),
        "title": line.get("title"),
        "artist": line.get("artist"),
        "genre": line.get("genre"),
        "release": line.get("album"),
        **{name: line.get(name) for name in ("mood", "year", "country")},
    }


class _Sessions:
    """Names the sessions, which the log does not.

    One ends with the message `last`, and another begins where what is heard is not what was recommended: Botify's
    listeners hear what they are given.
    """

    def __init__(self) -> None:
        self._session: dict[Any, int] = {}
        self._recommended: dict[Any, Any] = {}

    def listen(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a line says of its listen."""
        if line.get("message") not in ("next", "last"):
            raise ValueError("message is neither next nor last")
        user, track = line.get("user"), line.get("track")
        if not isinstance(user, int | str) or not isinstance(track, int | str):
            raise ValueError("user or track is missing")  # noqa: TRY004 - as every other reason
        follows = self._recommended.pop(user, None) == track
        if not follows:
            self._session[user] = self._session.get(user, -1) + 1
        if line["message"] == "next":
            self._recommended[user] = line.get("recommendation")
        return {
            "user": user,
            "item": track,
            "time": line.get("timestamp"),
            "played": line.get("time"),
            "session": self._session[user],
            "organic": not follows,
        }
