"""What becomes of a run, from how both sides ended."""

from __future__ import annotations

import pytest

from daykeep.pipeline import Ending, Outcome
from daykeep.run import verdict


def outcome(tap: int, target: int, *, target_first: bool = False, stop: int = 0) -> Outcome:
    return Outcome(Ending("tap-x", tap, ("why",)), Ending("target-archive", target, ("how",)), target_first, stop, {})


@pytest.mark.parametrize(
    ("ended", "status", "exit_status"),
    [
        (outcome(0, 0), "complete", 0),
        (outcome(0, 0, target_first=True), "complete", 0),
        (outcome(3, 0), "partial", 3),
        (outcome(3, 11), "failed", 11),
        (outcome(0, 1), "failed", 1),
        (outcome(0, -9), "failed", 1),
        (outcome(1, 1), "failed", 1),
        (outcome(2, 0), "failed", 1),
        (outcome(-11, 0), "failed", 1),
        (outcome(1, 11, target_first=True), "failed", 11),
        (outcome(-13, 2, target_first=True), "failed", 2),
        (outcome(0, 0, stop=15), "interrupted", 143),
        (outcome(-9, 143, stop=2), "interrupted", 130),
        (outcome(75, 0), "postponed", 75),
    ],
)
def test_only_two_good_ends_make_a_complete_run(ended: Outcome, status: str, exit_status: int) -> None:
    assert verdict(ended)[:2] == (status, exit_status)


def test_what_a_tap_says_of_its_broken_pipe_is_not_taken_for_the_cause() -> None:
    assert verdict(outcome(1, 11, target_first=True))[2] == "target-archive ended with status 11: how"


def test_both_failures_are_told() -> None:
    assert verdict(outcome(-9, 1))[2] == "tap-x was killed by signal 9; target-archive ended with status 1: how"
