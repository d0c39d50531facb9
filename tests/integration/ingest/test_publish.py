"""Invariant: however often a publisher is killed, a worker's state is that of every event once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from botify.core.settings import Settings
from botify.ingest.dataset import Dataset, DatasetError
from botify.ingest.importing import Request, import_dataset
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.events import Listen
from botify.schemas.topics import Topics
from botify.streams.folds.popularity import HALF_LIVES_MS
from botify.streams.read import StateReader
from botify.streams.store.connect import connect
from tests.commands import botify
from tests.support import all_folded, eventually, offline_fold, read_topic, redis_contents, running, write_catalogue

KILLED_BEFORE_ITS_THIRD_MARK = """
import os, signal
from botify.core.settings import Settings
from botify.ingest import publishing
from botify.ingest.dataset import open_dataset

marked = []
write = publishing._Marks.write
def write_or_die(self, row):
    marked.append(row)
    if len(marked) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, row)
publishing._Marks.write = write_or_die
settings = Settings.from_env()
publishing.publish_dataset(settings, open_dataset(settings.home, "d"), None)
"""


@pytest.fixture
def dataset(settings: Settings, tmp_path: Path) -> Dataset:
    rows = (
        f"user {n * n % 41},track {n * 7 % 103},{1_600_000_000 + n * 61},0.{n % 10},artist {n * 7 % 103 % 5}\n"
        for n in range(3000)
    )
    (tmp_path / "log.csv").write_text("u,i,t,p,a\n" + "".join(rows))
    columns = {"user": "u", "item": "i", "time": "t", "played": "p", "artist": "a"}
    return import_dataset(settings.home, "d", Request("csv", str(tmp_path / "log.csv"), columns))


def publish(settings: Settings, *arguments: str) -> str:
    return botify(settings, "data", "publish", "d", *arguments).stdout


def listens_of(settings: Settings) -> dict[tuple[int, int], Listen]:
    codec = Codec()
    records = read_topic(settings, Topics.of(settings).listens.name)
    return {(record.partition(), record.offset()): codec.decode(record.value(), Listen) for record in records}


def test_a_killed_publisher_is_resumed_and_the_state_has_every_event_once(settings: Settings, dataset: Dataset) -> None:
    with running(settings, "botify.streams.worker"):
        killed = subprocess.run(  # noqa: S603 - the test's own program
            [sys.executable, "-c", KILLED_BEFORE_ITS_THIRD_MARK], env={**os.environ, **settings.to_env()}, check=False
        )
        assert killed.returncode == -signal.SIGKILL
        said = publish(settings)
        assert "0 tracks and" in said
        assert "from event " in said
        eventually(all_folded(settings))
    listens = listens_of(settings)
    first = {listen.event_id: place for place, listen in reversed(listens.items())}
    copies = listens.keys() - first.values()
    assert copies  # or the test shows nothing
    assert len(first) == dataset.card.events
    once = offline_fold(settings, without=copies)
    assert not once.rejected
    assert redis_contents(settings) == once.contents()


def test_a_dataset_is_published_once_for_each_topic_with_its_external_ids(settings: Settings, dataset: Dataset) -> None:
    assert "103 tracks and 3,000 listens published" in publish(settings, "--speed", "10000000x")
    assert "0 tracks and 0 listens published" in publish(settings)
    reader = CatalogueReader(settings, Codec())
    reader.refresh()
    reader.close()
    assert [reader.tracks[number].external_id for number in range(103)] == dataset.external_items
    events, published = dataset.events(), sorted(listens_of(settings).values(), key=lambda one: one.timestamp_ms)
    assert [listen.user for listen in published] == events.users.tolist()
    assert [listen.track for listen in published] == events.items.tolist()
    assert [listen.fraction for listen in published] == events.fractions.tolist()
    marks = dataset.directory.with_name(".d.published.json")  # those of an earlier version count, too
    ((topic_id, rows),) = json.loads(marks.read_text()).items()
    marks.unlink()
    (dataset.directory / "publishing.json").write_text(json.dumps({topic_id: rows[dataset.card.sha256] - 7, "x": 1}))
    assert "0 tracks and 7 listens published, from event 2,993 on" in publish(settings)


def test_a_row_of_next_year_is_a_dead_letter_and_not_first(settings: Settings, tmp_path: Path) -> None:
    now, rows = int(time.time()), []
    for user in range(20):  # so that the partitions end at different dates
        rows += [f"{user},hit,{now - user * 40 * 86_400 - age}" for age in range(3)]
    rows.append(f"3,tomorrow,{now + 365 * 86_400}")
    (tmp_path / "log.csv").write_text("\n".join(["u,i,t", *rows]) + "\n")
    columns = {"user": "u", "item": "i", "time": "t"}
    import_dataset(settings.home, "d", Request("csv", str(tmp_path / "log.csv"), columns))
    result = botify(settings, "data", "publish", "d", status=1)
    assert "2 tracks and 61 listens published" in result.stdout
    assert "1 of these listens are dead letters" in result.stderr
    with running(settings, "botify.streams.worker"):
        eventually(all_folded(settings))
    assert len(read_topic(settings, Topics.of(settings).dead_letters.name)) == 1
    with connect(settings) as redis:
        for half_life in HALF_LIVES_MS:
            top = StateReader(redis, settings).top_tracks(half_life, 10)
            assert (len(top.tracks), top.now_ms) == (1, now * 1000)
            assert 0 < top.listens[0] <= 60


def test_a_corrected_log_replaces_only_after_a_reset_and_doubles_only_when_told(
    settings: Settings, dataset: Dataset, tmp_path: Path
) -> None:
    publish(settings)
    log = tmp_path / "log.csv"
    request = Request("csv", str(log), {"user": "u", "item": "i", "time": "t", "played": "p", "artist": "a"})
    import_dataset(settings.home, "d", request, force=True)
    assert "0 tracks and 0 listens published" in publish(settings)  # the same events, so nothing is new
    log.write_text(log.read_text().replace(",0.0,", ",0.9,"))
    import_dataset(settings.home, "d", request, force=True)
    with pytest.raises(DatasetError, match=r"'d' as it was imported before.*`botify down --delete`.*--append"):
        publish(settings)
    assert len(listens_of(settings)) == 3000
    assert "0 tracks and 3,000 listens published" in publish(settings, "--append")
    assert len(listens_of(settings)) == 6000


def test_a_catalogue_of_something_else_is_not_mixed_with(settings: Settings, dataset: Dataset) -> None:
    write_catalogue(settings, 3)
    with pytest.raises(DatasetError, match=r"holds other tracks than dataset 'd', such as 0, .*BOTIFY_TOPIC_PREFIX"):
        publish(settings)
    assert not listens_of(settings)


def test_without_times_there_is_no_speed(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("a x y\n")
    import_dataset(settings.home, "d", Request("sequences", str(tmp_path / "s.txt")))
    with pytest.raises(DatasetError, match="has no times; publish it with --speed max"):
        publish(settings, "--speed", "1x")
    assert "2 tracks and 2 listens published" in publish(settings)
