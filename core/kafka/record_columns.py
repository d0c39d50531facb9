"""Records of one partition as columns: where each lies in the bytes of a fetch, without an object for each.

Batches are decompressed within a bound: one of a kilobyte may unpack to gigabytes.
"""

import io
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from struct import Struct
from typing import Any, Self, overload

import cramjam
import numpy as np
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import encode_varint
from numpy.typing import NDArray

from botify.core.errors import BotifyError
from botify.core.kafka.headers import safe_headers
from botify.core.kafka.reader import LogRecord

Places = NDArray[np.int64]
Aborted = Sequence[tuple[int, int]]

BATCH_HEADER = 61
_LENGTH_ENDS, _VERSION_AT, _ATTRIBUTES_AT, _PRODUCER_AT = 12, 16, 22, 43
_LAST_DELTA_AT = 23
_OFFSET_AND_LENGTH, _PRODUCER, _DELTA = Struct(">qi"), Struct(">q"), Struct(">i")
_CODEC, _LOG_APPEND_TIME, _TRANSACTIONAL, _MARKER = 0x07, 0x08, 0x10, 0x20


class RecordColumns(Sequence[Any]):
    """A batch of records of one partition, in order.

    `offsets` and `timestamps` are int64 of shape (n,); `keys` and `values`, int64 of shape (2, n), are begins and ends
    in `raw` (`bytes` as an array); -1 where there is none.
    """

    def __init__(
        self, topic: str, partition: int, raw: bytes, places: Places, originals: Sequence[Any] | None = None
    ) -> None:
        self._topic, self.partition = topic, partition
        self._places, self._originals = places, originals
        self.raw = raw
        self.bytes = np.frombuffer(raw, dtype=np.uint8)
        self.offsets, self.timestamps = places[0], places[1]
        self.keys, self.values = places[2:4], places[4:6]

    @classmethod
    def of(cls, records: Sequence[Any]) -> Self:
        """Return columns of records that are objects."""
        parts = [part for record in records for part in (record.key, record.value)]
        lengths = np.array([-1 if part is None else len(part) for part in parts], dtype=np.int64)
        ends = np.cumsum(np.maximum(lengths, 0))
        bounds = np.where(lengths < 0, -1, np.stack([ends - lengths, ends])).reshape(2, -1, 2)
        places = np.zeros((7, len(records)), dtype=np.int64)
        places[0] = [record.offset for record in records]
        places[1] = [record.timestamp for record in records]
        places[2:4], places[4:6] = bounds[:, :, 0], bounds[:, :, 1]
        first = records[0]
        return cls(first.topic, first.partition, b"".join([part or b"" for part in parts]), places, records)

    @property
    def size_bytes(self) -> int:
        """Bytes that the records keep in memory."""
        return len(self.raw)

    def since(self, offset: int) -> Self:
        """Return the records from an offset on."""
        first = int(np.searchsorted(self.offsets, offset))
        return self._rows(slice(first, None)) if first else self

    def until(self, offset: int) -> Self:
        """Return the records before an offset."""
        return self._rows(slice(int(np.searchsorted(self.offsets, offset))))

    def parts(self, most: int) -> Iterator[Self]:
        """Yield the records in order, at most `most` at a time."""
        if len(self) <= most:
            yield self
        else:
            yield from (self._rows(slice(begin, begin + most)) for begin in range(0, len(self), most))

    def _rows(self, rows: slice) -> Self:
        originals = None if self._originals is None else self._originals[rows]
        return type(self)(self._topic, self.partition, self.raw, np.ascontiguousarray(self._places[:, rows]), originals)

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> list[Any]: ...

    def __getitem__(self, row: int | slice) -> Any:
        if isinstance(row, slice):
            return [self[at] for at in range(*row.indices(len(self)))]
        if self._originals is not None:
            return self._originals[row]
        offset, timestamp, *bounds = self._places[:, row].tolist()
        key, value = (None if begin < 0 else self.raw[begin:end] for begin, end in (bounds[:2], bounds[2:4]))
        headers = safe_headers(_headers(self.raw, bounds[4]))
        return LogRecord(self._topic, self.partition, offset, timestamp, key, value, headers)


def _headers(raw: bytes, at: int) -> Iterator[tuple[bytes, bytes | None]]:
    count, at = _varint(raw, at)
    for _ in range(count):
        length, at = _varint(raw, at)
        name = raw[at : at + length]
        at += length
        length, at = _varint(raw, at)
        yield name, None if length < 0 else raw[at : at + length]
        at += max(length, 0)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def read_batches(
    topic: str, partition: int, raw: bytes, start: int, aborted: Aborted = ()
) -> tuple[RecordColumns, int] | None:
    """Return the records of a fetch from offset `start` on, and the offset after them.

    None if a batch is of an earlier version, or broken: then aiokafka reads them.
    """
    from botify.core.kafka.record_kernels import count_records, index_records

    data = np.frombuffer(raw, dtype=np.uint8)
    count, next_offset = (-1, -1) if aborted else count_records(data)
    if count < 0:
        if (plain := plain_batches(raw, aborted)) is None:
            return None
        raw, data = plain, np.frombuffer(plain, dtype=np.uint8)
        count, next_offset = count_records(data)
    if count < 0:
        return None
    places = np.empty((7, count), dtype=np.int64)
    if not index_records(data, places):
        return None
    return RecordColumns(topic, partition, raw, places).since(start), next_offset


def plain_batches(raw: bytes, aborted: Aborted) -> bytes | None:
    """Return the whole batches of a fetch decompressed, and empty where they are markers or of aborted transactions.

    They end after `MOST_BYTES`, if not with the first batch. One that cannot be decompressed is a record whose value
    says so, at the batch's last offset, which becomes a dead letter where its topic has them. `aborted` has the
    producer id and the first offset of each aborted transaction, which ends at its producer's next marker. None if a
    batch is of an earlier version.
    """
    parts: list[bytes] = []
    at, size, waiting, aborting = 0, 0, deque(sorted(aborted, key=itemgetter(1))), set()
    while at + _LENGTH_ENDS <= len(raw) and size <= MOST_BYTES:
        offset, length = _OFFSET_AND_LENGTH.unpack_from(raw, at)
        begin, end = at + BATCH_HEADER, at + _LENGTH_ENDS + length
        if end > len(raw):
            break
        if end < begin or raw[at + _VERSION_AT] != 2:
            return None
        attributes, (producer,) = raw[at + _ATTRIBUTES_AT], _PRODUCER.unpack_from(raw, at + _PRODUCER_AT)
        while waiting and waiting[0][1] <= offset:
            aborting.add(waiting.popleft()[0])
        records, body = raw[begin - 4 : begin], raw[begin:end]
        if attributes & _MARKER or (attributes & _TRANSACTIONAL and producer in aborting):
            records, body = bytes(4), b""
            if attributes & _MARKER:
                aborting.discard(producer)
        elif attributes & _CODEC:
            try:
                body = decompress(attributes & _CODEC, body)
            except CompressionError as error:
                (delta,) = _DELTA.unpack_from(raw, at + _LAST_DELTA_AT)
                records, body = _DELTA.pack(1), _record(delta, str(error).encode())
        parts += (
            _OFFSET_AND_LENGTH.pack(offset, BATCH_HEADER - _LENGTH_ENDS + len(body)),
            raw[at + _LENGTH_ENDS : at + _ATTRIBUTES_AT],
            bytes([attributes & _LOG_APPEND_TIME]),
            raw[at + _ATTRIBUTES_AT + 1 : begin - 4],
            records,
            body,
        )
        at, size = end, size + len(body)
    return b"".join(parts)


def _record(delta: int, value: bytes) -> bytes:
    """Return a record without a key or headers, at a batch's first offset plus `delta`."""
    record = bytearray(2)  # its attributes, and the time since the batch's first
    encode_varint(delta, record.append)
    encode_varint(-1, record.append)
    encode_varint(len(value), record.append)
    record += value + b"\0"
    length = bytearray()
    encode_varint(len(record), length.append)
    return bytes(length + record)


MOST_BYTES = 64 * 1024 * 1024  # that a batch may unpack to; brokers take 1 MiB packed, a tenth of the listens
USUAL_RATIO = 30  # bytes of the first buffer for each packed one: 64 MiB at once would cost 40 µs a batch

_GZIP, _XERIAL, _XERIAL_HEADER = 31, b"\x82SNAPPY\0", 16


class CompressionError(BotifyError):
    """A batch cannot be unpacked, or unpacks to more than `MOST_BYTES`."""


def decompress(codec: int, body: bytes) -> bytes:
    """Return the records of a batch; codec 1 is gzip, 2 snappy, 3 lz4, 4 zstd. Raises `CompressionError`."""
    if (unpack := _UNPACK.get(codec)) is None:
        raise CompressionError(f"no codec has number {codec}")
    try:
        return unpack(body)
    except CompressionError:
        raise
    except Exception as error:  # each library has errors of its own
        raise CompressionError(f"the batch does not unpack to at most {MOST_BYTES} bytes: {error!r}") from error


def bound_aiokafka() -> None:
    """Let aiokafka unpack batches with these codecs."""
    module = sys.modules[DefaultRecordBatch.__module__]  # compiled, or not
    for codec, name in ((1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")):
        setattr(module, f"{name}_decode", lambda body, codec=codec: decompress(codec, bytes(body)))


def _gzip(body: bytes) -> bytes:
    stream = zlib.decompressobj(_GZIP)
    unpacked = stream.decompress(body, MOST_BYTES)
    if not stream.eof:
        raise CompressionError(f"the batch is cut off, or has more than {MOST_BYTES} bytes")
    return unpacked


def _snappy(body: bytes) -> bytes:
    if not body.startswith(_XERIAL):
        return _snappy_block(body, MOST_BYTES)
    unpacked, at = io.BytesIO(), _XERIAL_HEADER
    while at < len(body):
        begin = at + 4
        at = begin + int.from_bytes(body[at:begin], "big")
        unpacked.write(_snappy_block(body[begin:at], MOST_BYTES - unpacked.tell()))
    return unpacked.getvalue()


def _snappy_block(block: bytes, most: int) -> bytes:
    if (size := cramjam.snappy.decompress_raw_len(block)) > most:
        raise CompressionError(f"the batch has more than {MOST_BYTES} bytes: a block of {size}")
    return bytes(cramjam.snappy.decompress_raw(block))


def _into_buffer(unpack: Callable[[Any, Any], int]) -> Callable[[bytes], bytes]:
    def unpacked(body: bytes) -> bytes:
        buffer = np.empty(min(USUAL_RATIO * len(body), MOST_BYTES), dtype=np.uint8)
        try:
            size = unpack(body, buffer)
        except cramjam.DecompressionError:
            buffer = np.empty(MOST_BYTES, dtype=np.uint8)
            size = unpack(body, buffer)
        return buffer[:size].tobytes()

    return unpacked


_UNPACK: dict[int, Callable[[bytes], bytes]] = {
    1: _gzip,
    2: _snappy,
    3: _into_buffer(cramjam.lz4.decompress_into),
    4: _into_buffer(cramjam.zstd.decompress_into),
}
