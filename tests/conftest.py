"""What all tests share: state that outlives a run is kept apart for each test, and never in the user's own folder."""

from __future__ import annotations

import itertools
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
