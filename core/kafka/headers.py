"""Headers of records, which anybody may write: safe to read, and bounded where they are carried on.

A broker takes a header whose name is not UTF-8. confluent-kafka 2.16 then raises SystemError, and returns tuples with a
null pointer when it is asked again, which end the process when they are read. So does producing a name with a
surrogate. Nothing but this module calls `Message.headers`.
"""

import gc
from collections.abc import Iterable
from operator import methodcaller
from typing import Any

Headers = tuple[tuple[str, bytes], ...]

_read = methodcaller("headers")  # not a plain call: specialized, it would not see the error that is left behind
UNREADABLE = "(not UTF-8)"  # stands for a name that confluent-kafka cannot return
CUT = "botify.cut"  # header that says what was left out of a record
MAX_HEADERS = 128
MAX_HEADER_BYTES = 64 * 1024  # how much of a record's own headers goes into its dead letter or copy


def headers_of(message: Any) -> Headers:
    """Return the headers of a record of confluent-kafka; a value that is null is empty."""
    try:
        found = _read(message)
    except SystemError:  # a name is not UTF-8; the second call returns the others
        found = _read(message)
    # of a pair, the last first; one is missing where a name is a null pointer, which must not be touched
    parts = [gc.get_referents(pair) for pair in found or ()]
    return tuple((part[1] if len(part) == 2 else UNREADABLE, part[0] or b"") for part in parts)


def safe_headers(pairs: Iterable[tuple[bytes, bytes | None]]) -> Headers:
    """Return headers with names as text, as far as their first null as librdkafka reads them, and values not null."""
    return tuple((name.partition(b"\0")[0].decode("utf-8", "backslashreplace"), value or b"") for name, value in pairs)


def carried(headers: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return as many headers as another record may carry, Botify's first, and say how many are left out."""
    kept: list[tuple[str, bytes]] = []
    size = 0
    every = sorted(headers, key=lambda header: not header[0].startswith("botify"))
    for name, value in every:
        size += len(name.encode()) + len(value)
        if len(kept) == MAX_HEADERS or size > MAX_HEADER_BYTES:
            return [*kept, (CUT, b"%d headers" % (len(every) - len(kept)))]
        kept.append((name, value))
    return kept
