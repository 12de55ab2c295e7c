"""Limits: whether the next request may go, from declared quotas and from what the server's answers say.

The limiter never sleeps: it answers how long to wait, and the engine waits in a way that can be interrupted. Whatever a
server says, an answer only ever holds requests back; it never gives back what a declared quota has already counted.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from tap_rest.component import Component
from tap_rest.language.verdicts import Verdict, is_web_page
from tap_rest.limits.breaker import Breaker
from tap_rest.limits.quota_headers import Family, backoff, readings, retry_after
from tap_rest.page import Page
from tap_rest.request import Request

Weight = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Origin = tuple[str, str, int]

POLITE_GAP = 0.25
"""Seconds between requests to one origin for which no quota is declared."""
CUT = 0.75
"""The pace after a server said "too much" without saying when to come back."""
RECOVERY = 0.02
"""Share of the full pace that is regained with each second that goes well."""
FLOOR = 1 / 16
"""The slowest pace, as a share of the full one; never slower than one request a minute, if the quota allows that."""

_QUOTA = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,3})?(s|min|h|d)", re.ASCII)
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_LOG = 100_000
_TINY = 1e-6
_BLOCKING = (403, 418, 451)


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


class Match(Component, frozen=True, kw_only=True):
    """Which requests a limit counts, and how much.

    Attributes:
        path: Path below base_url: `*` stands for anything but a slash, `**` for anything; `/search/**` includes
            `/search`.
        method: GET or POST; without it both.
        weight: How much of the quota such a request takes.
    """

    path: str = "/**"
    method: Literal["GET", "POST"] | None = None
    weight: Weight = 1

    def fits(self, method: str, path: str) -> bool:
        return self.method in (None, method) and _pattern(self.path).fullmatch(path) is not None


class Limit(Component, frozen=True, kw_only=True):
    """One limit of an API. Several hold side by side.

    Attributes:
        name: For messages and reports.
        match: The requests that count; of several, the first that fits gives the weight. Without it the limit holds
            for all requests that no other limit's `match` fits; `{path: /**}` is all.
        quota: How many requests may fall into a stretch of time, or several such: `5000/h`, `[100/15min, 1000/d]`.
        window: `sliding` for any stretch of that length, `fixed` for stretches that begin on the clock, in UTC.
        headers: The family of headers that tells what is left: `x-ratelimit` (with epoch, delta or ISO reset),
            `ratelimit` (IETF), `zendesk`, `strava`, `meta`, `none`, or `auto` for whatever is there.
        reserve: Percentage of what the headers name as the quota that is left for others.
    """

    name: str = "default"
    match: Match | list[Match] | None = None
    quota: str | list[str] | None = None
    window: Literal["sliding", "fixed"] = "sliding"
    headers: Family = "auto"
    reserve: Annotated[int, msgspec.Meta(ge=0, le=90)] = 0

    def __post_init__(self) -> None:
        smallest = min((_parsed(quota)[0] for quota in self.quotas), default=math.inf)
        if any(match.weight > smallest for match in self.matches):
            raise ValueError("a weight is larger than the quota: such a request could never be sent")

    @property
    def matches(self) -> list[Match]:
        return [self.match] if isinstance(self.match, Match) else self.match or []

    @property
    def quotas(self) -> list[str]:
        return [self.quota] if isinstance(self.quota, str) else self.quota or []

    def weight(self, method: str, path: str) -> int | None:
        """What a request takes of the quota; None when it is not this limit's."""
        return next((match.weight for match in self.matches if match.fits(method, path)), None)


class Hold(NamedTuple):
    """A request may not go yet: seconds after which to ask again, and who says so."""

    seconds: float
    reason: str


class Limiter:
    """All limits of one declaration; safe to use from several threads.

    Args:
        limits: The declaration's.
        clock: Time passes on it.
        base_url: Paths of matchers are below it.
    """

    def __init__(self, limits: Sequence[Limit] = (), clock: Clock | None = None, base_url: str = "") -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._base = urlsplit(base_url).path.rstrip("/")
        self._matched = [_Budget(limit) for limit in limits if limit.match is not None]
        self._others = [_Budget(limit) for limit in limits if limit.match is None] or [_Budget(Limit())]

    def acquire(self, request: Request) -> Hold | None:
        """None when the request may be sent now, which books it; otherwise how long to wait before asking again."""
        counted = self._counted(request)
        polite = not any(budget.windows for budget, _ in counted)
        with self._lock:
            now = self._clock.monotonic()
            ahead = self._clock.now() - now
            until, reason = max(budget.free(request.origin, weight, now, ahead, polite) for budget, weight in counted)
            if until - now > _TINY:
                return Hold(until - now, reason)
            for budget, weight in counted:
                budget.book(request.origin, weight, now)
            return None

    def observe(self, page: Page, verdict: Verdict) -> None:
        """Learns from an answer, for the limits that count its request and at its origin.

        Where nothing is left they get no request until the reset; `Retry-After` and `Backoff` hold them back as well.
        A 429 or 503 that says nothing of the kind slows them down, what goes well lets them recover. A reset is mostly
        a rounded number of seconds: where the books of a declared quota agree with it but for that, they decide.
        """
        wall = self._clock.now()
        waits = [
            verdict.wait_seconds if verdict.kind == "wait" else None,
            retry_after(page.headers, now=wall) if page.status >= 400 else None,
            backoff(page.headers, now=wall),
        ]
        with self._lock:
            for budget, weight in self._counted(page.request):
                budget.learn(page, verdict, [wait for wait in waits if wait is not None], weight, self._clock)

    def failed(self, request: Request) -> None:
        """Notes that no whole answer came."""
        with self._lock:
            for budget, _ in self._counted(request):
                budget.at(request.origin).breaker.failed(self._clock.monotonic())

    def _counted(self, request: Request) -> list[tuple[_Budget, int]]:
        """The budgets that a request counts against, with its weight; there is always one."""
        path = urlsplit(request.url).path
        if path.startswith(f"{self._base}/"):
            path = path.removeprefix(self._base)
        weighed = [(budget, budget.limit.weight(request.method, path)) for budget in self._matched]
        return [(budget, weight) for budget, weight in weighed if weight is not None] or [
            (budget, 1) for budget in self._others
        ]


class _Learned:
    """What is known of one limit at one origin."""

    def __init__(self, ceiling: float) -> None:
        self.blocked = -math.inf
        self.latest = -math.inf
        self.pace = _Pace(ceiling)
        self.breaker = Breaker()


class _Budget:
    """One limit with its books."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.windows = [_Window(quota, fixed=limit.window == "fixed") for quota in limit.quotas]
        self._ceiling = min((window.rate for window in self.windows), default=1 / POLITE_GAP)
        self._learned: dict[Origin, _Learned] = {}
        self._reason = "the rate limit" if limit.name == "default" else f"the rate limit {limit.name}"

    def at(self, origin: Origin) -> _Learned:
        if origin not in self._learned:
            self._learned[origin] = _Learned(self._ceiling)
        return self._learned[origin]

    def free(self, origin: Origin, weight: int, now: float, ahead: float, polite: bool) -> tuple[float, str]:
        """When a request may pass, at the earliest, and who says so. `ahead` is the wall clock less the monotonic."""
        known = self.at(origin)
        gap = max(known.pace.gap, POLITE_GAP if polite else 0.0)
        quotas = [window.free(weight, now, ahead) for window in self.windows]
        return max(
            (max(known.blocked, known.latest + gap, *quotas), self._reason),
            (known.breaker.opens(now), known.breaker.reason),
        )

    def book(self, origin: Origin, weight: int, now: float) -> None:
        known = self.at(origin)
        known.latest = now
        known.breaker.sent(now)
        for window in self.windows:
            window.book(now, weight)

    def learn(self, page: Page, verdict: Verdict, waits: Sequence[float], weight: int, clock: Clock) -> None:
        known, now, limit = self.at(page.request.origin), clock.monotonic(), self.limit
        for window in self.windows:
            window.answered(now)
        spent = [
            found.reset
            for found in readings(page.headers, limit.headers, now=clock.now())
            if found.left < weight or found.left <= (found.limit or 0.0) * limit.reserve / 100
        ]
        ahead = clock.now() - now
        books = [window.free(weight, known.latest, ahead) - known.latest for window in self.windows]
        spent = [reset for reset in spent if not any(reset - own < 1.0 for own in books)]
        waits = [*waits, *spent]
        if waits:
            known.blocked = max(known.blocked, now + max(waits))
        too_much = verdict.kind == "wait" or page.status in (429, 503)
        if too_much and not waits:
            known.pace.cut(now)
        elif not too_much:
            known.pace.recover(now)
        if _is_block(page, verdict):
            known.breaker.blocked(now)
        elif page.status >= 500 and not waits:
            known.breaker.failed(now)
        else:
            known.breaker.answered()


class _Pace:
    """Requests a second where the server says nothing: down by a share when it is too much, slowly up again."""

    def __init__(self, ceiling: float) -> None:
        self._ceiling = self._rate = ceiling
        self._floor = min(ceiling, max(ceiling * FLOOR, 1 / 60))
        self._changed = -math.inf
        self._refused = False

    @property
    def gap(self) -> float:
        return 0.0 if self._rate >= self._ceiling else 1 / self._rate

    def cut(self, now: float) -> None:
        """Once for several refusals in a row: asking again at growing distances is the engine's business."""
        if not self._refused:
            self._rate = max(self._rate * CUT, self._floor)
        self._refused, self._changed = True, now

    def recover(self, now: float) -> None:
        self._refused = False
        passed = min(now - self._changed, 1.0, self.gap)
        self._rate, self._changed = min(self._rate + self._ceiling * RECOVERY * passed, self._ceiling), now


class _Window:
    """At most `count` in any `seconds`, exactly: what was sent is remembered until it counts no more.

    A request counts from the moment it was answered, at the latest the moment at which the server counted it: so the
    time it spends on the way makes no excess.
    """

    def __init__(self, quota: str, *, fixed: bool) -> None:
        self._count, self._seconds = _parsed(quota)
        self.rate = self._count / self._seconds
        parts = math.ceil(self._count / _LONGEST_LOG)  # a huge quota is spread: not every request is remembered
        self._count, self._seconds = self._count // parts, self._seconds / parts
        self._fixed = fixed
        self._guard = min(1.0, self._seconds * 0.02)  # the server's clock is not quite ours
        self._log: deque[tuple[float, int]] = deque()
        self._used = 0

    def free(self, weight: int, now: float, ahead: float) -> float:
        while self._log and self._ends(self._log[0][0], ahead) <= now + _TINY:
            self._used -= self._log.popleft()[1]
        until, excess = -math.inf, self._used + weight - self._count
        for at, booked in self._log:
            if excess <= 0:
                break
            until, excess = self._ends(at, ahead), excess - booked
        return until

    def book(self, now: float, weight: int) -> None:
        self._log.append((now, weight))
        self._used += weight

    def answered(self, now: float) -> None:
        if self._log:
            self._log[-1] = (now, self._log[-1][1])

    def _ends(self, at: float, ahead: float) -> float:
        """When a request sent at `at` counts no more."""
        if not self._fixed:
            return at + self._seconds
        return (math.floor((at + ahead) / self._seconds) + 1) * self._seconds - ahead + self._guard


def _is_block(page: Page, verdict: Verdict) -> bool:
    """Whether an answer that no rule expects comes from something that keeps us out, rather than from the API."""
    if verdict.declared or page.status >= 500:
        return False
    return is_web_page(page) or (page.status in _BLOCKING and page.body.lstrip()[:1] not in (b"{", b"["))


def _parsed(quota: str) -> tuple[int, float]:
    """The count and the seconds of a quota. Raises ValueError for a text that is none."""
    if not (found := _QUOTA.fullmatch(quota)):
        raise ValueError(f"the quota {quota} is not written as it must be, for example 5000/h or 100/15min")
    return int(found[1]), int(found[2] or 1) * _UNITS[found[3]]


@lru_cache(maxsize=256)
def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(/\*\*|\*\*|\*)", path)
    words = {"/**": "(?:/.*)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(words.get(part) or re.escape(part) for part in parts), re.DOTALL)
