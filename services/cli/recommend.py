"""`botify recommend --all`: recommendations for every listener who has state, in one go, to Parquet or to a topic."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from botify.core.cli import progress, say
from botify.core.files import write_durably
from botify.core.kafka.admin import end_offsets, require_kafka
from botify.core.kafka.config import key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.events import RecommendationRequest
from botify.schemas.external_ids import UserIds
from botify.schemas.registry import codec_of
from botify.schemas.validation import MAX_SLATE
from botify.services.errors import RecommenderError
from botify.services.experiments import LiveExperiments, load_policy
from botify.services.gateway.v1.feedback_file import Kinds, Signal
from botify.services.recommender.bootstrap import Connected, connect_recommenders
from botify.services.recommender.protocol import NO_ANSWER, Batch
from botify.services.recommender.registry import RECOMMENDERS
from botify.services.recommender.slates import from_state, with_liked
from botify.streams.folds.users import HISTORY_LISTENS
from botify.streams.store.connect import REQUIRED_TIMEOUT_S, require_redis

USERS = 512  # listeners that are answered together
ROWS = 100_000  # of a row group of Parquet, at least
SCHEMA = pa.schema(
    [
        ("user", pa.int64()),
        ("name", pa.string()),
        ("rank", pa.int32()),
        ("item", pa.int64()),
        ("external_id", pa.string()),
        ("score", pa.float64()),
        ("recommender", pa.string()),
    ]
)


class Listed(NamedTuple):
    """A listener's recommendations, best first."""

    user: int
    name: str | None
    recommender: str
    items: list[tuple[int, float]]  # and their scores


def recommend(
    everyone: Annotated[bool, typer.Option("--all", help="For all listeners who have state.")] = False,
    out: Annotated[Path | None, typer.Option(help="The Parquet file to write: a row a listener and rank.")] = None,
    topic: Annotated[str | None, typer.Option(help="The topic to write to: a JSON record a listener.")] = None,
    k: Annotated[int, typer.Option("--k", min=1, max=MAX_SLATE, help="Recommendations of a listener.")] = 10,
    recommender: Annotated[str | None, typer.Option(help="Who recommends; default: as for requests.")] = None,
) -> None:
    """Recommend to all listeners at once, by the recommenders' code in this process: no requests, no exploration."""
    if not everyone or (out is None) == (topic is None):
        raise RecommenderError("say --all and one of --out FILE.parquet and --topic NAME")
    if recommender is not None and recommender not in RECOMMENDERS:
        raise RecommenderError(f"recommender {recommender!r} is none of {', '.join(RECOMMENDERS)}")
    settings = require_kafka(require_redis(Settings.from_env()))
    if topic is not None and topic.startswith(f"{settings.topic_prefix}."):
        raise RecommenderError(f"{topic} is a topic of Botify's own; take another name")
    if topic is not None:
        end_offsets(settings, topic)  # refuses a topic that does not exist
    with progress("reading the models") as bar:
        codec = codec_of(settings)
        experiments = LiveExperiments(settings, codec, load_policy(settings, RECOMMENDERS))
        experiments.refresh()
        recommenders = connect_recommenders(settings, codec, REQUIRED_TIMEOUT_S)
        recommenders.models.refresh()
        catalogue = CatalogueReader(settings, codec)
        catalogue.refresh()
        total, begun_s = recommenders.reader.count_everyone(), time.monotonic()
        make = _Maker(
            recommenders,
            lambda user: recommender or experiments.assign(user).recommender,
            k,
            UserIds.of(settings),
            Kinds.of(settings.feedback),
        )
        lists = make.lists(lambda done: bar.to(done, total, "recommending"))

        @lru_cache(1 << 17)
        def external(track: int) -> str | None:
            found = catalogue.tracks.get(track)
            return None if found is None else found.external_id

        if out is not None:
            write_durably(out.absolute(), lambda path: _write_parquet(path, lists, external))
        else:
            _publish(settings, topic or "", lists, external)
        seconds = time.monotonic() - begun_s
    say(f"{out or topic}: {make.done:,} listeners in {seconds:.1f} s, {make.done / seconds:,.0f} a second")


class _Maker:
    """Makes the lists of all listeners; `done` counts these."""

    def __init__(
        self, connected: Connected, wanted: Callable[[int], str], k: int, users: UserIds, kinds: Kinds
    ) -> None:
        self._reader, self._live = connected.reader, connected.live
        self._wanted, self._k, self._users, self._kinds = wanted, k, users, kinds
        self.done = 0

    def lists(self, progress: Callable[[int], None]) -> Iterator[Listed]:
        for users in self._reader.everyone(USERS):
            yield from self._lists_of(users)
            self.done += len(users)
            progress(self.done)

    def _lists_of(self, users: list[int]) -> Iterator[Listed]:
        states, likes = self._reader.users_and_likes(users)
        said, names = self._reader.opinions(users), self._reader.names(users)
        requests, now_ms = [], int(time.time() * 1000)
        without = [set(self._kinds.excluded(of_one, now_ms)) for of_one in said]
        for row, user in enumerate(users):
            request = _request_of(user, self._kinds.signals(said[row]), without[row], now_ms)
            states[row] = with_liked(request, states[row])
            requests.append(from_state(request, states[row])._replace(slate=None))
        size = self._k + max(map(len, without))  # so that enough are left without those that were liked or disliked
        batch, wanted = Batch.of(requests, states, likes), list(map(self._wanted, users))
        for who in dict.fromkeys(wanted):
            rows = [row for row, one in enumerate(wanted) if one == who]
            ranking, made_by = self._live.rank(batch.select(np.array(rows)), who, size)
            for row, tracks, scores, by in zip(rows, ranking.tracks, ranking.scores, made_by, strict=True):
                pairs = zip(tracks.tolist(), scores.tolist(), strict=True)
                kept = [pair for pair in pairs if pair[0] != NO_ANSWER and pair[0] not in without[row]]
                name = names[row] or self._users.name_of(users[row])
                yield Listed(users[row], name, by, kept[: self._k])


def _request_of(user: int, signals: Sequence[Signal], without: Collection[int], now_ms: int) -> RecommendationRequest:
    """Return the request that `/v1` makes for a listener."""
    newest = signals[-HISTORY_LISTENS:]
    slate: Any = {
        "size": 1,
        "without_listen": True,
        "exclude": list(without),
        "liked": [one.track for one in newest],
        "liked_ms": [one.time_ms for one in newest],
        "liked_weights": [one.weight for one in newest],
    }
    return RecommendationRequest(f"all-{user}", user, f"all-{user}", 0, 0, 0.0, now_ms, now_ms, slate=slate)


def _write_parquet(path: Path, lists: Iterator[Listed], external: Callable[[int], str | None]) -> None:
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        rows: list[tuple[Any, ...]] = []
        for user, name, who, items in lists:
            for rank, (item, score) in enumerate(items, 1):
                rows.append((user, name, rank, item, external(item), score, who))
            if len(rows) >= ROWS:
                writer.write_table(_table(rows))
                rows.clear()
        if rows:
            writer.write_table(_table(rows))


def _table(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    columns = zip(zip(*rows, strict=True), SCHEMA.types, strict=True)
    return pa.table([pa.array(column, kind) for column, kind in columns], schema=SCHEMA)


def _publish(settings: Settings, topic: str, lists: Iterator[Listed], external: Callable[[int], str | None]) -> None:
    """Write a record a listener; at least once: a reader keeps the newest of each key."""
    publisher = RecordPublisher(settings, linger_ms=20)
    for user, name, who, items in lists:
        listed = [{"item": external(item) or item, "number": item, "score": score} for item, score in items]
        record = {"user": user if name is None else name, "number": user, "recommender": who, "items": listed}
        publisher.send(topic, json.dumps(record, ensure_ascii=False).encode(), key_of(user))
    publisher.flush()
