"""Faults of real APIs, put between a right answer and the wire at a share of the requests.

A fault hits only a request that would have been answered with 200. Which one, and how, is drawn from the seed and the
number of that request: the same requests in the same order meet the same faults. The same request is hit at most three
times in a row, so whoever asks again gets through. Each kind can be noticed by a client:

    server_error   500, 502 or 503                              the status
    rate_limit     429, here and for 1 to 3 more requests       the status; Retry-After is 0 or 1
    cut            the connection closes in the middle          fewer bytes than Content-Length
    chunked_cut    the same in a chunked body                   no last chunk
    short_gzip     gzip cut, with a Content-Length to match     the gzip stream has no end (clients that accept gzip)
    slow           the right body in drips                      it takes `slow_seconds`: wait, or give up and ask again
    error_in_200   an error object                              no records at their path
    empty_body     no bytes                                     not JSON
    html_200       a login page                                 not JSON, and Content-Type says so
    duplicate      the rows of the page before, with the way    the rows repeat; with that page's way on, the next
                   on of that page or of this one               request is the one just made
    shifted        rows start 1 to 5 too early or too late,     fewer different keys than the declared total
                   on pages by offset

The page before is the one before in the same walk at the same page size; where there is none, or no pages by offset, a
kind that fits is drawn. A client that resumes in the middle of a walk knows the page before only if it kept something
of it: its digest, or how far the sorted rows had come.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal, Self, get_args

from tap_sample.endpoints import Page, Reply, error_body

Kind = Literal[
    "server_error",
    "rate_limit",
    "cut",
    "chunked_cut",
    "short_gzip",
    "slow",
    "error_in_200",
    "empty_body",
    "html_200",
    "duplicate",
    "shifted",
]
KINDS: Sequence[Kind] = get_args(Kind)

_LOGIN = b"<!doctype html><title>Sign in</title><form method=post><input name=user><input name=password></form>"
_MOST_IN_A_ROW = 3


@dataclass
class Faults:
    """Decides for each request whether it is spoilt, and how. Thread-safe.

    Attributes:
        rate: Share of requests that are hit, 0 to 1.
        seed: Same seed, same faults.
        kinds: Which faults to draw from.
        slow_seconds: How long a `slow` body takes.
    """

    rate: float
    seed: int = 0
    kinds: Collection[str] = KINDS
    slow_seconds: float = 2.0
    _requests: int = field(default=0, init=False)
    _burst: int = field(default=0, init=False)
    _hits_in_a_row: dict[str, int] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @classmethod
    def parse(cls, spec: str, kinds: str = "", slow_seconds: float = 2.0) -> Self:
        """Read `RATE[:SEED]` and a comma-separated list of kinds, empty for all. Raises ValueError that says why."""
        parts = re.fullmatch(r"(0|1|0?\.[0-9]{1,9}|1\.0)(?::([0-9]{1,18}))?", spec)
        if not parts:
            raise ValueError(f"faults are RATE[:SEED] with a rate from 0 to 1, such as 0.1:7, not {spec!r}")
        chosen = kinds.split(",") if kinds else KINDS
        if unknown := set(chosen) - set(KINDS):
            raise ValueError(f"no such kind of fault: {', '.join(sorted(unknown))}; there is {', '.join(KINDS)}")
        return cls(float(parts[1]), int(parts[2] or 0), chosen, slow_seconds)

    def spoil(self, request: str, page: Page, *, gzip: bool) -> tuple[Reply, Kind] | None:
        """What to send instead of the page, and the fault in it; None for no fault. `request` tells requests apart."""
        with self._lock:
            self._requests += 1
            draw = Random(f"{self.seed}:{self._requests}")  # noqa: S311 - repeatable on purpose
            hits = self._hits_in_a_row.pop(request, 0)
            kind = self._draw(draw, page, gzip=gzip) if hits < _MOST_IN_A_ROW else None
            if kind is None:
                return None
            self._hits_in_a_row[request] = hits + 1
        return _spoilt(kind, draw, page), kind

    def _draw(self, draw: Random, page: Page, *, gzip: bool) -> Kind | None:
        if self._burst:
            self._burst -= 1
            return "rate_limit"
        kinds = [kind for kind in KINDS if kind in self.kinds and _fits(kind, page, gzip=gzip)]
        if not kinds or draw.random() >= self.rate:
            return None
        kind = draw.choice(kinds)
        if kind == "rate_limit":
            self._burst = draw.randint(1, 3)
        return kind


def _fits(kind: Kind, page: Page, *, gzip: bool) -> bool:
    match kind:
        case "short_gzip":
            return gzip
        case "duplicate":
            return page.first <= page.start - page.size and page.start < page.end
        case "shifted":
            return page.by_offset and page.start < page.end
    return True


def _spoilt(kind: Kind, draw: Random, page: Page) -> Reply:
    match kind:
        case "server_error":
            return Reply(draw.choice((500, 502, 503)), error_body("server_error", "something broke, try again"))
        case "rate_limit":
            wait = {"Retry-After": str(draw.randint(0, 1))}
            return Reply(429, error_body("rate_limited", "too many requests at once"), wait)
        case "cut" | "chunked_cut" | "short_gzip" | "slow":
            return replace(page.reply(), wire=kind, cut_at=draw.random())
        case "error_in_200":
            return Reply(200, error_body("backend_unavailable", "something broke, try again"))
        case "empty_body":
            return Reply(200, b"")
        case "html_200":
            return Reply(200, _LOGIN, content_type="text/html; charset=utf-8")
        case "duplicate":
            before = page.moved(-page.size)
            return page.write(before, draw.choice((before, page)))
        case "shifted":
            rows = draw.randint(1, 5)
            early = min(rows, page.start) if draw.random() < 0.5 else 0
            return page.write(page.moved(-early or rows), page)
