"""Limits: how long to wait before the next request, from declared quotas and from what the server's headers say.

The limiter never sleeps: it answers seconds, and the engine waits in a way that can be interrupted.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, Protocol

import msgspec

from tap_rest.component import Component
from tap_rest.page import Page
from tap_rest.request import Request
from tap_rest.verdicts import LONGEST_WAIT, http_date, retry_after

Quota = Annotated[str, msgspec.Meta(pattern=r"^[1-9]\d{0,8}/([1-9]\d{0,3})?(s|min|h|d)$", examples=["5000/h"])]
Origin = tuple[str, str, int]

POLITE_GAP = 0.25
"""Seconds between requests to one origin for which no quota is declared."""

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_LOG = 100_000


class Clock(Protocol):
    def now(self) -> float:
        """Wall clock, seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        ...


class SystemClock:
    """The real clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class Limit(Component, frozen=True, kw_only=True):
    """One limit of an API; every request counts against each.

    Attributes:
        name: For messages and reports.
        quota: How many requests may fall into any stretch of time: `5000/h`, `2000/10s`, `180/15min`.
        headers: The family of headers that tells what is left: `x-ratelimit` (with epoch, delta or ISO reset),
            `ratelimit` (IETF), `none`, or `auto` for whatever is there.
    """

    name: str = "default"
    quota: Quota | None = None
    headers: Literal["auto", "x-ratelimit", "ratelimit", "none"] = "auto"


class Limiter:
    """All limits of one declaration; safe to use from several threads."""

    def __init__(self, limits: Sequence[Limit] = (), clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._buckets = [_Bucket(limit.quota) for limit in limits if limit.quota]
        self._gap = 0.0 if self._buckets else POLITE_GAP
        self._families = frozenset(limit.headers for limit in limits) or frozenset({"auto"})
        self._latest: dict[Origin, float] = {}
        self._blocked: dict[Origin, float] = {}

    def acquire(self, request: Request) -> float:
        """Books the request and returns the seconds to wait before it may be sent; 0.0 means now.

        A booking is a promise to send at that time: it counts against the quotas even while the caller waits.
        """
        origin = request.origin
        with self._lock:
            now = self._clock.monotonic()
            at = max(now, self._blocked.get(origin, now), *(bucket.next_free() for bucket in self._buckets))
            at = max(at, self._latest.get(origin, at - self._gap) + self._gap)
            for bucket in self._buckets:
                bucket.book(at)
            self._latest[origin] = at
            return at - now

    def observe(self, page: Page) -> None:
        """Learns from an answer: when nothing is left, its origin gets nothing until the reset or `Retry-After`."""
        wait = self._wait(page.headers, page.status)
        if wait is not None:
            with self._lock:
                origin = page.request.origin
                until = self._clock.monotonic() + wait
                self._blocked[origin] = max(until, self._blocked.get(origin, until))

    def _wait(self, headers: Mapping[str, str], status: int) -> float | None:
        now = self._clock.now()
        waits = [reset for left, reset in _families(headers, self._families, now) if left <= 0]
        if status in (429, 503) and (asked := retry_after(headers, now=now)) is not None:
            waits.append(asked)
        return max(waits, default=None)


class _Bucket:
    """At most `count` requests in any `window` seconds, exactly: the log of the last `count` bookings is kept."""

    def __init__(self, quota: str) -> None:
        count, _, window = quota.partition("/")
        number, unit = re.findall(r"^(\d*)(\D+)$", window)[0]
        self._window = int(number or 1) * _UNITS[unit]
        self._count = int(count)
        if self._count > _LONGEST_LOG:  # spread evenly over the window instead of remembering every request
            self._window *= _LONGEST_LOG / self._count
            self._count = _LONGEST_LOG
        self._booked: deque[float] = deque(maxlen=self._count)

    def next_free(self) -> float:
        return self._booked[0] + self._window if len(self._booked) == self._count else float("-inf")

    def book(self, at: float) -> None:
        self._booked.append(at)


def _families(headers: Mapping[str, str], wanted: frozenset[str], now: float) -> Iterator[tuple[float, float]]:
    """(requests left, seconds until the reset) for each family of headers that is there and readable."""
    if wanted & {"auto", "x-ratelimit"}:
        for prefix in ("x-ratelimit-", "x-rate-limit-"):
            left = _number(headers.get(f"{prefix}remaining"))
            reset = _seconds_until(headers.get(f"{prefix}reset", ""), headers, now)
            if left is not None and reset is not None:
                yield left, reset
    if wanted & {"auto", "ratelimit"}:
        left = _number(headers.get("ratelimit-remaining"))
        reset = _seconds_until(headers.get("ratelimit-reset", ""), headers, now)
        if left is not None and reset is not None:
            yield left, reset
        text = headers.get("ratelimit", "")
        for item in [text] if "remaining" in text else text.split(","):  # the older draft is one item with commas
            params = dict(re.findall(r"\b(limit|remaining|reset|r|t)\s*=\s*(\d{1,15})", item))
            left, reset = (
                _number(params.get("r", params.get("remaining"))),
                _number(params.get("t", params.get("reset"))),
            )
            if left is not None:
                yield left, _bounded(reset if reset is not None else _policy_window(headers))


def _policy_window(headers: Mapping[str, str]) -> float:
    """The longest window of `RateLimit-Policy`, for servers that do not say when it ends."""
    windows = re.findall(r";\s*w\s*=\s*(\d{1,9})", headers.get("ratelimit-policy", ""))
    return max(map(float, windows), default=1.0)


def _seconds_until(text: str, headers: Mapping[str, str], now: float) -> float | None:
    """A reset given as seconds, as an epoch in s or ms, or as a date, by the server's own clock where it tells it."""
    now = http_date(headers.get("date", "")) or now
    number = _number(text)
    if number is not None:
        if number > 1e11:
            number /= 1000.0
        return _bounded(number - now if number > 1e9 else number)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        at = http_date(text)
        return None if at is None else _bounded(at - now)
    return _bounded((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\s*-?\d{1,18}(\.\d*)?\s*", text, re.ASCII) else None
