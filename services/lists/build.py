"""The batch job: the lists of neighbours and of listeners as models, made by SQL in DuckDB or Spark.

With w(s, i) the share of track i that was heard in session s, and n(i, j) the number of sessions in which both were
heard, the similarity is the cosine of the two tracks' columns, shrunk towards 0 for few sessions::

    sim(i, j) = Σ_s w(s, i) w(s, j) / (‖w(·, i)‖ ‖w(·, j)‖)  ·  (n(i, j) / (n(i, j) + λ))

Cosine: Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001; shrinkage: Bell and
Koren, "Improved neighborhood-based collaborative filtering", KDD Cup 2007.

The score of a track t for a listener u is Σ_i liked(u, i) · sim(i, t) over the tracks i of which the listener heard
half or more, with liked(u, i) the sum of the fractions. Tracks that the listener has heard are left out. If fewer
tracks than wanted have a score, the most popular ones (sum of fractions over all listeners) follow. Ties are in order
of the track.

Fractions are counted in steps of 1 / `SHARE_STEPS`, similarities in steps of 1 / `SIMILARITY_STEPS`; less than half a
step is 0, and tracks with a similarity of 0 are no neighbours. So all sums are of whole numbers, and the lists depend
neither on the order of adding nor on the engine. Everything but the lists stays in the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike
from pyarrow import dataset

from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.core.sql import Engine, open_duckdb, steps
from botify.schemas.dead_letters import RejectedBefore
from botify.schemas.events import Listen, Model
from botify.schemas.models import model_of
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.schemas.validation import iter_valid
from botify.services.errors import RecommenderError
from botify.services.recommender.lists import NEIGHBOURS, NO_TRACK, USER_LISTS, Lists

COLUMNS = ("event_id", "session_id", "user", "track", "fraction", "timestamp_ms")
"""Columns of listens; the ids may be numbers, and rows with the same `event_id` are copies of a listen."""

SHARE_STEPS, SIMILARITY_STEPS = 2**16, 2**24
"""Sums are exact for two billion sessions with a track, and eight million likes of a listener."""
SHRINKAGE = 2.0
MAX_SESSION_TRACKS = 100  # tracks of a session that count at most: the work grows with their square
LIKED = 0.5  # fraction from which on a track counts as liked

# One row for each event: copies have the numbers of their event.
_LISTENS = f"""
    SELECT min(session_id) AS session_id, min("user") AS "user", CAST(min(track) AS INTEGER) AS track,
           min(fraction) AS fraction, CAST(min({steps("fraction", SHARE_STEPS)}) AS BIGINT) AS share,
           min(timestamp_ms) AS timestamp_ms
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
    SELECT "user", n.track AS track, CAST(sum(liked * similarity) AS BIGINT) AS score FROM (
        SELECT "user", track, CAST(sum(share) AS BIGINT) AS liked
        FROM listens WHERE fraction >= {LIKED}e0 GROUP BY "user", track
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


def find_neighbours(engine: Engine, count: int) -> pd.DataFrame:
    """Find up to `count` most similar tracks of each track in the table `listens`, and keep them as `neighbours`.

    The columns are `key`, `track`, `similarity` in steps, and `place`, from 1 on.
    """
    engine.keep("shares", _SHARES)
    engine.view("norms", _NORMS)
    engine.view("pairs", _PAIRS)
    engine.keep("similar_tracks", _SIMILAR)
    engine.keep("neighbours", _NEIGHBOURS.format(count=count))
    return engine.frame("SELECT * FROM neighbours")


def make_user_lists(engine: Engine, count: int) -> Lists:
    """Build a list of up to `count` tracks for each listener in the table `listens`, from the table `neighbours`."""
    engine.keep("heard", _HEARD)
    engine.view("scored", _SCORED)
    engine.keep("ranked", _RANKED.format(count=count))
    engine.view("popular", _POPULAR)
    engine.keep("taken", _TAKEN)
    engine.view("short", _SHORT.format(count=count))
    filling = _FILLING.format(count=count)
    picked = engine.frame(f'SELECT "user" AS key, track, place FROM ranked UNION ALL {filling}')
    return listed(picked, engine.frame('SELECT DISTINCT "user" AS key FROM heard')["key"], count)


def listed(rows: pd.DataFrame, keys: ArrayLike, count: int) -> Lists:
    """Return rows of `key`, `track` and `place` as lists of `count` places, one for each of the `keys`."""
    ordered = np.unique(np.asarray(keys, dtype=np.int64))
    tracks = np.full((len(ordered), count), NO_TRACK, dtype=np.int32)
    tracks[np.searchsorted(ordered, rows["key"]), rows["place"] - 1] = rows["track"]
    return Lists(ordered, tracks)


def build_models(listens: pd.DataFrame, neighbours: int, per_user: int) -> list[Model]:
    """Build both models in DuckDB, from a frame with `COLUMNS`; see `build_models_in`."""
    with open_duckdb() as engine:
        engine.load("files", listens)
        return _build(engine, neighbours, per_user)


def build_models_in(engine: Engine, files: Sequence[Path], neighbours: int, per_user: int) -> list[Model]:
    """Build both models of Parquet files; the same listens, in any order and engine, give the same bytes.

    A track has at most `neighbours`, a listener's list at most `per_user` tracks; the version is the number of listens.
    Raises `RecommenderError` without listens, `TopicError` if a model is larger than a record of its topic may be.
    """
    engine.read("files", files)
    return _build(engine, neighbours, per_user)


def _build(engine: Engine, neighbours: int, per_user: int) -> list[Model]:
    keep_listens(engine)
    total = engine.frame("SELECT count(*) AS listens, max(timestamp_ms) AS newest_ms FROM listens").iloc[0]
    if not total["listens"]:
        raise RecommenderError("there are no listens to build lists from; run `botify sim` first")
    found = find_neighbours(engine, neighbours)
    lists = {NEIGHBOURS: listed(found, found["key"], neighbours), USER_LISTS: make_user_lists(engine, per_user)}
    version, newest_ms = int(total["listens"]), int(total["newest_ms"])
    return [model_of(name, version, one.to_bytes(), newest_ms) for name, one in lists.items()]


def keep_listens(engine: Engine) -> None:
    """Make the table `listens` of the view `files`, without copies."""
    engine.keep("listens", _LISTENS)


_FIELDS = attrgetter(*COLUMNS)


def listens_of_topic(settings: Settings) -> pd.DataFrame:
    """Read the listens topic to its end, without dead letters; ids become hashes. Raises `TopicError`."""
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    with closing(TopicReader(settings, topic)) as reader, closing(RejectedBefore(settings, topic)) as rejected:
        rejected.refresh()
        parts = [
            _frame(_FIELDS(listen) for _, listen in iter_valid(batch, Listen, codec, rejected.offsets))
            for batch in reader.read_to_end()
        ]
    return pd.concat([_frame([]), *parts], ignore_index=True)


def _frame(rows: Iterable[Any]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS), dtype=object)
    for name in "event_id", "session_id":
        frame[name] = pd.util.hash_array(frame[name].to_numpy(), categorize=False)
    return frame.astype({"user": np.int64, "track": np.int64, "fraction": np.float64, "timestamp_ms": np.int64})


def files_of(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder; raises `RecommenderError` if it holds no listens."""
    if not folder.is_dir():
        raise RecommenderError(f"{folder} is not a folder; `botify data export --out {folder}` writes one")
    try:
        found = dataset.dataset(folder, format="parquet", partitioning="hive")
        found.scanner(columns=list(COLUMNS))  # raises where a column is missing
        for fragment in found.get_fragments():
            fragment.ensure_complete_metadata()  # raises where a file is damaged
    except (pa.ArrowInvalid, OSError) as error:
        raise RecommenderError(
            f"{folder} is not an export of listens ({error}); `botify data export` writes one"
        ) from error
    return [Path(file) for file in found.files]
