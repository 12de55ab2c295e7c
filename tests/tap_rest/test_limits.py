"""Limits on a clock of our own."""

from __future__ import annotations

import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_rest.limits import POLITE_GAP, Limit, Limiter
from tap_rest.page import Page
from tap_rest.request import Request
from tap_rest.verdicts import LONGEST_WAIT

NOW = 1_700_000_000.0
REQUEST = Request("https://x.test/a")


class HandClock:
    def __init__(self) -> None:
        self.passed = 0.0

    def now(self) -> float:
        return NOW + self.passed

    def monotonic(self) -> float:
        return self.passed


def answer(status: int = 200, /, **headers: str) -> Page:
    return Page(REQUEST, status, {name.replace("_", "-"): value for name, value in headers.items()}, b"{}")


@pytest.mark.case("R001-9")
def test_without_a_quota_requests_to_one_origin_keep_a_polite_distance() -> None:
    clock = HandClock()
    limiter = Limiter(clock=clock)
    assert limiter.acquire(REQUEST) == 0.0
    assert limiter.acquire(REQUEST) == POLITE_GAP
    assert limiter.acquire(Request("https://y.test/a")) == 0.0
    clock.passed = 10.0
    assert limiter.acquire(REQUEST) == 0.0


@pytest.mark.case("R003-8")
@given(st.integers(1, 20), st.integers(1, 60), st.lists(st.floats(0, 30), min_size=1, max_size=80))
def test_no_stretch_of_time_holds_more_than_the_quota(count: int, window: int, pauses: list[float]) -> None:
    clock = HandClock()
    limiter = Limiter([Limit(quota=f"{count}/{window}s")], clock)
    sent = []
    for pause in pauses:
        clock.passed += pause
        wait = limiter.acquire(REQUEST)
        assert wait >= 0.0
        sent.append(clock.passed + wait)
    sent.sort()
    assert all(later - earlier >= window - 1e-6 for earlier, later in zip(sent, sent[count:], strict=False))


@pytest.mark.case("R000-4")
def test_several_windows_hold_together() -> None:
    clock = HandClock()
    limiter = Limiter([Limit(quota="2/s"), Limit(quota="3/min")], clock)
    assert [limiter.acquire(REQUEST) for _ in range(4)] == [0.0, 0.0, 1.0, 60.0]


def test_a_huge_quota_is_spread_and_not_remembered_whole() -> None:
    limiter = Limiter([Limit(quota="1000000/d")], HandClock())
    assert {limiter.acquire(REQUEST) for _ in range(1000)} == {0.0}


def test_threads_share_one_quota() -> None:
    limiter = Limiter([Limit(quota="10/s")], HandClock())
    waits: list[float] = []
    threads = [
        threading.Thread(target=lambda: waits.extend(limiter.acquire(REQUEST) for _ in range(25))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [float(n // 10) for n in range(100)]


@pytest.mark.case("R003-4")
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(int(NOW) + 30)}, 30.0),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": str(int(NOW) * 1000 + 30_500)}, 30.5),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "30"}, 30.0),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "29.5"}, 29.5),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "2023-11-14T22:13:50Z"}, 30.0),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"x_rate_limit_remaining": "0", "x_rate_limit_reset": "30"}, 30.0),
        ({"x_ratelimit_remaining": "1", "x_ratelimit_reset": "30"}, 0.0),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "later"}, 0.0),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "-3"}, 0.0),
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "999999999999999999"}, LONGEST_WAIT),
        ({"ratelimit_remaining": "0", "ratelimit_reset": "30"}, 30.0),
        ({"ratelimit": "limit=100, remaining=0, reset=30"}, 30.0),
        ({"ratelimit": '"default";r=0;t=30'}, 30.0),
        ({"ratelimit": '"burst";r=5;t=1, "daily";r=0;t=30'}, 30.0),
        ({"ratelimit": '"default";r=0', "ratelimit_policy": '"default";q=100;w=30'}, 30.0),
        ({"ratelimit": '"default";r=7;t=30'}, 0.0),
        (
            {
                "x_ratelimit_remaining": "0",
                "x_ratelimit_reset": str(int(NOW) + 30),
                "date": "Tue, 14 Nov 2023 22:13:40 GMT",
            },
            10.0,
        ),
        ({}, 0.0),
    ],
)
def test_nothing_is_sent_before_the_reset_that_the_server_names(headers: dict[str, str], wait: float) -> None:
    limiter = Limiter([Limit(quota="1000/s")], HandClock())
    limiter.observe(answer(200, **headers))
    assert limiter.acquire(REQUEST) == wait
    assert limiter.acquire(Request("https://y.test/")) == 0.0


@pytest.mark.case("C19")
def test_retry_after_holds_back_all_requests_to_the_origin() -> None:
    clock = HandClock()
    limiter = Limiter([Limit(quota="1000/s")], clock)
    limiter.observe(answer(429, retry_after="12"))
    limiter.observe(answer(429, retry_after="5"))
    assert limiter.acquire(REQUEST) == 12.0
    clock.passed = 12.0
    assert limiter.acquire(REQUEST) == 0.0


def test_only_the_declared_family_counts() -> None:
    both = answer(x_ratelimit_remaining="0", x_ratelimit_reset="30", ratelimit="r=0;t=60")
    waits = {}
    for family in ("auto", "x-ratelimit", "ratelimit", "none"):
        limiter = Limiter([msgspec.convert({"quota": "1000/s", "headers": family}, Limit)], HandClock())
        limiter.observe(both)
        waits[family] = limiter.acquire(REQUEST)
    assert waits == {"auto": 60.0, "x-ratelimit": 30.0, "ratelimit": 60.0, "none": 0.0}


@pytest.mark.parametrize("quota", ["5000/hour", "0/s", "5000", "5/0s", "-1/s", "1.5/s", "5000/h "])
def test_a_quota_that_is_not_one_is_refused(quota: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"quota": quota}, Limit)
