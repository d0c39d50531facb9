"""The commands, as an operator types them."""

import json
from contextlib import closing

import pytest

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import partition_of
from botify.core.settings import Settings
from botify.schemas.topics import Topics, feedback_partitions
from botify.streams.dlq.letters import DeadLetterError
from botify.streams.folds.feedback import NAMES
from botify.streams.replay.sources import ReplayError
from botify.streams.store.connect import connect
from botify.streams.store.keys import default_namespace, feedback_of, partition_key
from tests.commands import as_json, botify
from tests.integration.streams.listens import BAD_VALUE, TRACKS, fold_live, write_listens
from tests.support import make_topic, read_topic, write_catalogue


def letters(settings: Settings, *arguments: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in botify(settings, "dlq", "list", "--json", *arguments).stdout.splitlines()]


def test_verify_says_what_it_compared_and_fails_on_a_difference(folded: Settings) -> None:
    assert "the state equals the fold of the topic" in botify(folded, "verify").output
    connect(folded).hset(partition_key(default_namespace(folded.topic_prefix), 1, "users"), b"99999", b"made up")
    found = botify(folded, "verify", status=1).output
    assert "partition 1 users 99999: expected nothing, found 6d616465207570" in found
    report = as_json(folded, "verify", status=1)
    assert (report["ok"], report["differing"], report["listens"]) == (False, 1, 3300)


def test_from_a_dry_run_to_replay_to_swap_to_rollback(folded: Settings) -> None:
    planned = as_json(folded, "replay", "run", "--dry-run", "--from", "offset:10")
    end = end_offsets(folded, Topics.of(folded).listens.name)
    assert planned["records"] == sum(end.values()) - 10 * len(end)
    assert len(as_json(folded, "replay", "status")) == 1, "it has made nothing"
    done = as_json(folded, "replay", "run")
    assert (done["equals_live"], done["records"]) == (True, 3330)
    botify(folded, "replay", "swap", done["id"])
    assert [one["role"] for one in as_json(folded, "replay", "status")] == ["former", "live"]
    assert done["id"] in botify(folded, "replay", "status").output
    assert "is live again" in botify(folded, "replay", "swap", "--back").output
    assert done["namespace"] in botify(folded, "replay", "status", "--gc", "--all").output


def test_records_are_copied_as_they_are_or_printed_a_line_each(folded: Settings) -> None:
    copy, source = make_topic(folded, f"{folded.topic_prefix}.copy", 4), Topics.of(folded).listens.name
    botify(folded, "replay", "run", "--target", f"topic:{copy}")

    def everything(topic: str) -> list[tuple[object, ...]]:
        read = read_topic(folded, topic)
        return sorted((m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers()) for m in read)

    assert everything(copy) == everything(source)
    assert len(everything(copy)) == 3330
    with pytest.raises(ReplayError, match="cannot be copied onto itself"):
        botify(folded, "replay", "run", "--target", f"topic:{source}")
    printed = botify(folded, "replay", "run", "--target", "stdout", "--partitions", "2", "--to", "offset:500").stdout
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [(line["partition"], line["offset"]) for line in lines] == [(2, offset) for offset in range(500)]
    assert all(str(line["listen"]["user"]) == line["key"] for line in lines if "listen" in line)
    assert {line["value_hex"] for line in lines if "listen" not in line} == {BAD_VALUE.hex()}


def test_letters_from_list_to_redrive_and_drop(settings: Settings) -> None:
    write_catalogue(settings, 250)
    write_listens(settings, 100, bad_every=50)
    fold_live(settings, emit=True)
    write_catalogue(settings, TRACKS)
    listed = letters(settings, "--limit", "1000")
    rubbish = [letter for letter in listed if letter["reason"] == "DecodeError"]
    assert len(rubbish) == 2
    shown = json.loads(botify(settings, "dlq", "list", rubbish[0]["id"]).stdout)
    assert (shown["value_hex"], shown["state"]) == (BAD_VALUE.hex(), "open")
    fit = len(listed) - 2
    assert f"would bring back {fit} letters" in botify(settings, "dlq", "redrive", "--dry-run").output
    assert "left 2 that would be dead letters again" in botify(settings, "dlq", "redrive").output
    assert "brought back 0 letters" in botify(settings, "dlq", "redrive", "--since", "duration:PT1H").output
    assert "dropped 2 letters" in botify(settings, "dlq", "drop", "--reason", "decode").output
    assert letters(settings) == []
    assert {one["state"] for one in letters(settings, "--all")} == {"redriven", "dropped"}


def test_exclusions_from_dry_run_to_redrive_and_drop(folded: Settings) -> None:
    told = botify(folded, "dlq", "exclude", "--user", "3", "--dry-run").output
    assert "would exclude" in told
    assert "user 3, track" in told
    assert letters(folded) == []
    botify(folded, "dlq", "exclude", "--user", "3", "--before", "2200-01-01", "--reason", "a bot")
    said, partition = feedback_of(default_namespace(folded.topic_prefix)), partition_of(3, feedback_partitions(folded))
    with closing(connect(folded)) as redis:
        redis.hset(partition_key(said, partition, NAMES), b"3", b"\x01" + bytes(8) + b"ann")  # as `read_name` reads it
    listed = letters(folded)
    assert {one["listener"] for one in listed} == {"ann"}
    assert {(one["state"], one["message"]) for one in listed} == {("excluded", "excluded by an operator: a bot")}
    assert f"left {len(listed)} that were excluded; --id or --force" in botify(folded, "dlq", "redrive").output
    first, second = listed[0]["id"], listed[1]["id"]
    assert "brought back 1 letters" in botify(folded, "dlq", "redrive", "--id", first).output
    assert "dropped 1 letters" in botify(folded, "dlq", "drop", "--id", second).output
    shown = {one: json.loads(botify(folded, "dlq", "list", one).stdout)["state"] for one in (first, second)}
    assert shown == {first: "redriven", second: "dropped"}
    with pytest.raises(DeadLetterError, match="choose the listens"):
        botify(folded, "dlq", "exclude")
    with pytest.raises(ReplayError, match="resumes with its original options"):
        botify(folded, "replay", "run", "--id", "r1", "--sessions-to", "elsewhere")
