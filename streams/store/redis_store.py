"""The store in Redis: one script a claim, one script an apply, one round trip a read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from streams.folds.projection import Changes
from streams.store.connect import Writes, patiently
from streams.store.keys import checkpoint_key, partition_key
from streams.store.protocol import Claim, ClaimPosition, Outcome

_HERE = Path(__file__).parent


class RedisStore:
    """A `Store` in Redis or Redis Cluster.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
        With raw (undecoded) replies.
    namespace : str
        The generation of derived state that is written.
    writes : Writes, optional
        With it, claims and applies that Redis refuses are repeated; see `patiently`.
    """

    def __init__(self, redis: Any, namespace: str, writes: Writes | None = None) -> None:
        self._writes = writes
        self._redis = redis
        self._namespace = namespace
        self._claim = redis.register_script((_HERE / "claim.lua").read_text(encoding="utf-8"))
        self._apply = redis.register_script((_HERE / "apply.lua").read_text(encoding="utf-8"))

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        """Raise the epoch; see `Store.claim`."""
        key = checkpoint_key(self._namespace, partition)
        epoch, next_offset, stored_id = await patiently(
            self._redis,
            lambda: self._claim(keys=[key], args=[owner, topic_id]),
            writes=self._writes,
            partition=partition,
        )
        return Claim(
            epoch=epoch,
            owner=owner,
            next_offset=None if next_offset is None else int(next_offset),
            topic_id=stored_id.decode() if stored_id else topic_id,
        )

    async def read_whole(
        self, partition: int, hashes: Sequence[str], score_sets: Sequence[str], under: ClaimPosition | None = None
    ) -> tuple[dict[str, dict[bytes, bytes]], dict[str, dict[bytes, float]]]:
        """Read whole collections in one transaction; see `Store.read_whole`."""

        def ask(pipeline: Any) -> None:
            for name in hashes:
                pipeline.hgetall(self._key(partition, name))
            for name in score_sets:
                pipeline.zrange(self._key(partition, name), 0, -1, withscores=True)

        rest = await self._read(partition, ask, under)
        replies = iter(rest)
        return {name: next(replies) for name in hashes}, {name: dict(next(replies)) for name in score_sets}

    async def read_fields(
        self, partition: int, wanted: Mapping[str, Sequence[bytes]], under: ClaimPosition | None = None
    ) -> dict[str, dict[bytes, bytes | None]]:
        """Read fields of hashes in one transaction; see `Store.read_fields`."""

        def ask(pipeline: Any) -> None:
            for name, fields in wanted.items():
                pipeline.hmget(self._key(partition, name), fields)

        replies = await self._read(partition, ask, under)
        return {
            name: dict(zip(fields, values, strict=True))
            for (name, fields), values in zip(wanted.items(), replies, strict=True)
        }

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        """Write under the claim, in one script; see `Store.apply`."""
        keys = [checkpoint_key(self._namespace, partition)]
        args: list[Any] = [claim.epoch, claim.owner, "" if expected_next is None else expected_next, new_next]

        def command(collection: str, name: str, arguments: list[Any]) -> None:
            if arguments:
                keys.append(self._key(partition, collection))
                args.extend((name, len(arguments)))
                args.extend(arguments)

        for collection, fields in changes.hashes.items():
            kept = [(field, value) for field, value in fields.items() if value is not None]
            command(collection, "HSET", [x for pair in kept for x in pair])
            command(collection, "HDEL", [field for field, value in fields.items() if value is None])
        for collection, scores in changes.scores.items():
            # repr gives the shortest text that reads back as the same double
            ranked = [(repr(score), member) for member, score in scores.items() if score is not None]
            command(collection, "ZADD", [x for pair in ranked for x in pair])
            command(collection, "ZREM", [member for member, score in scores.items() if score is None])
        outcome: bytes = await patiently(
            self._redis, lambda: self._apply(keys=keys, args=args), writes=self._writes, partition=partition
        )
        return Outcome(outcome.decode())

    async def _read(self, partition: int, ask: Callable[[Any], None], under: ClaimPosition | None) -> list[Any]:
        """Return the replies to what `ask` puts into a transaction, all of one moment at which the position held."""

        async def transaction() -> list[Any]:
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.hmget(checkpoint_key(self._namespace, partition), ["epoch", "owner", "next_offset"])
                ask(pipeline)
                replies: list[Any] = await pipeline.execute()
            return replies

        position, *replies = await patiently(self._redis, transaction)
        _check(position, under)
        return replies

    def _key(self, partition: int, collection: str) -> str:
        return partition_key(self._namespace, partition, collection)


def _check(stored: Sequence[bytes | None], under: ClaimPosition | None) -> None:
    if under is not None:
        epoch, owner, next_offset = stored
        under.check(int(epoch or 0), (owner or b"").decode(), None if next_offset is None else int(next_offset))
