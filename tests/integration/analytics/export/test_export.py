from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from botify.analytics.export import Extent, export_topic
from botify.analytics.exported import ExportError, read_manifest
from botify.core.kafka.admin import TopicPosition
from botify.core.settings import Settings
from botify.schemas.events import Listen
from botify.schemas.topics import Topics
from tests.commands import botify
from tests.integration.analytics.test_data import tell
from tests.support import produce_raw
from tests.unit.analytics.listens import drawn, listen


def export(settings: Settings, path: Path, extent: Extent | None = None, commit_rows: int = 100) -> pd.DataFrame:
    export_topic(settings, Topics.of(settings).listens, path, extent or Extent(), commit_rows=commit_rows)
    return pd.read_parquet(path)


def as_listens(frame: pd.DataFrame) -> list[Listen]:
    rows = frame.astype(object).where(frame.notna(), None)[list(Listen._fields)].itertuples(index=False)
    return sorted(Listen(*row)._replace(treatments=dict(row.treatments)) for row in rows)


def test_rows_are_the_listens_and_a_second_export_adds_what_is_new(settings: Settings, tmp_path: Path) -> None:
    listens = drawn(100, np.random.default_rng(1))
    tell(settings, *listens[:300])
    produce_raw(settings, Topics.of(settings).listens.name, [(b"1", b"rubbish")])
    path = tmp_path / "out"
    assert as_listens(export(settings, path)) == sorted(listens[:300])
    files = set(path.rglob("*.parquet"))
    tell(settings, *listens[300:])
    frame = export(settings, path)
    assert as_listens(frame) == sorted(listens)
    assert files < set(path.rglob("*.parquet"))
    assert not frame.duplicated(["kafka_partition", "kafka_offset"]).any()
    manifest = read_manifest(path)
    assert (manifest.rows, manifest.rejected) == (len(listens), 1)


def test_a_part_of_the_topic_or_by_the_command_all(settings: Settings, tmp_path: Path) -> None:
    tell(settings, *(listen("r-1-0", position) for position in range(10)))
    extent = Extent(TopicPosition("offset", 3), TopicPosition("offset", 7))
    assert export(settings, tmp_path / "out", extent)["position"].tolist() == [3, 4, 5, 6]
    assert export(settings, tmp_path / "out")["position"].tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert "10 rows in 1 files" in botify(settings, "data", "export", "--out", str(tmp_path / "all")).stdout
    with pytest.raises(ExportError, match="'catalogue' cannot be exported; choose one of listens"):
        botify(settings, "data", "export", "--topic", "catalogue", "--out", str(tmp_path / "no"))


def test_a_topic_is_followed_until_told_to_stop(settings: Settings, tmp_path: Path) -> None:
    listens = [listen("r-1-0", position) for position in range(20)]
    tell(settings, *listens[:10])
    read = 0

    def on_progress(done: int, _: int) -> None:
        nonlocal read
        if read < 10 <= done:
            tell(settings, *listens[10:])
        read = done

    topic, path = Topics.of(settings).listens, tmp_path / "out"
    manifest = export_topic(settings, topic, path, Extent(follow=True), on_progress, stopping=lambda: read == 20)
    assert manifest.rows == 20
    assert as_listens(pd.read_parquet(path)) == sorted(listens)
