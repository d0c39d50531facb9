"""Invariant: a service's size is arithmetic on costs, machines are used to a half, and limits come in their order."""

from __future__ import annotations

import pytest

from botify.bench.sizing import GIB, MACHINE, Costs, Need, Service, limits_of, needs_of, partitions_of, sizes_of

COSTS = Costs(
    cpu_us={"gateway": 200.0, "recommender": 50.0, "worker": 20.0, "kafka": 40.0, "valkey": 10.0},
    partition_per_s=1_000.0,
    learner_per_s=20_000.0,
    kafka_bytes=500.0,
    redis_bytes=1_000.0,
    user_bytes=2_000.0,
    track_bytes=100.0,
    private_bytes={"gateway": 100.0, "recommender": 200.0, "worker": 150.0},
    shared_bytes=40.0,
    model_tracks={"small": 10_000.0, "large": 1e6},
)
SERVICE = Service(users=1e6, tracks=100_000, listens_per_s=100_000)


def test_partitions_are_a_power_of_two_that_is_enough() -> None:
    assert partitions_of(COSTS, SERVICE) == 128
    assert partitions_of(COSTS, SERVICE._replace(listens_per_s=1_024_000)) == 1_024
    assert partitions_of(COSTS, SERVICE._replace(listens_per_s=10)) == 1


def test_what_each_role_needs_is_as_computed_by_hand() -> None:
    needs = needs_of(COSTS, SERVICE)
    assert {role: need.cores for role, need in needs.items()} == pytest.approx(
        {"gateway": 20.0, "recommender": 5.0, "worker": 2.0, "learner": 5.0, "kafka": 4.0, "redis": 1.0}
    )
    assert {role: need.processes for role, need in needs.items()} == {
        "gateway": 40,
        "recommender": 10,
        "worker": 4,
        "learner": 10,
        "kafka": 0,
        "redis": 2,
    }
    assert needs["recommender"].memory_bytes == 10 * 100_000 * 200
    assert needs["worker"].memory_bytes == 4 * 100_000 * 150 + 1e6 * 3_072 + 128 * 100_000 * 25
    assert needs["redis"].memory_bytes == 1e6 * 2_000 + 128 * 100_000 * 100
    assert needs["kafka"].network_bits_per_s == pytest.approx(100_000 * 500 * 3 * 8)
    assert needs["redis"].network_bits_per_s == pytest.approx(100_000 * 1_000 * 8)


def test_a_worker_remembers_a_bounded_number_of_listeners_of_a_partition() -> None:
    many = needs_of(COSTS, SERVICE._replace(users=1e9))["worker"].memory_bytes
    assert many == 4 * 100_000 * 150 + 128 * 60_000 * 3_072 + 128 * 100_000 * 25


@pytest.mark.parametrize(
    ("need", "machines", "driver"),
    [
        (Need(processes=8, cores=8.1), 2, "CPU"),
        (Need(processes=1, cores=1.0, memory_bytes=33 * GIB), 2, "memory"),
        (Need(processes=0, cores=1.0, network_bits_per_s=16e9), 4, "network"),
    ],
)
def test_the_scarcest_resource_decides_about_machines(need: Need, machines: int, driver: str) -> None:
    row = need.row(MACHINE)
    assert (row["machines"], row["driver"]) == (machines, driver)


def test_limits_are_shares_with_the_most_exceeded_one_first() -> None:
    limits = limits_of(COSTS, SERVICE)
    assert next(iter(limits)) == "room for tracks in `small`"
    shares = {name: row["share"] for name, row in limits.items()}
    assert [*shares.values()] == sorted(shares.values(), reverse=True)
    assert shares["room for tracks in `small`"] == pytest.approx(10.0)
    assert shares["64 shards of the learner"] == pytest.approx(10 / 64)
    assert shares["a recommender for each partition"] == pytest.approx(10 / 128)
    catalogue = shares["memory of a machine for the catalogue of a recommender"]
    assert catalogue == pytest.approx(100_000 * 240 / (32 * GIB))
    assert shares["a core of Redis for a partition"] == pytest.approx(100_000 / 128 * 10e-6 / 0.5)


def test_sizes_come_from_recorded_figures() -> None:
    rates = {
        "listens_per_s": {"worker": 20.0, "kafka": 15.0, "valkey": 6.0, "all": 41.0},
        "requests_per_s": {"recommender": 50.0, "kafka": 25.0, "valkey": 4.0, "all": 79.0},
        "next_per_s": {"gateway": 200.0, "all": 200.0},
    }
    scale = {
        "partition_per_s": 1_000.0,
        "listen_kafka_bytes": 200.0,
        "request_kafka_bytes": 300.0,
        "listen_redis_bytes": 400.0,
        "request_redis_bytes": 600.0,
        "user_bytes": 2_000.0,
        "track_bytes": 100.0,
        **{f"{role}_track_bytes": size for role, size in COSTS.private_bytes.items()},
        "shared_track_bytes": 40.0,
        "cpu_us": rates,
    }
    profile = {"learner_listens_per_s": 20_000, "i2i_stream_tracks": 1e5, "fism_tracks": 1e5, "next_track_tracks": 1e4}
    sizes = sizes_of({"scale": {"values": scale}, "profile": {"values": profile}}, SERVICE)
    assert sizes["scale_sizes"]["values"]["kafka"] == needs_of(COSTS, SERVICE)["kafka"].row()
    total = sizes["scale_total"]["values"]
    assert (total["partitions"], total["cores"]) == (128, pytest.approx(37.0))
    assert total["disk_tb_a_day"] == pytest.approx(100_000 * 500 * 3 * 86_400 / 1e12)
    assert total["tracks_gib"] == pytest.approx(128 * 100_000 * 100 / 2**30)
