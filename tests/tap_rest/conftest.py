"""What the tests of the command line share: a sample server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tap_sample.server import SampleServer


@pytest.fixture
def sample() -> Iterator[SampleServer]:
    with SampleServer() as server:
        yield server
