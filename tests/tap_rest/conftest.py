"""What the tests of the command line share: a sample server, and a process left as it was found."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest

from tap_sample.server import SampleServer


@pytest.fixture
def sample() -> Iterator[SampleServer]:
    with SampleServer() as server:
        yield server


@pytest.fixture
def clean_process() -> Iterator[None]:
    """The SDK's command line adds log handlers and an excepthook each time it runs."""
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)
    logging.captureWarnings(capture=False)
