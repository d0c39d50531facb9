"""Invariant: a service's size is arithmetic on costs, machines are used to a half, and limits come in their order."""

import pytest

from botify.bench.scale import rows_of
from botify.bench.sizing import GIB, Costs, Service, limits_of, needs_of, sizes_of
from botify.bench.worker import Drained

COSTS = Costs(
    cpu_us={"gateway": 200.0, "recommender": 50.0, "worker": 20.0, "learner": 50.0, "kafka": 40.0, "valkey": 10.0},
    partition_per_s=1_000.0,
    kafka_bytes=500.0,
    redis_bytes=1_000.0,
    user_bytes=2_000.0,
    track_bytes=100.0,
    private_bytes={"gateway": 100.0, "recommender": 200.0, "worker": 150.0},
    shared_bytes=40.0,
    model_tracks={"small": 10_000.0, "large": 1e6},
)
SERVICE = Service(users=1e6, tracks=100_000, listens_per_s=100_000)


def test_what_each_role_needs_is_as_computed_by_hand() -> None:
    needs = needs_of(COSTS, SERVICE)
    assert {role: need.cores for role, need in needs.items()} == pytest.approx(
        {"gateway": 20.0, "recommender": 5.0, "worker": 2.0, "learner": 5.0, "kafka": 4.0, "redis": 1.0}
    )
    processes = {"gateway": 40, "recommender": 10, "worker": 4, "learner": 10, "kafka": 0, "redis": 2}
    assert {role: need.processes for role, need in needs.items()} == processes
    assert needs["recommender"].memory_bytes == 10 * 100_000 * 200
    assert needs["worker"].memory_bytes == 4 * 100_000 * 150 + 1e6 * 3_072 + 128 * 100_000 * 25
    assert needs["redis"].memory_bytes == 1e6 * 2_000 + 128 * 100_000 * 100
    assert needs["kafka"].network_bits_per_s == pytest.approx(100_000 * 500 * 3 * 8)
    assert needs["redis"].network_bits_per_s == pytest.approx(100_000 * 1_000 * 8)


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
        "partition_per_s": 1_000.0, "listen_kafka_bytes": 200.0, "request_kafka_bytes": 300.0,
        "listen_redis_bytes": 400.0, "request_redis_bytes": 600.0, "user_bytes": 2_000.0, "track_bytes": 100.0,
        **{f"{role}_track_bytes": size for role, size in COSTS.private_bytes.items()},
        "shared_track_bytes": 40.0, "cpu_us": rates,
    }  # fmt: skip
    learned = {"cpu_us": {"recommendations_per_s": {"learner": 50.0}}}
    sizes = sizes_of({"scale": {"values": scale}, "learned_loop": {"values": learned}}, SERVICE)
    assert sizes["scale_sizes"]["values"]["kafka"] == needs_of(COSTS, SERVICE)["kafka"].row()
    total = sizes["scale_total"]["values"]
    assert (total["partitions"], total["cores"]) == (128, pytest.approx(37.0))
    assert total["disk_tb_a_day"] == pytest.approx(100_000 * 500 * 3 * 86_400 / 1e12)
    assert total["tracks_gib"] == pytest.approx(128 * 100_000 * 100 / 2**30)


def test_the_table_compares_only_what_the_model_was_not_calibrated_with() -> None:
    cpu_us = {"worker": 3.0, "kafka": 1.0, "valkey": 2.0, "all": 6.0}
    rates = {(1, 1): 100_000.0, (1, 2): 150_000.0, (1, 4): 160_000.0, (2, 1): 80_000.0, (2, 2): 190_000.0}
    rates |= {(4, 1): 100_000.0, (4, 2): 190_000.0, (2, 4): 230_000.0, (4, 4): 230_000.0}
    rows = rows_of({of: Drained(rate, cpu_us, []) for of, rate in rates.items()})
    assert [name for name, row in rows.items() if row["predicted"] is None] == ["1 × 1", "1 × 2", "1 × 4", "4 × 4"]
    assert rows["2 × 1"]["error_percent"] == pytest.approx(25.0)
    assert rows["2 × 1"]["cores"] == pytest.approx(0.48)
    assert rows["2 × 4"]["bound"] == "cores"
