"""Logs of one's own, and recommenders judged on them: `botify.load` and `Log.evaluate`."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import ndtri

from botify.analytics.offline.ranking import NO_TRACK
from botify.core.settings import Settings
from botify.evaluation import EvaluationError
from botify.evaluation.evaluate import Job, replays
from botify.evaluation.figures import CONFIDENCE, Row, rows_of
from botify.evaluation.log import Events, Ints, log_of_dataset, positive_of
from botify.evaluation.log import Log as Columns
from botify.evaluation.protocols import Terms
from botify.evaluation.ranker import Setup
from botify.evaluation.rankers.registry import check_name
from botify.evaluation.run import Outcome
from botify.ingest.dataset import DatasetError, dataset_names, open_dataset
from botify.ingest.formats import FORMATS
from botify.ingest.importing import ROLES, Request, import_dataset
from botify.ingest.inputs import UNREADABLE, Source
from botify.services.experiments.declaration import DEFAULT

ENDINGS = {"csv": (".csv", ".tsv", ".txt"), "parquet": (".parquet",), "jsonl": (".jsonl", ".ndjson", ".json")}
ALIASES = {
    "user": ("user", "user_id", "userid", "uid"),
    "item": ("item", "item_id", "itemid", "track", "track_id", "trackid", "movie_id", "movieid"),
    "time": ("time", "timestamp", "ts"),
}
"""Names of columns, best first; what is not here is called as its role."""


class Ranker(Protocol):
    """A recommender of your own: any class with these two methods; an attribute `name` replaces the class's name.

    Examples
    --------
    >>> from collections import Counter
    >>> class Popular:
    ...     def __init__(self):
    ...         self.values = Counter()
    ...
    ...     def learn_one(self, user, item, value):
    ...         self.values[item] += value
    ...
    ...     def rank(self, user, k):
    ...         return [item for item, _ in self.values.most_common(k)]
    """

    def learn_one(self, user: str, item: str, value: float) -> None:
        """Learn an event; the value is the share that was heard, or what a rating or a like stands for, 0 to 1."""

    def rank(self, user: str, k: int) -> Iterable[str]:
        """Return up to k items, best first, none twice.

        Items that the user has heard may be among them: `k` is larger by their number, and they are left out of the
        list. Do not break ties by the ids if these tell when an item was new: that looks into the future.
        """


class Log:
    """A log of events, made by `botify.load`; `rejected` has the rows that could not be read, with the reasons."""

    def __init__(self, columns: Columns, positive: float, users: Sequence[str], rejected: pd.DataFrame) -> None:
        self._columns, self._positive, self._users = columns, positive, users
        self.rejected = rejected

    def __len__(self) -> int:
        return self._columns.events.size

    def __repr__(self) -> str:
        rejected = f", {len(self.rejected):,} rows rejected (see .rejected)" if len(self.rejected) else ""
        of = f"{self._columns.users:,} users and {self._columns.items:,} items"
        return f"{self._columns.name}: {len(self):,} events of {of}{rejected}"

    @property
    def events(self) -> pd.DataFrame:
        """The events in order of time: user, item, value (0 to 1), session, and time if the log has it."""
        events = self._columns.events
        users = pd.Series(self._users, dtype="str").take(events.users).array
        items = pd.Series(self.items.index, dtype="str").take(events.items).array
        frame = pd.DataFrame({"user": users, "item": items, "value": events.fractions, "session": events.sessions})
        if self._columns.has_time:
            frame["time"] = pd.to_datetime(events.times_ms, unit="ms", utc=True)
        return frame

    @property
    def items(self) -> pd.DataFrame:
        """What the log tells of its items: title, artist, album, genre, mood, year, country."""
        frame = pd.DataFrame(self._columns.tracks).set_index("external_id").rename_axis("item")
        return frame[["title", "artist", "album", "genre", "mood", "year", "country"]]

    def evaluate(
        self,
        rankers: Sequence[str | Ranker] = (DEFAULT,),
        *,
        protocol: str = "prequential",
        k: int = 10,
        seeds: int = 1,
        positive: float | None = None,
        repeats: bool = False,
        validation: bool = False,
        settings: Mapping[str, Mapping[str, float]] | None = None,
    ) -> pd.DataFrame:
        """Judge recommenders as `botify evaluate` does: each event is predicted, then learned.

        Parameters
        ----------
        rankers : sequence
            Rankers, of which each replay has a copy; names of recommenders and of peers (`toppop`, `ease`, …);
            `botify` is the default recommender. The others are compared with the first.
        protocol : str
            `prequential`, `leave-last-out` or `temporal-split`.
        seeds : int
            Number of replays.
        positive : float, optional
            Smallest value (or rating) that counts as liked; default: 0.5, or four stars in a log of ratings.
        repeats : bool
            Whether items that the user has heard may be recommended again.
        validation : bool
            Evaluate on what the test does not use, to choose settings.
        settings : mapping, optional
            Of peers, such as `{"ease": {"l2": 300}}`.

        Returns
        -------
        DataFrame
            A row for each: recall, NDCG and MRR of the first k, `gain` in recall over the first recommender, all with
            95 % intervals over users (`_lower`, `_upper`); what the lists are like, and µs of CPU for an event and a
            list (docs/evaluation.md).

        Raises
        ------
        EvaluationError
            A name is not known, its package is missing, the log does not suit the protocol, or a list breaks the rules.
        """
        rankers_by_name = by_name(rankers)
        least = self._positive if positive is None else positive_of(positive)
        job = Job("", self._columns, Terms(protocol, k, least, repeats, validation), range(seeds))
        jobs = {}
        for name, one in rankers_by_name.items():
            if isinstance(one, str):
                check_name(one)
                jobs[name] = replace(job, name=one, settings=(settings or {}).get(name, {}))
            else:
                jobs[name] = replace(job, name=name, own=partial(_OneByOne, one, self._users))
        outcomes: dict[str, Sequence[Outcome]] = {name: replays(one) for name, one in jobs.items()}
        return _frame_of(rows_of(outcomes, next(iter(outcomes)), self._columns.users))


def load(
    path: str | Path,
    *,
    source: str | None = None,
    columns: Mapping[str, str] | None = None,
    rating_scale: tuple[float, float] = (1.0, 5.0),
) -> Log:
    """Read a log: a file, a folder, an archive or `ARCHIVE!PLACE` inside one, or an imported dataset by its name.

    Parameters
    ----------
    source : str, optional
        The format, as `botify data import` calls it, such as `movielens`; default: by the ending of the name.
    columns : mapping of str to str, optional
        Which column is what, such as `{"user": "uid", "item": "track"}`; default: by their names.
    rating_scale : (float, float)
        Ratings that stand for 0 and 1.

    Raises
    ------
    DatasetError
        There is no such log, it cannot be read, or no names say which columns are the user and the item.

    Examples
    --------
    >>> with TemporaryDirectory() as place:
    ...     file = Path(place) / "plays.csv"
    ...     _ = file.write_text('''user,track,rating
    ... alice,Blue,5
    ... bob,Blue,1
    ... bob,Red,none''')
    ...     log = load(file)
    >>> log
    plays.csv: 2 events of 2 users and 1 items, 1 rows rejected (see .rejected)
    >>> log.events[["user", "item", "value"]].sort_values("user").to_numpy().tolist()
    [['alice', 'Blue', 1.0], ['bob', 'Blue', 0.0]]
    """
    file, home = Path(str(path).partition("!")[0]).expanduser(), Settings.from_env().home
    if not file.exists():
        names = dataset_names(home)
        if str(path) not in names:
            there = ", ".join(names) or "none"
            raise DatasetError(f"{path}: no such file, and no imported dataset of this name (there: {there})")
        return _log_of(home, str(path), str(path))
    files = Source(str(path))
    source = source or _source_of(files)
    if columns is None:
        columns = _columns_of(files, source) if source in ENDINGS else {}
    with TemporaryDirectory(prefix="botify-") as place:
        import_dataset(Path(place), "log", Request(source, str(path), columns, rating_scale))
        return _log_of(Path(place), "log", file.name)


def _log_of(home: Path, dataset: str, name: str) -> Log:
    columns, positive = log_of_dataset(home, dataset)
    imported = open_dataset(home, dataset)
    return Log(replace(columns, name=name), positive, imported.external_users, imported.rejected().to_pandas())


def _source_of(files: Source) -> str:
    """Return the format by the ending of the only file that has one of these."""
    found = [name for name, endings in ENDINGS.items() if len(files.ending(*endings)) == 1]
    if len(found) != 1:
        raise DatasetError(f"{files.path}: its name does not say what it is; give source=, one of {', '.join(FORMATS)}")
    return found[0]


def _columns_of(files: Source, source: str) -> dict[str, str]:
    """Return the roles of the columns whose names say it."""
    member = files.one(*ENDINGS[source])
    try:
        with member.open() as stream:
            if source == "parquet":
                names = pq.ParquetFile(stream).schema_arrow.names
            elif source == "jsonl":
                names = list(json.loads(stream.readline()))
            else:
                header = stream.readline().decode("utf-8-sig", errors="replace")
                names = next(csv.reader([header], delimiter=max(",\t;|", key=header.count)))
    except (*UNREADABLE, pa.ArrowInvalid, ValueError) as error:
        raise DatasetError(f"{files.path} is not {source}: {error}") from error
    known = {name.strip().lower(): name for name in reversed(names)}
    found = {role: [known[name] for name in ALIASES.get(role, (role,)) if name in known] for role in ROLES}
    columns = {role: candidates[0] for role, candidates in found.items() if candidates}
    if missing := {"user", "item"} - set(columns):
        raise DatasetError(
            f"{files.path} has the columns {', '.join(names)}, and none is called {' or '.join(sorted(missing))}; "
            'say which they are: columns={"user": …, "item": …}'
        )
    return columns if "played" in columns else {role: name for role, name in columns.items() if role != "duration"}


class _OneByOne:
    """A copy of a `Ranker` as the evaluation runs one: with numbers as ids, and without what the user has heard."""

    note = ""

    def __init__(self, ranker: Ranker, users: Sequence[str], setup: Setup) -> None:
        self._ranker, self._users = deepcopy(ranker), users
        self._items = [str(track.external_id) for track in setup.tracks]
        self._numbers = {item: number for number, item in enumerate(self._items)}
        self._heard: defaultdict[int, set[int]] = defaultdict(set)
        self._repeats = setup.repeats

    def learn(self, events: Events) -> None:
        rows = zip(events.users.tolist(), events.items.tolist(), events.fractions.tolist(), strict=True)
        for user, item, value in rows:
            self._ranker.learn_one(self._users[user], self._items[item], value)
            if not self._repeats:
                self._heard[user].add(item)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        del times_ms
        return np.array([self._list(user, k) for user in users.tolist()], dtype=np.int64)

    def _list(self, user: int, k: int) -> list[int]:
        heard = self._heard[user]
        ranked = self._ranker.rank(self._users[user], min(k + len(heard), len(self._items)))
        try:
            numbers = [self._numbers[item] for item in ranked]
        except KeyError as error:
            raise EvaluationError(f"{type(self._ranker).__name__} ranked {error}, no item of the log") from error
        new = [number for number in numbers if number not in heard][:k]
        return new + [NO_TRACK] * (k - len(new))


def by_name(rankers: Sequence[str | Ranker]) -> dict[str, str | Ranker]:
    """Return rankers by how a table calls them."""
    found = {one if isinstance(one, str) else getattr(one, "name", type(one).__name__): one for one in rankers}
    if not found or len(found) < len(rankers):
        raise EvaluationError(f"rankers are {', '.join(found)}; give one or more, each with a `name` of its own")
    return found


def _frame_of(rows: Sequence[Row]) -> pd.DataFrame:
    half = float(ndtri((1 + CONFIDENCE) / 2))
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        cells: dict[str, Any] = {}
        for metric, (mean, error) in row.metrics.items():
            cells |= {metric: mean, f"{metric}_lower": mean - half * error, f"{metric}_upper": mean + half * error}
        gain = row.differences.get("recall", (0.0, 0.0, 0.0))
        cells |= dict(zip(("gain", "gain_lower", "gain_upper"), gain, strict=True))
        figures = {name: value for name, value in row.figures.items() if name != "memory_mb"}  # of all in the process
        table[row.name] = cells | figures | {"note": row.note}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("recommender")
