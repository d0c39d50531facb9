"""Bodies of models that are too large for one record: sent in parts, followed by a record that names them.

A *part* is a record of the models topic with the key `<name>/<series>/0/<SHA-256>` and up to `PART_BYTES` in its
body. The record with the key `<name>`, the manifest, comes after its parts: it has no body, the digest of the whole
one, and the keys of its parts in order. Tombstones for the parts of all earlier manifests follow it. So the topic has
at most two series of a model, whatever its compaction has removed already.

A publisher names only parts that it has sent itself. Another publisher of the name, such as a learner that took over,
removes those on the topic.
"""

import hashlib
import secrets
from collections.abc import Callable
from functools import partial

from botify.core.errors import DecodeError
from botify.core.files import Body, mapped, release
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Model
from botify.schemas.topics import Topics

PART_BYTES = 4 * 1024 * 1024
UNACKNOWLEDGED_PARTS = 8  # parts that wait in the producer's queue at most


class ModelPublisher:
    """Sends models, large ones in parts; at least once, as a copy replaces its equal. The caller flushes at the end."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        publisher: RecordPublisher,
        read_parts: Callable[[], dict[str, set[str]]] | None = None,
    ) -> None:
        self._codec, self._publisher = codec, publisher
        self._topic = Topics.of(settings).models.name
        self._read_parts = read_parts or partial(parts_on_topic, settings, self._topic)
        self.begin()

    def begin(self) -> None:
        """Read again which parts are on the topic before the next model, because others may have published since."""
        self._on_topic: dict[str, set[str]] | None = None

    def send(self, model: Model) -> None:
        """Send the parts of a model, its manifest, and tombstones for the parts that it does not have.

        Raises `PublishError` if a record is refused, `TopicError` if the parts on the topic cannot be read.
        """
        if self._on_topic is None:
            self._on_topic = self._read_parts()
        parts: list[str] = []
        if len(model.body) > PART_BYTES:
            parts = self._send_parts(model)
            self._send(model.name, model._replace(body=b"", parts=parts))
        else:
            self._send(model.name, model)
        for part in sorted(self._on_topic.get(model.name, set()).difference(parts)):
            self._publisher.send(self._topic, None, f"{model.name}/{part}".encode())
        self._on_topic[model.name] = set(parts)

    def _send_parts(self, model: Model) -> list[str]:
        series, sent = secrets.token_hex(8), []
        for begin in range(0, len(model.body), PART_BYTES):
            piece = model.body[begin : begin + PART_BYTES]
            digest = hashlib.sha256(piece).hexdigest()
            sent.append(f"{series}/0/{digest}")
            key = f"{model.name}/{sent[-1]}"
            self._send(key, Model(key, model.version, piece, digest, model.timestamp_ms))
            if len(sent) % UNACKNOWLEDGED_PARTS == 0:
                self._publisher.flush()
        return sent

    def _send(self, key: str, model: Model) -> None:
        self._publisher.send(self._topic, self._codec.encode(model), key.encode())


def parts_on_topic(settings: Settings, topic: str) -> dict[str, set[str]]:
    """Return the keys of all parts that the topic has, by name."""
    found: dict[str, set[str]] = {}
    reader = TopicReader(settings, topic, partitions=[0], batch=1)
    try:
        for messages in reader.read_to_end():
            for message in messages:
                name, part = name_and_part(message.key())
                if part and message.value() is None:
                    found.get(name, set()).discard(part)
                elif part:
                    found.setdefault(name, set()).add(part)
    finally:
        reader.close()
    return found


def name_and_part(key: bytes | None) -> tuple[str, str]:
    """Return a model's name, and which of its parts a record is; empty for none."""
    name, _, part = (key or b"").decode(errors="replace").partition("/")
    return name, part


class ModelParts:
    """The parts that were read and the bodies made of them; none of them stays in memory.

    A body is complete or it is not returned: all parts have come, and its digest is that of the manifest.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], Body] = {}
        self._bodies: dict[str, tuple[list[str], Body]] = {}

    def take(self, name: str, part: str, content: bytes | None) -> None:
        """Keep a part until its manifest comes; None is a tombstone. Raises `DecodeError` for a wrong digest."""
        if content is None:
            self._parts.pop((name, part), None)
        elif hashlib.sha256(content).hexdigest() != part.rpartition("/")[2]:
            raise DecodeError(f"the part {part} of model {name!r} does not have its digest", content)
        else:
            self._parts[name, part] = mapped(lambda file: file.write(content))

    def forget(self, name: str) -> None:
        """Forget a body, because the model came whole in one record."""
        self._bodies.pop(name, None)

    def whole(self, manifest: Model) -> Model:
        """Return the model that a manifest names; its body lies in a file. Raises `DecodeError` if it is not whole."""
        name, parts = manifest.name, list(manifest.parts or ())
        known, body = self._bodies.get(name, ([], b""))
        if parts != known:
            keys = [(name, part) for part in parts]
            if missing := sum(key not in self._parts for key in keys):
                raise DecodeError(f"{missing} of {len(parts)} parts of model {name!r} are not on the topic", b"")
            content = b"".join([self._parts[key][:] for key in keys])
            body = mapped(lambda file: file.write(content))
        if hashlib.sha256(body).hexdigest() != manifest.digest:
            raise DecodeError(f"the body of model {name!r} does not have its digest", b"")
        self._bodies[name] = parts, body
        for part in parts:
            self._parts.pop((name, part), None)
        # a mapped file is read like bytes by all that read bodies
        return manifest._replace(body=body)  # type: ignore[arg-type]

    def release(self) -> None:
        """Take the bodies' pages out of memory that no one has read since."""
        for _, body in self._bodies.values():
            release(body)
