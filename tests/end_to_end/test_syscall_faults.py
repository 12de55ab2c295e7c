"""System calls that kill the target or fail: a spread of them; `python -m tests.nightly.syscalls` tries every one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.end_to_end.syscalls import CALLS, FAULTS, try_point, workload

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs Debian's strace")


@pytest.mark.case("A1")
@pytest.mark.case("A2")
@pytest.mark.case("A7")
@pytest.mark.case("A10")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_kills_or_fails_loses_and_doubles_nothing(call: str, fault: str, tmp_path: Path) -> None:
    load, reached = workload(), 0
    for number in (1, 2, 3, 5, 8, 13, 21):
        hit, problems = try_point(tmp_path / str(number), call, fault, number, load)
        assert problems == [], f"at {call} number {number}"
        reached += hit
    assert reached >= 3
