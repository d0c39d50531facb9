"""The store in Redis: one script a claim, one script an apply, one round trip a read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streams.folds.projection import Changes
from streams.store.keys import checkpoint_key, partition_key
from streams.store.protocol import Claim, Outcome

_HERE = Path(__file__).parent


class RedisStore:
    """A `Store` in Redis or Redis Cluster.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
        With raw (undecoded) replies.
    namespace : str
        The generation of derived state that is written.
    """

    def __init__(self, redis: Any, namespace: str) -> None:
        self._redis = redis
        self._namespace = namespace
        self._claim = redis.register_script((_HERE / "claim.lua").read_text(encoding="utf-8"))
        self._apply = redis.register_script((_HERE / "apply.lua").read_text(encoding="utf-8"))

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        """Raise the epoch; see `Store.claim`."""
        key = checkpoint_key(self._namespace, partition)
        epoch, next_offset, stored_id = await self._claim(keys=[key], args=[owner, topic_id])
        return Claim(
            epoch=epoch,
            owner=owner,
            next_offset=None if next_offset is None else int(next_offset),
            topic_id=stored_id.decode() if stored_id else topic_id,
        )

    async def read_all_fields(self, partition: int, collection: str) -> dict[bytes, bytes]:
        """Read a whole hash; see `Store.read_all_fields`."""
        fields: dict[bytes, bytes] = await self._redis.hgetall(self._key(partition, collection))
        return fields

    async def read_missing(
        self, partition: int, hashes: Mapping[str, Sequence[bytes]], score_sets: Mapping[str, Sequence[bytes]]
    ) -> tuple[dict[str, dict[bytes, bytes | None]], dict[str, dict[bytes, float | None]]]:
        """Read fields and scores in one pipeline; see `Store.read_missing`."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name, fields in hashes.items():
                pipeline.hmget(self._key(partition, name), fields)
            for name, members in score_sets.items():
                pipeline.zmscore(self._key(partition, name), list(members))
            replies = iter(await pipeline.execute())
        return (
            {name: dict(zip(fields, next(replies), strict=True)) for name, fields in hashes.items()},
            {name: dict(zip(members, next(replies), strict=True)) for name, members in score_sets.items()},
        )

    async def apply(self, partition: int, claim: Claim, expected_next: int, new_next: int, changes: Changes) -> Outcome:
        """Write under the claim, in one script; see `Store.apply`."""
        keys = [checkpoint_key(self._namespace, partition)]
        args: list[Any] = [claim.epoch, claim.owner, expected_next, new_next]

        def command(collection: str, name: str, arguments: list[Any]) -> None:
            if arguments:
                keys.append(self._key(partition, collection))
                args.extend((name, len(arguments)))
                args.extend(arguments)

        for collection, fields in changes.hashes.items():
            kept: list[Any] = []
            for field, value in fields.items():
                if value is not None:
                    kept.append(field)
                    kept.append(value)
            command(collection, "HSET", kept)
            command(collection, "HDEL", [field for field, value in fields.items() if value is None])
        for collection, scores in changes.scores.items():
            # repr gives the shortest text that reads back as the same double
            command(collection, "ZADD", [x for member, score in scores.items() for x in (repr(score), member)])
        return Outcome((await self._apply(keys=keys, args=args)).decode())

    def _key(self, partition: int, collection: str) -> str:
        return partition_key(self._namespace, partition, collection)
