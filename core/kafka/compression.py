"""Kafka's codecs, bounded: a batch of a kilobyte may unpack to gigabytes."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable
from typing import Any

import cramjam
import numpy as np
from aiokafka.record.default_records import DefaultRecordBatch

from botify.core.errors import BotifyError

MOST_BYTES = 64 * 1024 * 1024
"""Most bytes that a batch may unpack to. Brokers take 1 MiB packed; listens pack to about a tenth."""
USUAL_RATIO = 30
"""Bytes that are made room for at first, for each packed one: 64 MiB at once would cost 40 µs a batch."""

_GZIP, _XERIAL, _XERIAL_HEADER = 31, b"\x82SNAPPY\0", 16


class CompressionError(BotifyError):
    """A batch cannot be unpacked, or unpacks to more than `MOST_BYTES`."""


def decompress(codec: int, body: bytes) -> bytes:
    """Return the records of a batch.

    Parameters
    ----------
    codec : int
        Of the batch's attributes: 1 gzip, 2 snappy, 3 lz4, 4 zstd.

    Raises
    ------
    CompressionError
    """
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
