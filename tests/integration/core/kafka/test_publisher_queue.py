"""Sending more than the producer's queue holds."""

from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.schemas.topics import Topics


def test_records_that_find_the_queue_full_are_sent_later_in_their_order(settings: Settings) -> None:
    topic = Topics.of(settings).sessions.name
    publisher = RecordPublisher(settings, linger_ms=0, queue_buffering_max_messages=50)
    for start in range(0, 2000, 200):
        publisher.send_batch(topic, [{"key": b"%d" % (n % 200), "value": b"%d" % n} for n in range(start, start + 200)])
    publisher.flush(60.0)
    reader = TopicReader(settings, topic)
    received = [(m.key(), int(m.value())) for batch in reader.read_to_end() for m in batch]
    reader.close()
    assert sorted(n for _, n in received) == list(range(2000))
    for key in {key for key, _ in received}:
        of_key = [n for k, n in received if k == key]
        assert of_key == sorted(of_key)
