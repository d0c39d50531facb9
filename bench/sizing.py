"""Workers, machines, shards and partitions of a service, from what a listen and a request cost.

A partition alternates between its worker's core, Kafka and Redis: the more partitions a worker has, the more of its
waiting overlaps. Workers meet at Redis, which has one core, and at the cores of the machine. Each listen comes with a
request for the next track. Machines are used to `USED`: the rest is for peaks, restarts and machines that are gone. The
network between machines, and what Kafka's followers cost in CPU time, are left out.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from botify.core.settings import MOST_SHARDS
from botify.schemas.models import LEARNED_BODY_BYTES
from botify.streams.folds.columns.listeners import MOST_ROWS
from botify.streams.learner.models.factors import TRACK_BYTES
from botify.streams.learner.models.next_track_projection import MOST_ROWS as NEXT_TRACK_ROWS

ROUNDS = 50  # more than it takes until the rate no longer changes


class Folding(NamedTuple):
    """Listens a second of some workers together, and the CPU time of Redis for a listen."""

    listens_per_s: float
    redis_us: float


class Prediction(NamedTuple):
    """Listens a second of all workers, and what bounds them: `waits`, `redis` or `cores`."""

    listens_per_s: float
    bound: str


def predict(alone: Mapping[int, Folding], full: Folding, workers: int, partitions: int) -> Prediction:
    """Return how fast the workers fold the partitions, on the machine that was measured.

    `alone` is one worker on n partitions, `full` as many workers as keep all cores busy. b = min(workers, partitions)
    are busy, with n = partitions / b each. They fold b / (1 / alone(n) + ρ r), where r is Redis's time for a listen and
    ρ the share of its core that the others use; at most 1 / r; and at most `full`.
    """
    busy = min(workers, partitions)
    own = alone[partitions // busy]
    bounds = {
        "waits": _together(own, busy),
        "redis": 1e6 / own.redis_us if own.redis_us else float("inf"),
        "cores": full.listens_per_s,
    }
    bound = min(bounds, key=bounds.__getitem__)
    return Prediction(bounds[bound], bound)


def _together(own: Folding, busy: int) -> float:
    """Return the rate of workers that wait for each other at Redis: the fixed point of rate and waiting."""
    redis_s, alone_s = own.redis_us / 1e6, 1 / own.listens_per_s
    rate = busy / alone_s
    for _ in range(ROUNDS):
        others = min(1.0, rate * redis_s * (busy - 1) / busy)
        rate = (rate + busy / (alone_s + others * redis_s)) / 2
    return rate


USED = 0.5
REPLICAS = 3
GIB = 2.0**30
DAY_S = 86_400
ROW_BYTES = 3 * 1024  # of a listener in a worker's memory, which has at most `MOST_ROWS` of a partition
SCORE_BYTES = 25  # of a track in a worker's memory, for each of its partitions (`streams/folds/popularity.py`)
PARTITIONED = ("worker", "recommender")  # roles whose processes share partitions


class Service(NamedTuple):
    users: float
    tracks: float
    listens_per_s: float


class Machine(NamedTuple):
    """A machine; its network has this number of bits a second in each direction."""

    cores: float
    memory_bytes: float
    network_bits_per_s: float


ASKED = Service(users=100e6, tracks=10e6, listens_per_s=1e6)
MACHINE = Machine(cores=16, memory_bytes=64 * GIB, network_bits_per_s=10e9)


class Costs(NamedTuple):
    """What was measured, of a listen with its request unless said otherwise.

    A partition takes `partition_per_s` listens a second at this `cpu_us` of each role. Redis has `user_bytes` for a
    user and `track_bytes` for a track in each partition; a track takes `private_bytes` of each process, `shared_bytes`
    of each machine. `model_tracks` is the capacity of each model.
    """

    cpu_us: Mapping[str, float]
    partition_per_s: float
    kafka_bytes: float
    redis_bytes: float
    user_bytes: float
    track_bytes: float
    private_bytes: Mapping[str, float]
    shared_bytes: float
    model_tracks: Mapping[str, float]


class Need(NamedTuple):
    """What the processes of one role need together; a broker uses all cores of its machine, so of Kafka there are 0."""

    processes: int
    cores: float
    memory_bytes: float = 0.0
    network_bits_per_s: float = 0.0

    def row(self) -> dict[str, Any]:
        """Return the row of a table: what is needed, the machines, each used to `USED`, and what decides about them."""
        shares = {
            "CPU": self.cores / MACHINE.cores,
            "memory": self.memory_bytes / MACHINE.memory_bytes,
            "network": self.network_bits_per_s / MACHINE.network_bits_per_s,
        }
        driver = max(shares, key=shares.__getitem__)
        return {
            "processes": self.processes,
            "cores": self.cores,
            "memory_gib": self.memory_bytes / GIB,
            "network_gbit_s": self.network_bits_per_s / 1e9,
            "machines": math.ceil(shares[driver] / USED),
            "driver": driver,
        }


def partitions_of(costs: Costs, service: Service) -> int:
    """Return the number of partitions: a power of two, as a later move multiplies it."""
    return 1 << max(0, math.ceil(math.log2(service.listens_per_s / costs.partition_per_s)))


def needs_of(costs: Costs, service: Service) -> dict[str, Need]:
    """Return what each role needs.

    A process has every track; a worker also scores and up to `MOST_ROWS` listeners for each of its partitions; Redis
    has every user, and every track in each partition. Brokers receive each record once a replica, and send it as often.
    """
    partitions = partitions_of(costs, service)
    needs = {}
    for role in ("gateway", "recommender", "worker", "learner"):
        cores = service.listens_per_s * costs.cpu_us[role] / 1e6
        processes = math.ceil(cores / USED)
        memory_bytes = processes * service.tracks * costs.private_bytes.get(role, 0.0)
        if role == "worker":
            memory_bytes += partitions * min(service.users / partitions, MOST_ROWS) * ROW_BYTES
            memory_bytes += partitions * service.tracks * SCORE_BYTES
        needs[role] = Need(processes, cores, memory_bytes)
    sent_bits = service.listens_per_s * costs.kafka_bytes * REPLICAS * 8
    needs["kafka"] = Need(0, service.listens_per_s * costs.cpu_us["kafka"] / 1e6, network_bits_per_s=sent_bits)
    redis_cores = service.listens_per_s * costs.cpu_us["valkey"] / 1e6
    held_bytes = service.users * costs.user_bytes + service.tracks * partitions * costs.track_bytes
    moved_bits = service.listens_per_s * costs.redis_bytes * 8
    needs["redis"] = Need(math.ceil(redis_cores / USED), redis_cores, held_bytes, moved_bits)
    return needs


def limits_of(costs: Costs, service: Service) -> dict[str, dict[str, Any]]:
    """Return how far each limit is reached, the most exceeded one first; more than 1 is in the way."""
    needs, partitions = needs_of(costs, service), partitions_of(costs, service)
    shares = {f"room for tracks in `{name}`": service.tracks / room for name, room in costs.model_tracks.items()}
    shares |= {f"a {role} for each partition": needs[role].processes / partitions for role in PARTITIONED}
    memory_bytes = MACHINE.memory_bytes * USED
    for role, size_bytes in costs.private_bytes.items():
        in_process = service.tracks * (size_bytes + costs.shared_bytes)
        shares[f"memory of a machine for the catalogue of a {role}"] = in_process / memory_bytes
    shares |= {
        f"{MOST_SHARDS} shards of the learner": needs["learner"].processes / MOST_SHARDS,
        "a core of Redis for a partition": needs["redis"].cores / partitions / USED,
        "memory of a machine for a partition in Redis": needs["redis"].memory_bytes / partitions / memory_bytes,
    }
    return {name: {"share": share} for name, share in sorted(shares.items(), key=lambda item: -item[1])}


def costs_of(figures: Mapping[str, Any]) -> Costs:
    """Return the costs that `python -m botify.bench scale` has recorded, and those of the learner in the loop."""
    scale, learned = figures["scale"]["values"], figures["learned_loop"]["values"]
    listen, request = (scale["cpu_us"][rate] for rate in ("listens_per_s", "requests_per_s"))
    return Costs(
        cpu_us={
            "gateway": scale["cpu_us"]["next_per_s"]["gateway"],
            "recommender": request["recommender"],
            "worker": listen["worker"],
            "learner": learned["cpu_us"]["recommendations_per_s"]["learner"],
            **{server: listen[server] + request[server] for server in ("kafka", "valkey")},
        },
        partition_per_s=scale["partition_per_s"],
        kafka_bytes=scale["listen_kafka_bytes"] + scale["request_kafka_bytes"],
        redis_bytes=scale["listen_redis_bytes"] + scale["request_redis_bytes"],
        user_bytes=scale["user_bytes"],
        track_bytes=scale["track_bytes"],
        private_bytes={role: scale[f"{role}_track_bytes"] for role in ("gateway", "recommender", "worker")},
        shared_bytes=scale["shared_track_bytes"],
        model_tracks={"fism": LEARNED_BODY_BYTES / TRACK_BYTES, "next_track": NEXT_TRACK_ROWS},
    )


def sizes_of(figures: Mapping[str, Any], service: Service = ASKED) -> dict[str, Any]:
    """Return what pages quote of a service's size: groups of figures that are computed from recorded ones."""
    costs = costs_of(figures)
    needs, partitions = needs_of(costs, service), partitions_of(costs, service)
    rows = {role: need.row() for role, need in needs.items()}
    total = {
        "partitions": partitions,
        "partition_listens_per_s": service.listens_per_s / partitions,
        "cores": sum(need.cores for need in needs.values()),
        "machines": sum(row["machines"] for row in rows.values()),
        "users_gib": service.users * costs.user_bytes / GIB,
        "tracks_gib": service.tracks * partitions * costs.track_bytes / GIB,
        "disk_tb_a_day": service.listens_per_s * costs.kafka_bytes * REPLICAS * DAY_S / 1e12,
    }
    return {
        "scale_sizes": {"values": rows},
        "scale_total": {"values": total},
        "scale_limits": {"values": limits_of(costs, service)},
    }
