"""Records that nobody should have sent, as the bytes of batches: a client library would refuse to write most of them.

`hostile_records` varies every part of a record: key, value, names, values, number and size of headers, and time.
"""

import asyncio
import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from aiokafka.client import AIOKafkaClient
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c, encode_varint
from aiokafka.structs import TopicPartition

from botify.core.kafka.layout import COPIED
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import PREFIX, dead_letter_headers
from botify.schemas.events import (
    Feedback,
    Listen,
    Model,
    RampStep,
    Recommendation,
    RecommendationRequest,
    Session,
    Track,
    TrainingBatch,
)
from botify.schemas.topics import TopicDefinition
from botify.schemas.training import training_batches_of
from tests.support import make_listens, make_tracks

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
CODECS = {0: bytes, GZIP: gzip_encode, SNAPPY: snappy_encode, LZ4: lz4_encode, ZSTD: zstd_encode}
TRANSACTIONAL, MARKER = 0x10, 0x20
ABORT, COMMIT = 0, 1

RawHeaders = Sequence[tuple[bytes, bytes | None]]


class Raw(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: RawHeaders = ()
    timestamp_ms: int = 1_700_000_000_000


HEADERS: list[RawHeaders] = [
    (),
    [(b"\xff\xfe", b"1")],
    [(b"trace", b"1"), (b"\xc3", None), (b"trace", b"2")],
    [(b"", b""), (b"null", None)],
    [(b"botify.copied\0", b"1"), (b"caf\xc3\xa9", b"\xff")],
    [("\udcff".encode("utf-8", "surrogatepass"), b"a surrogate")],
    [(COPIED.encode(), None)],
    [(COPIED.encode(), b"no/place")],
    [(COPIED.encode(), b"\xff/1/2")],
    [(f"{PREFIX}{name}".encode(), None) for name in ("topic", "partition", "offset", "exception.class.name")],
    [(PREFIX.encode() + b"topic", b"\xff"), (PREFIX.encode() + b"offset", b"9" * 5_000)],
    [(b"botify.redrive.attempts", b"\xff"), (b"botify.redrive.of", None)],
    [(b"\xff" * 40_000, b"")],
    [(b"big", bytes(200_000))],
    [(b"many", b"%d" % at) for at in range(2_000)],
]
TIMES_MS = [-1, 0, 1, 1_700_000_000_000, 2**62]


def hostile_records(valid: Mapping[bytes | None, bytes], rng: np.random.Generator, count: int) -> Iterator[Raw]:
    """Yield records of every kind, each with the headers of the next kind."""
    keys = list(valid)
    for at in range(count):
        key = keys[int(rng.integers(len(keys)))]
        value = valid[key]
        parts: list[tuple[bytes | None, bytes | None]] = [
            (key, value),
            (key, rng.bytes(int(rng.integers(1, 300)))),
            (key, value[:5] + rng.bytes(int(rng.integers(1, 300)))),
            (key, flipped(value, rng)),
            (key, value[: int(rng.integers(len(value)))]),
            (key, value + b"\0"),
            (None, value),
            (b"", value),
            (rng.bytes(1_000), value),
            (b"\xff", value),
            (key, b""),
            (key, None),
            (None, None),
            (key, bytes(500_000)),
        ]
        yield Raw(*parts[at % len(parts)], HEADERS[at // len(parts) % len(HEADERS)], TIMES_MS[at % len(TIMES_MS)])


def valid_records(definition: TopicDefinition, tracks: int) -> dict[bytes | None, bytes]:
    codec, body = Codec(), b"a body"
    listens = make_listens(20, users=20, tracks=tracks, seed=9)
    requests = [RecommendationRequest(f"h{at}:0", at, f"h{at}", 0, at, 0.5, 1_000, 2**45) for at in range(20)]
    events: dict[type[Any] | None, Sequence[Any]] = {
        None: listens,
        Listen: listens,
        RecommendationRequest: requests,
        Track: make_tracks(20),
        Recommendation: [Recommendation("r:0", 7, 1, "random", {}, 1.0, 0, 0.5, 1_000)],
        Session: [Session("0-1", "s", 7, 0, 1, 1, 0.5, "end")],
        Feedback: [Feedback("f", 7, 1, "like", 1_000)],
        Model: [Model("fism", 1, body, hashlib.sha256(body).hexdigest(), 1_000)],
        RampStep: [RampStep("ramp", 0.1, None, 0, 1_000, "begins")],
        TrainingBatch: training_batches_of("id", 0, 0, 20, list(enumerate(listens))),
    }
    keys = {Track: "track", Model: "name", RampStep: "experiment", TrainingBatch: "source_partition"}
    key = keys.get(definition.event, "user") if definition.event else "user"
    return {str(getattr(one, key)).encode(): codec.encode(one) for one in events[definition.event]}


def hostile_batches(
    definition: TopicDefinition, partitions: int, tracks: int, count: int, *, cut: bool = True
) -> Iterator[tuple[int, bytes]]:
    """Yield (partition, batch) of every codec; some come twice, and some of these are cut off."""
    rng = np.random.default_rng(len(definition.name))
    listens = definition.name.replace("dead-letters", "listens")
    origins = [
        [(name.encode(), value) for name, value in dead_letter_headers(*origin, None, ValueError("no"))]
        for origin in [("t", 0, 1), (listens, 99, 1), (listens, 0, 10**30), (listens, -1, -1)]
    ]
    for at, one in enumerate(hostile_records(valid_records(definition, tracks), rng, count)):
        headers = one.headers if definition.event else [*one.headers, *origins[at % 4][: at % 7]]
        batch = raw_batch([one._replace(headers=headers)], at % 5)
        yield at % partitions, batch
        if at % 10 == 0:
            yield at % partitions, batch
            if cut:
                yield at % partitions, batch[:-1]


def flipped(valid: bytes, rng: np.random.Generator) -> bytes:
    bits = np.unpackbits(np.frombuffer(valid, dtype=np.uint8))
    bits[rng.integers(len(bits), size=int(rng.integers(1, 4)))] ^= 1
    return np.packbits(bits).tobytes()


def raw_batch(
    records: Sequence[Raw], codec: int = 0, first_offset: int = 0, attributes: int = 0, producer: int = -1
) -> bytes:
    """Return a batch of version 2, as https://kafka.apache.org/documentation/#messageformat has it."""
    first_ms, last_ms = records[0].timestamp_ms, max(one.timestamp_ms for one in records)
    body = CODECS[codec](b"".join(_record(at, one, one.timestamp_ms - first_ms) for at, one in enumerate(records)))
    last, count = len(records) - 1, len(records)
    epoch, sequence = (0, 0) if producer >= 0 else (-1, -1)
    after = struct.pack(
        ">hiqqqhii", codec | attributes, last, first_ms, last_ms, producer, epoch, sequence, count
    ) + bytes(body)
    rest = struct.pack(">ibI", -1, 2, calc_crc32c(after)) + after
    return struct.pack(">qi", first_offset, len(rest)) + rest


def marker(kind: int, first_offset: int, producer: int) -> bytes:
    record = Raw(struct.pack(">hh", 0, kind), bytes(6))
    return raw_batch([record], first_offset=first_offset, attributes=MARKER | TRANSACTIONAL, producer=producer)


def _record(at: int, one: Raw, delta_ms: int) -> bytes:
    headers = b"".join(_sized(name) + _sized(value) for name, value in one.headers)
    body = b"\0" + _varint(delta_ms) + _varint(at) + _sized(one.key) + _sized(one.value)
    body += _varint(len(one.headers)) + headers
    return _varint(len(body)) + body


def _sized(part: bytes | None) -> bytes:
    return _varint(-1) if part is None else _varint(len(part)) + part


def _varint(number: int) -> bytes:
    found = bytearray()
    encode_varint(number, found.append)
    return bytes(found)


def produce_batches(servers: Settings | str, topic: str, batches: Iterable[tuple[int, bytes]]) -> list[int]:
    """Send (partition, batch) as they are, one after another; return the broker's error codes, 0 where it took one."""
    bootstrap = servers if isinstance(servers, str) else servers.kafka_bootstrap_servers

    async def send() -> list[int]:
        client = AIOKafkaClient(bootstrap_servers=bootstrap)
        await client.bootstrap()
        try:
            await client.add_topic(topic)
            await client._maybe_wait_metadata()
            codes = []
            for partition, batch in batches:
                leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
                request = ProduceRequest(None, -1, 10_000, [(topic, [(partition, batch)])])
                answer: Any = await client.send(leader, request)
                codes.append(answer.topics[0][1][0][1])
            return codes
        finally:
            await client.close()

    return asyncio.run(send())
