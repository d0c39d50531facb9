"""The batch job as SQL on the files of an export: the lists of `botify.services.lists.build`, byte for byte.

For listens that do not fit in memory, and for a cluster that has Spark. Everything but the lists stays in the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from botify.core.sql import Engine, steps
from botify.schemas.events import Model
from botify.services.errors import RecommenderError
from botify.services.lists.build import (
    LIKED,
    MAX_SESSION_TRACKS,
    NO_LISTENS,
    SHARE_STEPS,
    SHRINKAGE,
    SIMILARITY_STEPS,
    models_of,
)
from botify.services.recommender.lists import NO_TRACK, Lists

# One row for each event: copies have the numbers of their event.
_LISTENS = f"""
    SELECT min(session_id) AS session_id, min("user") AS "user", min(track) AS track, min(fraction) AS fraction,
           CAST(min({steps("fraction", SHARE_STEPS)}) AS BIGINT) AS share, min(timestamp_ms) AS timestamp_ms
    FROM files GROUP BY event_id
"""
_SHARES = f"""
    SELECT session_id, track, share FROM (
        SELECT *, row_number() OVER (PARTITION BY session_id ORDER BY track) AS place FROM (
            SELECT session_id, track, max(share) AS share FROM listens WHERE share > 0 GROUP BY session_id, track
        )
    ) WHERE place <= {MAX_SESSION_TRACKS}
"""
_NORMS = "SELECT track, sqrt(CAST(sum(share * share) AS DOUBLE)) AS norm FROM shares GROUP BY track"
_PAIRS = """
    SELECT low, high, CAST(dot AS DOUBLE) / (a.norm * b.norm) AS cosine, CAST(sessions AS DOUBLE) AS sessions FROM (
        SELECT a.track AS low, b.track AS high, sum(a.share * b.share) AS dot, count(*) AS sessions
        FROM shares AS a JOIN shares AS b ON a.session_id = b.session_id AND a.track < b.track
        GROUP BY a.track, b.track
    ) JOIN norms AS a ON low = a.track JOIN norms AS b ON high = b.track
"""
_SIMILAR = f"""
    SELECT low, high, CAST({steps(f"(cosine * (sessions / (sessions + {SHRINKAGE}e0)))", SIMILARITY_STEPS)} AS BIGINT)
           AS similarity
    FROM pairs
"""
_NEIGHBOURS = """
    SELECT key, track, similarity, place FROM (
        SELECT key, track, similarity,
               row_number() OVER (PARTITION BY key ORDER BY similarity DESC, track) AS place
        FROM (SELECT low AS key, high AS track, similarity FROM similar_tracks
              UNION ALL SELECT high AS key, low AS track, similarity FROM similar_tracks)
        WHERE similarity > 0
    ) WHERE place <= {count}
"""
_HEARD = 'SELECT DISTINCT "user", track FROM listens'
_SCORED = f"""
    SELECT "user", n.track AS track, sum(liked * similarity) AS score FROM (
        SELECT "user", track, sum(share) AS liked FROM listens WHERE fraction >= {LIKED}e0 GROUP BY "user", track
    ) AS l JOIN neighbours AS n ON l.track = n.key GROUP BY "user", n.track
"""
_RANKED = """
    SELECT "user", track, place FROM (
        SELECT "user", track, row_number() OVER (PARTITION BY "user" ORDER BY score DESC, track) AS place
        FROM scored ANTI JOIN heard USING ("user", track)
    ) WHERE place <= {count}
"""
_POPULAR = """
    SELECT track, row_number() OVER (ORDER BY plays DESC, track) AS place
    FROM (SELECT track, sum(share) AS plays FROM listens GROUP BY track)
"""
# Of the popular tracks at most those are passed over that the listener has heard or has in the list already.
_TAKEN = 'SELECT "user", track FROM heard UNION SELECT "user", track FROM ranked'
_SHORT = """
    SELECT t."user" AS "user", taken, coalesce(listed, 0) AS listed
    FROM (SELECT "user", count(*) AS taken FROM taken GROUP BY "user") AS t
    LEFT JOIN (SELECT "user", count(*) AS listed FROM ranked GROUP BY "user") AS r ON t."user" = r."user"
    WHERE coalesce(listed, 0) < {count}
"""
_FILLING = """
    SELECT "user", track, listed + rank AS place FROM (
        SELECT "user", track, listed, row_number() OVER (PARTITION BY "user" ORDER BY place) AS rank FROM (
            SELECT s."user" AS "user", p.track AS track, s.listed AS listed, p.place AS place
            FROM (SELECT "user", listed, explode(sequence(1, {count} - listed + taken)) AS place FROM short) AS s
            JOIN popular AS p ON s.place = p.place
        ) ANTI JOIN taken USING ("user", track)
    ) WHERE listed + rank <= {count}
"""


def build_models_in(engine: Engine, files: Sequence[Path], neighbours: int, per_user: int) -> list[Model]:
    """Build the models of `botify.services.lists.build.build_models` in an engine; raises the same errors.

    `files` are the Parquet files of an export of listens; copies of a listen count once.
    """
    engine.read("files", files)
    engine.keep("listens", _LISTENS)
    total = engine.frame("SELECT count(*) AS listens, max(timestamp_ms) AS newest_ms FROM listens").iloc[0]
    if not total["listens"]:
        raise RecommenderError(NO_LISTENS)
    engine.keep("shares", _SHARES)
    engine.view("norms", _NORMS)
    engine.view("pairs", _PAIRS)
    engine.keep("similar_tracks", _SIMILAR)
    engine.keep("neighbours", _NEIGHBOURS.format(count=neighbours))
    found = engine.frame("SELECT key, track, place FROM neighbours")
    engine.keep("heard", _HEARD)
    engine.view("scored", _SCORED)
    engine.keep("ranked", _RANKED.format(count=per_user))
    engine.view("popular", _POPULAR)
    engine.keep("taken", _TAKEN)
    engine.view("short", _SHORT.format(count=per_user))
    filling = _FILLING.format(count=per_user)
    picked = engine.frame(f'SELECT "user" AS key, track, place FROM ranked UNION ALL {filling}')
    users = engine.frame('SELECT DISTINCT "user" AS key FROM heard ORDER BY key')["key"]
    lists = _lists(found["key"].unique(), found, neighbours), _lists(users, picked, per_user)
    return models_of(int(total["listens"]), int(total["newest_ms"]), *lists)


def _lists(keys: ArrayLike, rows: pd.DataFrame, count: int) -> Lists:
    ordered = np.sort(np.asarray(keys, dtype=np.int64))
    tracks = np.full((len(ordered), count), NO_TRACK, dtype=np.int32)
    at = np.searchsorted(ordered, rows["key"].to_numpy()), rows["place"].to_numpy() - 1
    tracks[at] = rows["track"].to_numpy()
    return Lists(ordered, tracks)
