"""The circuit breaker on bare numbers: closed, open, half-open."""

from __future__ import annotations

import pytest

from tap_rest.limits.breaker import BLOCKS, COOL_OFF, FAILURES, LONGEST, PAUSE, Breaker

NOW = 1_700_000_000.0


def opened() -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(NOW)
    return breaker


def test_it_opens_after_many_failures_in_a_row_and_says_so() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(NOW)
    assert not breaker.until
    breaker.failed(NOW)
    assert breaker.until == NOW + PAUSE
    assert "10 failures" in breaker.reason


def test_an_answer_in_between_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(5 * FAILURES):
        breaker.failed(NOW, cut=True)
        if not breaker.until:
            breaker.answered()
    assert not breaker.until


@pytest.mark.case("R000-3")
def test_a_few_blocks_in_a_row_open_it_for_a_quarter_of_an_hour() -> None:
    breaker = Breaker()
    for number in range(BLOCKS):
        assert not breaker.until
        breaker.blocked(NOW + number)
    assert breaker.until == NOW + BLOCKS - 1 + COOL_OFF
    assert "look like a block" in breaker.reason


@pytest.mark.case("R000-3")
def test_many_connections_in_a_row_that_are_cut_off_are_a_block() -> None:
    breaker = Breaker()
    breaker.failed(NOW)
    for _ in range(FAILURES - 1):
        breaker.failed(NOW, cut=True)
    assert breaker.until == NOW + PAUSE, "one of them was no cut"
    breaker.failed(NOW, cut=True)
    assert breaker.until == NOW + COOL_OFF
    assert "10 connections in a row that were cut off" in breaker.reason


@pytest.mark.case("R003-11")
def test_a_good_probe_closes_it_and_all_is_forgotten() -> None:
    breaker = opened()
    breaker.answered()
    assert not breaker.until
    for _ in range(FAILURES - 1):
        breaker.failed(NOW)
    assert not breaker.until
    breaker.failed(NOW)
    assert breaker.until == NOW + PAUSE


@pytest.mark.case("R003-11")
def test_a_bad_probe_opens_it_for_twice_as_long_up_to_an_hour() -> None:
    breaker, pauses = opened(), []
    for _ in range(9):
        pauses.append(breaker.until - NOW)
        breaker.failed(NOW)
    assert pauses == [60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, LONGEST, LONGEST, LONGEST]
