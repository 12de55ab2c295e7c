"""The circuit breaker on bare numbers: closed, open, half-open."""

from __future__ import annotations

import pytest

from tap_rest.limits.breaker import BLOCKS, COOL_OFF, FAILURES, LONGEST, LOST, PAUSE, Breaker


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(0.0)
    return breaker


def test_it_opens_after_many_failures_in_a_row_and_says_so() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    assert breaker.opens(0.0) == 0.0
    breaker.failed(0.0)
    assert breaker.opens(0.0) == PAUSE
    assert "10 failures" in breaker.reason


def test_an_answer_in_between_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(5 * FAILURES):
        breaker.failed(0.0)
        if breaker.opens(0.0) == 0.0:
            breaker.answered()
    assert breaker.opens(0.0) == 0.0


@pytest.mark.case("R000-3")
def test_a_few_blocks_in_a_row_open_it_for_a_quarter_of_an_hour() -> None:
    breaker = Breaker()
    for number in range(BLOCKS):
        assert breaker.opens(float(number)) == number
        breaker.blocked(float(number))
    assert breaker.opens(5.0) == BLOCKS - 1 + COOL_OFF
    assert "look like a block" in breaker.reason


def test_half_open_a_single_probe_passes() -> None:
    breaker = opened()
    assert breaker.opens(PAUSE) <= PAUSE
    breaker.sent(PAUSE)
    assert breaker.opens(PAUSE) > PAUSE
    assert breaker.opens(PAUSE + LOST - 1) > PAUSE + LOST - 1
    assert breaker.opens(PAUSE + LOST) <= PAUSE + LOST, "a probe that got lost holds nobody back for ever"


def test_a_good_probe_closes_it_and_all_is_forgotten() -> None:
    breaker = opened()
    breaker.sent(PAUSE)
    breaker.answered()
    for _ in range(FAILURES - 1):
        breaker.failed(PAUSE)
    assert breaker.opens(PAUSE) == PAUSE


def test_a_bad_probe_opens_it_for_twice_as_long_up_to_an_hour() -> None:
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(9):
        now, before = breaker.opens(now), now
        pauses.append(now - before)
        breaker.sent(now)
        breaker.failed(now)
    assert pauses == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, LONGEST, LONGEST, LONGEST]
