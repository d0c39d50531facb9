"""Invariant: a running process says how it is, and its figures are those of the topics."""

import json
import re

from botify.core.settings import Settings
from botify.schemas.topics import Topics
from botify.services.stack.ports import find_free
from tests.integration.core.scraping import is_ready, samples
from tests.support import eventually, make_listens, produce, produce_raw, running, write_catalogue

LISTENS = 500


def test_a_worker_counts_what_it_folds(settings: Settings) -> None:
    observed, topics = settings.with_(metrics_port=find_free(), log_format="json"), Topics.of(settings)
    write_catalogue(settings, 20)
    listens = make_listens(LISTENS, users=30, tracks=20)
    with running(observed, "botify.streams.worker", log="worker.log") as worker:
        eventually(lambda: is_ready(observed))
        produce(observed, topics.listens.name, [*listens, listens[-1]])
        produce_raw(observed, topics.listens.name, [(b"7", b"no listen")])
        eventually(lambda: samples(observed).get('botify_worker_dead_letters_total{reason="DecodeError"}'))
        eventually(lambda: samples(observed)["botify_worker_listens_total"] == LISTENS + 1)
        figures = samples(observed)
        assert worker.poll() is None
    assert figures["botify_worker_duplicates_total"] == 1
    assert figures['botify_worker_dead_letters_total{reason="ValidationError"}'] == 0  # there before the first one
    assert figures["botify_worker_partitions"] == observed.partitions
    checkpoints = [v for name, v in figures.items() if name.startswith("botify_worker_checkpoint_offset")]
    assert sum(checkpoints) == LISTENS + 2
    assert all(v == 0 for name, v in figures.items() if name.startswith("botify_worker_lag_records"))
    assert figures["botify_worker_apply_duration_seconds_count"] == figures["botify_worker_batches_total"]
    # Faust's own sensor counts in runs of records
    assert 0 < figures["faust_total_events_total"] <= figures["botify_worker_batches_total"] + observed.partitions
    said = [json.loads(line) for line in (observed.home / "worker.log").read_text().splitlines()]
    (letter,) = [line for line in said if re.search("1 dead letters", line["message"])]
    assert letter["topic"] == topics.listens.name
