"""Invariant: however often and however interrupted letters are redriven, each listen is in the state once."""

from collections import Counter
from typing import Any

import pytest
from confluent_kafka import Producer

from botify.core.kafka.config import producer_config
from botify.core.settings import Settings
from botify.schemas.dead_letters import Origin, RejectedBefore
from botify.schemas.topics import Topics
from botify.streams.dlq import letters as redriving
from botify.streams.dlq.exclude import SAMPLE, Selection, exclude
from botify.streams.dlq.letters import (
    ATTEMPTS,
    REDRIVE_OF,
    DeadLetterError,
    LetterFilter,
    Resolutions,
    ResolutionStatus,
    read_letters,
    redrive,
)
from botify.streams.store.connect import connect
from botify.streams.store.keys import redrive_lock
from botify.streams.verify import verify
from tests.integration.streams.listens import TRACKS, fold_live, listens, write_listens
from tests.support import listens_of_users, read_topic, redis_contents, write_catalogue

LISTENS = 400


@pytest.fixture
def lettered(settings: Settings) -> Settings:
    """Half of the tracks were unknown when the listens came: those listens are dead letters, and so is some rubbish."""
    write_catalogue(settings, TRACKS // 2)
    write_listens(settings, LISTENS, bad_every=100)
    fold_live(settings, emit=True)
    return settings


def unknown_tracks() -> list[Any]:
    return [listen for listen in listens(LISTENS) if listen.track >= TRACKS // 2]


def redriven_records(settings: Settings) -> list[tuple[bytes, bytes, bytes]]:
    """Key, attempts and origin of the records that were brought back."""
    messages = read_topic(settings, Topics.of(settings).listens.name)
    headers = [(message.key(), dict(message.headers() or ())) for message in messages]
    return [(key, of[ATTEMPTS], of[REDRIVE_OF]) for key, of in headers if REDRIVE_OF in of]


def test_what_would_be_dead_again_is_left_alone_and_what_is_redriven_twice_is_applied_once(lettered: Settings) -> None:
    outcome = redrive(lettered, connect(lettered), read_letters(lettered))
    assert outcome.sent == []
    assert len(outcome.hopeless) == len(unknown_tracks()) + 4
    assert redriven_records(lettered) == []
    write_catalogue(lettered, TRACKS)
    redis = connect(lettered)
    first = redrive(lettered, redis, read_letters(lettered))
    again = redrive(lettered, redis, read_letters(lettered))
    assert (len(first.sent), again.sent) == (len(unknown_tracks()), [])
    records = redriven_records(lettered)
    assert sorted(key for key, *_ in records) == sorted(b"%d" % listen.user for listen in unknown_tracks())
    assert {attempts for _, attempts, _ in records} == {b"1"}
    fold_live(lettered)
    assert listens_of_users(redis_contents(lettered)) == Counter(listen.user for listen in listens(LISTENS))
    # the originals could enter by now; that they were dead-lettered keeps them out of every later fold
    assert verify(lettered).ok


def test_a_redrive_that_was_killed_before_it_could_say_so_sends_nothing_twice(
    lettered: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    write_catalogue(lettered, TRACKS)
    put = Resolutions.put

    def die_before_outcome(self: Resolutions, status: ResolutionStatus, letters: dict[Origin, int]) -> None:
        if status is ResolutionStatus.REDRIVEN and letters:
            raise KilledError
        put(self, status, letters)

    monkeypatch.setattr(redriving, "BATCH", 50)
    with monkeypatch.context() as patched:
        patched.setattr(Resolutions, "put", die_before_outcome)
        with pytest.raises(KilledError):
            redrive(lettered, connect(lettered), read_letters(lettered))
    assert len(redriven_records(lettered)) == 50
    outcome = redrive(lettered, connect(lettered), read_letters(lettered))
    assert (len(outcome.found), len(outcome.sent)) == (50, len(unknown_tracks()) - 50)
    origins = [origin for *_, origin in redriven_records(lettered)]
    assert len(origins) == len(set(origins)) == len(unknown_tracks())


def test_a_message_that_comes_back_counts_its_attempts(lettered: Settings) -> None:
    choice = LetterFilter(reason="decode")
    for attempt in (1, 2):
        letters = [letter for letter in read_letters(lettered, choice) if letter.attempts == attempt - 1]
        assert len(letters) == 4
        redrive(lettered, connect(lettered), letters, force=True)
        fold_live(lettered, emit=True)
    attempts = sorted(letter.attempts for letter in read_letters(lettered, choice))
    assert attempts == [0] * 4 + [1] * 4 + [2] * 4


def test_a_copy_of_a_letter_is_the_same_letter_and_one_process_redrives_at_a_time(lettered: Settings) -> None:
    letters = list(read_letters(lettered))
    topic, producer = Topics.of(lettered).dead_letters.name, Producer(producer_config(lettered))
    for message in read_topic(lettered, topic):
        producer.produce(topic, message.value(), message.key(), headers=message.headers())
    assert producer.flush(30) == 0
    assert len(list(read_letters(lettered))) == len(letters)
    redis = connect(lettered)
    redis.set(redrive_lock(lettered.topic_prefix), b"another", ex=30)
    with pytest.raises(DeadLetterError, match="another process is redriving"):
        redrive(lettered, redis, read_letters(lettered))


def test_what_was_excluded_stays_out_until_it_is_asked_for(folded: Settings) -> None:
    user, redis = 17, connect(folded)
    own = sum((listen.user == user) * (1 if at % 10 else 2) for at, listen in enumerate(listens(3000), start=1))
    done = exclude(folded, Selection(user=user), "a bot")
    assert (done.count, done.already, len(done.sample)) == (own, 0, min(own, SAMPLE))
    again = exclude(folded, Selection(user=user), "a bot")
    assert (again.count, again.already) == (0, own)

    letters = list(read_letters(folded))
    assert {(letter.key, letter.reason, letter.message) for letter in letters} == {
        (b"%d" % user, "ExcludedError", "excluded by an operator: a bot")
    }
    rejected = RejectedBefore(folded, Topics.of(folded).listens.name)
    rejected.refresh()
    assert rejected.excluded == {letters[0].origin.partition: own}
    report = verify(folded)
    assert (report.ok, report.excluded_since) == (False, own)

    everything = redrive(folded, redis, read_letters(folded))
    assert (everything.sent, len(everything.excluded)) == ([], own)
    one = LetterFilter(origin=str(letters[0].origin))
    assert redrive(folded, redis, read_letters(folded, one), exclusions=True).sent == [letters[0].origin]
    (record,) = redriven_records(folded)
    assert record == (b"%d" % user, b"1", str(letters[0].origin).encode())
    rejected.refresh()
    rejected.close()
    assert rejected.excluded == {letters[0].origin.partition: own}  # the record stays out; the redriven one is another


def test_only_records_that_are_there_are_excluded(folded: Settings) -> None:
    topic = Topics.of(folded).listens.name
    for origin in (Origin(topic, 0, 10**6), Origin(topic, 9, 0)):
        with pytest.raises(DeadLetterError, match="has no record"):
            exclude(folded, Selection(origins=frozenset({origin})), "no")
    with pytest.raises(DeadLetterError, match="only listens can be excluded"):
        exclude(folded, Selection(origins=frozenset({Origin("another", 0, 0)})), "no")
    chosen = frozenset({Origin(topic, 0, 3), Origin(topic, 0, 90), Origin(topic, 2, 1)})
    assert exclude(folded, Selection(origins=chosen), "by hand").count == 3
    assert {letter.origin for letter in read_letters(folded)} == chosen
