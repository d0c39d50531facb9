"""Invariant: a worker holds no partition that the group has given to another, and one that has none is ready."""

import asyncio
import logging
import ssl
import sys
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from aiokafka.errors import IllegalStateError
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from faust.types import TP

from botify.core.settings import Settings
from botify.streams.learner.__main__ import build_app as build_learner
from botify.streams.worker import folding, transport
from botify.streams.worker.__main__ import build_app as build_worker
from botify.streams.worker.by_columns import BY_COLUMNS
from botify.streams.worker.faust_app import FoldingApp
from botify.streams.worker.folding import BY_LISTEN, ColumnsWhenCompiled
from botify.streams.worker.transport import BatchConsumer, broker_credentials

PARTITION = TP("t", 0)


class Owned:
    """Claims at offset 7; each look finds the checkpoint one further; `meanwhile` is what happens during a claim."""

    def __init__(self) -> None:
        self.claims: list[set[int]] = []
        self.reached = 8
        self.meanwhile: Callable[[], object] = lambda: None

    async def claim(self, partitions: set[int]) -> Mapping[int, int]:
        self.claims.append(partitions)
        self.meanwhile()
        return dict.fromkeys(partitions, 7)

    def applied(self) -> Mapping[int, int]:
        self.reached += 1
        return {0: self.reached}


@pytest.mark.parametrize("build_app", [build_worker, build_learner])
async def test_one_that_is_assigned_nothing_lets_go_of_all(build_app: Callable[[Settings], FoldingApp]) -> None:
    app, owned = build_app(Settings()), Owned()
    app.partitions = owned  # type: ignore[assignment]
    await app.on_partitions_assigned.send(set())
    await app.on_partitions_assigned.send({PARTITION})  # a seek follows, which claims
    assert owned.claims == [set()]


@pytest.mark.parametrize("build_app", [build_worker, build_learner])
async def test_one_that_was_not_started_stops(build_app: Callable[[Settings], FoldingApp]) -> None:
    app = build_app(Settings())
    await app.on_stop()
    await app.on_shutdown()


class Alone(BatchConsumer):
    """With one partition, and no broker; keeps what it would commit."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.committed: list[int] = []

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        self.committed += offsets.values()
        return True

    def assignment(self) -> set[TP]:
        return {PARTITION}

    async def seek_wait(self, partitions: Mapping[TP, int]) -> Any:
        pass


def alone() -> tuple[FoldingApp, Owned, Alone]:
    async def nothing(*_: object) -> None:
        pass

    app, owned = build_worker(Settings()), Owned()
    app.partitions = owned  # type: ignore[assignment]
    return app, owned, Alone(app.transport, nothing, nothing, nothing)


async def test_seeking_in_a_partition_that_is_gone_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, consumer = alone()
    gone = AsyncMock(side_effect=IllegalStateError("No current assignment for partition"))
    monkeypatch.setattr(consumer, "seek_wait", gone)
    await consumer.seek_back(PARTITION, 7)
    gone.assert_awaited_once()


async def test_nothing_is_committed_from_the_beginning_of_a_rebalance_until_all_is_claimed() -> None:
    app, owned, consumer = alone()
    app.on_rebalance_start()
    await consumer.commit()
    await consumer.on_partitions_assigned({PARTITION})
    await consumer.commit()
    assert consumer.committed == []
    assert await consumer.seek_to_committed() == {PARTITION: 7}
    await consumer.commit()
    assert consumer.committed == [9]
    app.on_rebalance_start()
    await consumer.commit()
    await consumer.on_partitions_assigned({PARTITION})
    owned.meanwhile = app.on_rebalance_start  # the next one begins before the claims of this one are made
    await consumer.seek_to_committed()
    await consumer.commit()
    assert consumer.committed == [9]


async def test_nothing_is_claimed_while_the_group_decides() -> None:
    app, owned, consumer = alone()
    app.on_rebalance_start()
    await consumer.on_partitions_assigned({PARTITION})
    await consumer.seek_to_committed()
    app.on_rebalance_start()
    assert await consumer.seek_to_committed() == {}  # Faust, once more for the rebalance before
    assert owned.claims == [{0}]
    await consumer.on_partitions_assigned({PARTITION})
    assert await consumer.seek_to_committed() == {PARTITION: 7}
    assert owned.claims == [{0}, {0}]


async def test_a_fetch_of_before_the_rebalance_costs_no_second_claim() -> None:
    app, owned, consumer = alone()
    app.on_rebalance_start()
    await consumer.on_partitions_assigned({PARTITION})
    both = await asyncio.gather(consumer.seek_to_committed(), consumer.seek_to_committed())
    assert owned.claims == [{0}]
    assert both == [{PARTITION: 7}, {PARTITION: 9}]  # the second goes on where the first one's tasks are


async def test_a_claim_that_takes_too_long_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    app, owned, consumer = alone()
    assert app.conf.broker_request_timeout > transport.CLAIM_S
    monkeypatch.setattr(transport, "CLAIM_S", 0.01)
    monkeypatch.setattr(owned, "claim", lambda _: asyncio.get_running_loop().create_future())
    app.on_rebalance_start()
    await consumer.on_partitions_assigned({PARTITION})
    with pytest.raises(transport.ClaimTimeoutError, match=r"claiming \[.*partition=0.*\] took more than"):
        await consumer.seek_to_committed()


SASL = {"sasl.mechanism": "SCRAM-SHA-256", "sasl.username": "me", "sasl.password": "secret"}


def test_credentials_are_those_of_the_settings() -> None:
    def auth(**security: str) -> dict[str, Any]:
        credentials = broker_credentials(Settings(kafka_security=security))
        assert "secret" not in repr(credentials)
        return dict(credentials_to_aiokafka_auth(credentials))

    assert broker_credentials(Settings()) is None
    secured = auth(**{"security.protocol": "SASL_SSL", **SASL})
    context = secured.pop("ssl_context")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert secured == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "me",
        "sasl_plain_password": "secret",
    }
    assert auth(**{"security.protocol": "SASL_PLAINTEXT", **SASL})["ssl_context"] is None
    assert auth(**{"security.protocol": "SSL"})["security_protocol"] == "SSL"


def test_columns_follow_when_the_code_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(folding, "fetch_columns", lambda: called.append(choose() is BY_LISTEN))
    choose = ColumnsWhenCompiled()
    choose.wait(60.0)
    assert choose() is BY_COLUMNS
    assert called == [True]  # fetches are columns before they are folded as such


@pytest.mark.parametrize("missing", ["numba", "a folder for its cache"])
def test_without_numba_or_its_cache_listens_are_folded_one_by_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    if missing == "numba":
        monkeypatch.setitem(sys.modules, "botify.streams.worker.by_columns", None)
    else:
        monkeypatch.setattr(folding, "use_own_cache", Mock(side_effect=OSError))
    with caplog.at_level(logging.WARNING):
        choose = ColumnsWhenCompiled()
        choose.wait(60.0)
    assert any("one by one" in record.getMessage() for record in caplog.records)
    assert choose() is BY_LISTEN
