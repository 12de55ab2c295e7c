"""Limits: whether the next request may go, from declared quotas and from what the server's answers say.

The limiter never sleeps: it answers how long to wait, and the engine waits in a way that can be interrupted. Whatever a
server says, an answer only ever holds requests back; it never gives back what a declared quota has already counted.
What it knows is in books (books.py), its own or those of all runs of a machine. Times are of the wall clock: what a
suspended machine slept through has passed for the server too.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from tap_rest.component import Component
from tap_rest.language.replication import duration
from tap_rest.language.verdicts import Verdict, is_web_page
from tap_rest.limits.books import Books, Lease, OwnBooks
from tap_rest.limits.quota_headers import Family, backoff, readings, retry_after
from tap_rest.page import Page
from tap_rest.request import Request

POLITE_GAP = 0.25
"""Seconds between requests to one origin for which no quota is declared."""
LEASE = 900.0
"""Seconds after which a request without an answer holds no other back: whoever sent it is no more."""
LOOK_AGAIN = 0.05
"""Seconds until somebody may have answered who does not say when."""

_QUOTA = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,3})?(s|min|h|d)", re.ASCII)
_GRAINS = 128
_TINY = 1e-6
_BLOCKING = (403, 418, 451)


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
    weight: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1

    def fits(self, method: str, path: str) -> bool:
        return self.method in (None, method) and _pattern(self.path).fullmatch(path) is not None


class Limit(Component, frozen=True, kw_only=True, dict=True):
    """One limit of an API. Several hold side by side, each for all runs of a machine with the same credential.

    Attributes:
        name: For messages and reports; the runs of a machine know the limit by it.
        match: The requests that count; of several, the first that fits gives the weight. Without it the limit holds
            for all requests that no other limit's `match` fits; `{path: /**}` is all.
        quota: How many requests may fall into a stretch of time, or several such: `5000/h`, `[100/15min, 1000/d]`.
        window: `sliding` for any stretch of that length, `fixed` for stretches that begin on the clock, in UTC.
        concurrency: How many of its requests may be without an answer at one time.
        headers: The family of headers that tells what is left: `x-ratelimit` (with epoch, delta or ISO reset),
            `ratelimit` (IETF), `zendesk`, `strava`, `meta`, `none`, or `auto` for whatever is there.
        reserve: Percentage of what the headers name as the quota that is left for others.
    """

    name: str = "default"
    match: Match | list[Match] | None = None
    quota: str | list[str] | None = None
    window: Literal["sliding", "fixed"] = "sliding"
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=32)] = 1
    headers: Family = "auto"
    reserve: Annotated[int, msgspec.Meta(ge=0, le=90)] = 0

    def __post_init__(self) -> None:
        if any(match.weight > window.quota for window in self.windows for match in self.matches):
            raise ValueError("a weight is larger than the quota: such a request could never be sent")

    @cached_property
    def matches(self) -> list[Match]:
        return [self.match] if isinstance(self.match, Match) else self.match or []

    @cached_property
    def windows(self) -> list[_Window]:
        quotas = [self.quota] if isinstance(self.quota, str) else self.quota or []
        return [_window(quota, fixed=self.window == "fixed") for quota in quotas]

    @cached_property
    def ceiling(self) -> float:
        """The full pace, in requests a second."""
        return min((window.quota / window.seconds for window in self.windows), default=1 / POLITE_GAP)

    def weight(self, method: str, path: str) -> int | None:
        """What a request takes of the quota; None when it is not this limit's."""
        return next((match.weight for match in self.matches if match.fits(method, path)), None)

    def free(self, books: Books, weight: int, now: float, *, polite: bool) -> tuple[float, str]:
        """When a request may pass, at the earliest, and who says so."""
        for lease in [lease for lease in books.flying if now - lease.sent > LEASE]:
            self.land(books, lease, now)
        reason = "the rate limit" if self.name == "default" else f"the rate limit {self.name}"
        gap = max(books.pace.gap(self.ceiling), POLITE_GAP if polite else 0.0)
        flying = sum(lease.weight for lease in books.flying)
        quotas = [window.free(books, flying + weight, now) for window in self.windows]
        busy = len(books.flying) >= self.concurrency
        probing = any(lease.probe for lease in books.flying)
        return max(
            (max(books.blocked, books.latest + gap, *quotas), reason),
            (now + LOOK_AGAIN if busy else 0.0, f"{reason}, {self.concurrency} at a time,"),
            (now + LOOK_AGAIN if probing else books.breaker.until, books.breaker.reason),
        )

    def land(self, books: Books, lease: Lease, now: float) -> None:
        """Takes a request out of those in flight, whatever became of it: it counts as sent now."""
        books.flying.remove(lease)
        books.written = now
        for window in self.windows:
            window.note(books, lease.weight, now)

    def learn(self, books: Books, lease: Lease, page: Page, verdict: Verdict, now: float) -> None:
        """Learns from the answer to a request that has landed."""
        asked = (
            verdict.wait_seconds if verdict.kind == "wait" else None,
            retry_after(page.headers, now=now) if page.status >= 400 else None,
            backoff(page.headers, now=now),
        )
        spent = [
            found.reset
            for found in readings(page.headers, self.headers, now=now)
            if found.left < lease.weight or found.left <= (found.limit or 0.0) * self.reserve / 100
        ]
        known = [window.free(books, lease.weight, lease.sent) - lease.sent for window in self.windows if spent]
        waits = [wait for wait in asked if wait is not None]
        waits += [reset for reset in spent if not any(reset - own < 1.0 for own in known)]
        if waits:
            books.blocked = max(books.blocked, now + max(waits))
        if verdict.kind != "wait" and page.status not in (429, 503):
            books.pace.recover(now, self.ceiling)
        elif not waits:
            books.pace.cut(now, self.ceiling)
        if books.breaker.until and not lease.probe:
            return
        if _is_block(page, verdict):
            books.breaker.blocked(now)
        elif page.status >= 500 and not waits:
            books.breaker.failed(now)
        else:
            books.breaker.answered()


class Hold(NamedTuple):
    """A request may not go yet: seconds after which to ask again, and who says so."""

    seconds: float
    reason: str


class Limiter:
    """All limits of one declaration; safe to use from several threads.

    Args:
        limits: The declaration's.
        now: Wall clock, seconds since the epoch.
        base_url: Paths of matchers are below it.
        books: Where the books are kept; those in a file make all processes that name it keep the limits together.
        identity: What tells the credential from others, for whom the same limits count apart.
    """

    def __init__(
        self,
        limits: Sequence[Limit] = (),
        now: Callable[[], float] = time.time,
        base_url: str = "",
        *,
        books: OwnBooks | None = None,
        identity: Sequence[str] = (),
    ) -> None:
        self._now, self._books = now, books or OwnBooks()
        self._base = urlsplit(base_url).path.rstrip("/")
        account = hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:8]
        names = Counter[str]()
        self._limits: list[tuple[Limit, str]] = []
        for limit in limits if any(limit.match is None for limit in limits) else [*limits, Limit()]:
            names[limit.name] += 1
            self._limits.append((limit, f"{limit.name} {names[limit.name]} {account}"))
        self._flying: dict[int, Request] = {}

    @property
    def side_by_side(self) -> int:
        """How many requests to send side by side, each from a thread of its own: one, if no limit allows more."""
        return max(limit.concurrency for limit, _ in self._limits)

    def acquire(self, request: Request) -> Hold | None:
        """None when the request may be sent now, which books it; otherwise how long to wait before asking again.

        Whoever got None sends the request in this thread and then calls, in the same one, `observe` or `failed`, or
        `release` where neither is to be said. A thread has one request in flight: what it owes is made good here.
        """
        self.release()
        with self._opened(request) as (now, found):
            polite = not any(limit.windows for limit, *_ in found)
            until, reason = max(limit.free(books, weight, now, polite=polite) for limit, weight, books in found)
            if until - now > _TINY:
                return Hold(until - now, reason)
            for _, weight, books in found:
                books.flying.append(Lease(self._lease, now, weight, probe=bool(books.breaker.until)))
                books.latest = books.written = now
            self._flying[threading.get_ident()] = request
            return None

    def observe(self, page: Page, verdict: Verdict) -> None:
        """Learns from an answer, for the limits that count its request and at its origin.

        Where nothing is left they get no request until the reset; `Retry-After` and `Backoff` hold them back as well.
        A 429 or 503 that says nothing of the kind slows them down, what goes well lets them recover. A reset is mostly
        a rounded number of seconds: where the books of a declared quota agree with it but for that, they decide.
        """
        with self._landed(page.request) as (now, found):
            for limit, lease, books in found:
                limit.learn(books, lease, page, verdict, now)

    def failed(self, request: Request, *, cut: bool = False) -> None:
        """Notes that no whole answer came; `cut` where the server hung up, which many times in a row is a block."""
        with self._landed(request) as (now, found):
            for _, lease, books in found:
                if lease.probe or not books.breaker.until:
                    books.breaker.failed(now, cut=cut)

    def release(self) -> None:
        """Gives back what this thread has in flight, if anything, and learns nothing."""
        if (request := self._flying.get(threading.get_ident())) is not None:
            with self._landed(request):
                pass

    @property
    def _lease(self) -> str:
        """The id of what this thread has in flight."""
        return f"{self._books.holder}:{threading.get_ident()}"

    @contextmanager
    def _landed(self, request: Request) -> Iterator[tuple[float, list[tuple[Limit, Lease, Books]]]]:
        """As `_opened`, after what this thread has in flight has landed there."""
        with self._opened(self._flying.pop(threading.get_ident(), request)) as (now, found):
            landed = []
            for limit, weight, books in found:
                lease = next((lease for lease in books.flying if lease.id == self._lease), None)
                if lease is not None:
                    limit.land(books, lease, now)
                landed.append((limit, lease or Lease(self._lease, now, weight, probe=False), books))
            yield now, landed

    @contextmanager
    def _opened(self, request: Request) -> Iterator[tuple[float, list[tuple[Limit, int, Books]]]]:
        """The time, and the limits that count a request, at least one, with its weight and their books."""
        path = urlsplit(request.url).path
        if path.startswith(f"{self._base}/"):
            path = path.removeprefix(self._base)
        weighed = [(limit, limit.weight(request.method, path), key) for limit, key in self._limits]
        counted = [(limit, weight, key) for limit, weight, key in weighed if weight is not None] or [
            (limit, 1, key) for limit, key in self._limits if limit.match is None
        ]
        at = "{}://{}:{} ".format(*request.origin)
        with self._books.opened([at + key for *_, key in counted]) as opened:
            now = self._now()
            for books in opened:
                books.opened(now)
            yield now, [(limit, weight, books) for (limit, weight, _), books in zip(counted, opened, strict=True)]


class _Window(NamedTuple):
    """At most `quota` in any `seconds`, or in those that begin on the clock.

    A request counts from the moment it was answered, at the latest the moment at which the server counted it: so the
    time it spends on the way makes no excess. Those of a short while are noted as one, that went with the last of them.
    """

    quota: int
    seconds: float
    fixed: bool

    def free(self, books: Books, weight: int, now: float) -> float:
        """When so much may be in flight."""
        log = books.sent.setdefault(self.seconds, [])
        while log and self._ends(log[0][0]) <= now + _TINY:
            log.pop(0)
        until, excess = 0.0, sum(weight for _, weight in log) + weight - self.quota
        for at, noted in log:
            if excess <= 0:
                break
            until, excess = self._ends(at), excess - noted
        return until if excess <= 0 else self._ends(now)

    def note(self, books: Books, weight: int, now: float) -> None:
        log, grain = books.sent.setdefault(self.seconds, []), self.seconds / _GRAINS
        if log and log[-1][0] // grain == now // grain:
            weight += log.pop()[1]
        log.append((now, weight))

    def _ends(self, at: float) -> float:
        """When a request sent at `at` counts no more."""
        if not self.fixed:
            return at + self.seconds
        guard = min(1.0, self.seconds * 0.02)  # the server's clock is not quite ours
        return (at // self.seconds + 1) * self.seconds + guard


def _is_block(page: Page, verdict: Verdict) -> bool:
    """Whether an answer that no rule expects comes from something that keeps us out, rather than from the API."""
    if verdict.declared or page.status >= 500:
        return False
    return is_web_page(page) or (page.status in _BLOCKING and page.body.lstrip()[:1] not in (b"{", b"["))


def _window(quota: str, *, fixed: bool) -> _Window:
    """What a quota says. Raises ValueError for a text that is none."""
    if not (found := _QUOTA.fullmatch(quota)):
        raise ValueError(f"the quota {quota} is not written as it must be, for example 5000/h or 100/15min")
    return _Window(int(found[1]), duration(f"{found[2] or 1}{found[3]}").total_seconds(), fixed)


@lru_cache(maxsize=256)
def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"(/\*\*|\*\*|\*)", path)
    words = {"/**": "(?:/.*)?", "**": ".*", "*": "[^/]*"}
    return re.compile("".join(words.get(part) or re.escape(part) for part in parts), re.DOTALL)
