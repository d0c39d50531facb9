from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.unit.services.gateway.fakes import FakeGateway, serving


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[TestClient]:
    with serving(gateway) as client:
        yield client
