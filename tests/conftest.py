"""What all tests share: state that outlives a run is kept apart, and the process is left as it was found."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def _states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(autouse=True)
def _own_state(_states: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports are used again: a cool-off that one test's server brought would reach the next one's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(_states / str(next(_NUMBERS))))


@pytest.fixture(autouse=True)
def _clean_process() -> Iterator[None]:
    """The SDK's command line adds log handlers and an excepthook each time it runs; the next test's would be told."""
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)
    logging.captureWarnings(capture=False)
