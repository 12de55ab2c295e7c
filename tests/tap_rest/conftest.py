"""What several test modules share: a sample server, a transport, an OAuth server that nobody here wrote."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.tap_rest.oauth_servers import OAUTH2_MOCK_SERVER, npm_server

from tap_rest.engine.transport import Transport
from tap_sample.server import SampleServer


@pytest.fixture
def sample() -> Iterator[SampleServer]:
    with SampleServer() as server:
        yield server


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport()
    yield transport
    transport.close()


@pytest.fixture(scope="session")
def mock_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with npm_server(tmp_path_factory.mktemp("mock"), "oauth2-mock-server@8.2.3", OAUTH2_MOCK_SERVER) as url:
        yield url
