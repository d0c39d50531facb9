"""Shards of the learned models: which one learns what, and how their snapshots are one model again.

A shard is a partition of the training topic. The batches of a partition of the listens go to one shard, so all listens
of a listener are learned by one. Each shard trains models of its own; what serves is merged from their snapshots, which
are published under names of their own, such as `fism@0of2`. A lone shard has the plain name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NAME = re.compile(r"(?P<name>.+)@(?P<number>\d+)of(?P<count>\d+)", re.DOTALL)


class Shard(NamedTuple):
    """One of several shards.

    Examples
    --------
    >>> Shard(1, 2).name_of("fism"), ALONE.name_of("fism")
    ('fism@1of2', 'fism')
    """

    number: int
    of: int

    def name_of(self, model: str) -> str:
        """Return the name under which the shard publishes its snapshots of a model."""
        return model if self.of == 1 else f"{model}@{self.number}of{self.of}"


ALONE = Shard(0, 1)


def model_and_shard(name: str) -> tuple[str, Shard]:
    """Return the model and the shard of which a snapshot has this name; the inverse of `Shard.name_of`.

    Examples
    --------
    >>> model_and_shard("fism@1of2"), model_and_shard("fism")
    (('fism', Shard(number=1, of=2)), ('fism', Shard(number=0, of=1)))
    """
    found = _NAME.fullmatch(name)
    if found is None or int(found["number"]) >= int(found["count"]) or int(found["count"]) < 2:
        return name, ALONE
    return found["name"], Shard(int(found["number"]), int(found["count"]))


def shard_of(source_partition: int, shards: int) -> int:
    """Return the partition of the training topic that gets the batches of a partition of the listens.

    If the number of shards divides that of the partitions, before and after listens are moved to more partitions, a
    listener stays in their shard.

    Examples
    --------
    >>> [shard_of(partition, 2) for partition in range(4)]
    [0, 1, 0, 1]
    """
    return source_partition % shards
