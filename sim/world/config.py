"""The settings of generated worlds: those that have a name, and what a TOML file may override."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from botify.sim import WorldError


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """Settings of a generated world; `docs/world.md` describes how the named ones were calibrated.

    A scene is a group of artists who sound alike; it belongs to a genre, which the catalogue tells, and the scene
    it does not tell. Without scenes, all that a genre's artists have in common stands in the catalogue. Without
    countries, it tells neither mood nor year nor country. A cluster is a community of listeners who like the same
    scenes, or genres. The probability that the track of rank r is an interest is proportional to
    ``(r + offset * tracks) ** -exponent`` (Zipf–Mandelbrot). The norms are the expected lengths of the parts of a
    track's vector. A session follows one of a listener's interests, whose `consume_bias` is uniform in [0, bias_max).
    """

    seed: int = 2
    tracks: int = 50_000
    artists: int = 11_500
    genres: int = 40
    users: int = 10_000
    scenes: int = 0
    countries: int = 0
    dimensions: int = 100
    clusters: int = 20
    popularity_exponent: float = 0.75
    popularity_offset: float = 0.001
    common_norm: float = 0.7
    genre_norm: float = 2.2
    scene_norm: float = 0.0
    artist_norm: float = 1.0
    own_norm: float = 2.0
    interests: int = 3
    bias_max: float = 10.0
    interest_neighbours: int = 10
    session_budget: int = 5
    artist_discount_gamma: float = 0.9

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            self._require(name, math.isfinite(value), "finite")
        self._require("seed", self.seed >= 0, "0 or more")
        counts = "tracks", "artists", "genres", "users", "dimensions", "clusters", "interests", "interest_neighbours"
        for name in (*counts, "session_budget"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        norms = "common_norm", "genre_norm", "scene_norm", "artist_norm", "own_norm"
        for name in ("scenes", "countries", *norms, "popularity_exponent"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        self._require("popularity_offset", self.popularity_offset > 0, "greater than 0")
        self._require("bias_max", self.bias_max > 0, "greater than 0")
        self._require("artist_discount_gamma", 0 < self.artist_discount_gamma <= 1, "in (0, 1]")
        self._require("artists", self.artists <= self.tracks, f"at most the number of tracks, {self.tracks}")
        self._require("genres", self.genres <= self.artists, f"at most the number of artists, {self.artists}")
        self._require("scenes", self.scenes <= self.artists, f"at most the number of artists, {self.artists}")
        for name in ("interests", "interest_neighbours"):
            self._require(name, getattr(self, name) <= self.tracks, f"at most the number of tracks, {self.tracks}")

    @classmethod
    def from_toml(cls, path: Path) -> "WorldConfig":
        """Read a TOML file; missing settings are the default world's. Raises `WorldError`, also for unknown ones."""
        try:
            return cls.from_mapping(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, WorldError) as error:
            raise WorldError(f"{path}: {error}") from error

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "WorldConfig":
        """Check settings given by name, others being those of the default world; raises WorldError on a bad one."""
        kinds: dict[str, type] = {field.name: type(field.default) for field in fields(cls)}
        checked: dict[str, Any] = {}
        for name, value in values.items():
            if name not in kinds:
                raise WorldError(f"world: {name!r} is not a setting; choose from {', '.join(kinds)}")
            allowed = (int, float) if kinds[name] is float else (int,)
            if isinstance(value, bool) or not isinstance(value, allowed):
                raise WorldError(
                    f"world: {name} = {value!r} must be a {'number' if float in allowed else 'whole number'}"
                )
            checked[name] = kinds[name](value)
        if "scenes" not in checked and "artists" in checked:
            # as many artists a scene as in the default world, where the labels leave room for that
            artists, genres = checked["artists"], checked.get("genres", DEFAULT.genres)
            checked["scenes"] = min(max(DEFAULT.scenes * artists // DEFAULT.artists, genres), artists)
        return replace(DEFAULT, **checked)

    def _require(self, name: str, holds: bool, must_be: str) -> None:
        if not holds:
            raise WorldError(f"world: {name} = {getattr(self, name)!r} must be {must_be}")


EASY = WorldConfig()  # all that sounds alike is one genre, and the catalogue tells it: any track of the genre pleases
COURSE = WorldConfig(scenes=300, genre_norm=0.0, scene_norm=2.2, artist_norm=0.75, common_norm=0.74)
"""Calibrated to what Botify's course and its participants published; the genres tell something, but not much."""
COURSE_2026 = replace(COURSE, tracks=30_000, artists=6_900, scene_norm=2.9, artist_discount_gamma=0.8, countries=20)
"""The course's edition of 2026: the catalogue also tells mood, year and country, and an artist tires sooner."""
NAMED: Mapping[str, WorldConfig] = {"course": COURSE, "course-2026": COURSE_2026, "easy": EASY}
"""Worlds that have names besides their hashes."""
DEFAULT_NAME = "course"
DEFAULT = NAMED[DEFAULT_NAME]
