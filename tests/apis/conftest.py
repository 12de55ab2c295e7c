"""What the tests of all packaged declarations share: a clock, and a client of the model server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.apis.model import NOW, Client
from tests.apis.packaged import Api, Clock


@pytest.fixture
def clock() -> Iterator[Clock]:
    shared = Clock(NOW)
    yield shared
    shared.end()


@pytest.fixture
def ask(api: Api) -> Iterator[Client]:
    with Client(api.url, api.auth) as client:
        yield client
