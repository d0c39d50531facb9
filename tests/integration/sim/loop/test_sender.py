"""Sending more than the producer's queue holds."""

import sim.loop.kafka
from core.kafka.reader import TopicReader
from schemas.topics import Topics
from sim.loop.kafka import Sender


def test_records_that_find_the_queue_full_are_sent_later_in_their_order(settings, monkeypatch):
    monkeypatch.setattr(sim.loop.kafka, "QUEUE_RECORDS", 50)
    topic = Topics.of(settings).sessions.name
    sender = Sender(settings, linger_ms=0)
    for start in range(0, 2000, 200):
        sender.send(topic, [{"key": b"%d" % (n % 200), "value": b"%d" % n} for n in range(start, start + 200)])
    sender.close()
    reader = TopicReader(settings, topic)
    received = [(m.key(), int(m.value())) for batch in reader.read_to_end() for m in batch]
    reader.close()
    assert sorted(n for _, n in received) == list(range(2000))
    for key in {key for key, _ in received}:
        of_key = [n for k, n in received if k == key]
        assert of_key == sorted(of_key)
