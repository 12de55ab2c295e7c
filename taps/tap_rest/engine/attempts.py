"""What was sent, and what came of it: one `Attempt` for each request, the stream `requests` of them, and their sums.

    Tries.send → Attempt → the engine → RECORD lines of `requests`, Summary

`Tries` stands around the transport while one answer is asked for, in whatever thread; `about` says to log lines and
captures what is being asked for.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from types import MappingProxyType
from typing import Any

import msgspec

from tap_rest.engine.messages import timestamp
from tap_rest.engine.signals import Waiter
from tap_rest.engine.transport import Sender
from tap_rest.errors import NoAnswer
from tap_rest.language.binding import BoundStream
from tap_rest.language.vocabulary import Stream, Timeouts
from tap_rest.limits.quota_headers import Headers, readings
from tap_rest.page import Page
from tap_rest.redaction import Redactor
from tap_rest.request import Private, Request

_SERVER_IDS = ("request-id", "requestid", "trace-id", "cf-ray")

about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=MappingProxyType({}))
"""What this thread is asking for: `stream_name`, `partition`, `page`, and the id of the `request`, as far as known.

No secret is in it.
"""

log = logging.getLogger(__name__)


class Attempt(msgspec.Struct, kw_only=True):
    """One request that was sent, and how that ended.

    Attributes:
        id: Unique; log lines about it have it as `request`.
        at: When it was sent, seconds since the epoch.
        stream: For which; None for the check, and for a token, which serves all.
        partition: Of the stream.
        page: Which of its unit, from 1; a guess where pages are asked for side by side.
        request: Without credentials.
        waited: Seconds before it, for limits and between tries.
        outcome: The verdict's word, `no_answer`, or `token` for a request that fetches one.
        status: None where no whole answer came.
        headers: Of the answer.
        bytes: Of the answer's body, inflated.
        ms: Until the body was whole.
        records: In the answer.
        reason: Why it was not simply ok.
        retried: It was sent again.
    """

    id: str
    at: float
    stream: str | None
    partition: str | None
    page: int | None
    request: Request
    waited: float
    outcome: str
    status: int | None = None
    headers: Headers = {}
    bytes: int | None = None
    ms: float | None = None
    records: int | None = None
    reason: str | None = None
    retried: bool = False

    @property
    def unit(self) -> str:
        """The name of the unit that it was sent for; empty for none."""
        return f"{self.stream} ({self.partition})" if self.partition else self.stream or ""


SCHEMA = {
    "id": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
    "stream": {"type": ["string", "null"]},
    "partition": {"type": ["string", "null"]},
    "page": {"type": ["integer", "null"]},
    "method": {"type": "string"},
    "url": {"type": "string"},
    "status": {"type": ["integer", "null"]},
    "bytes": {"type": ["integer", "null"]},
    "ms": {"type": ["number", "null"]},
    "records": {"type": ["integer", "null"]},
    "outcome": {"type": "string"},
    "reason": {"type": ["string", "null"]},
    "retried": {"type": "boolean"},
    "waited": {"type": "number"},
    "quota_left": {"type": ["number", "null"]},
    "server_id": {"type": ["string", "null"]},
}
"""Of a record: `quota_left` is the least that the server's headers name, `server_id` what it calls the request."""


def record(attempt: Attempt, redactor: Redactor) -> bytes:
    """An attempt as it is written."""
    quotas = readings(attempt.headers, "auto", now=attempt.at)
    headers = attempt.headers.items()
    server_ids = (value for kind in _SERVER_IDS for name, value in headers if name.endswith(kind))
    own: dict[str, Any] = {
        "time": timestamp(attempt.at),
        "partition": attempt.partition and redactor.text(attempt.partition),
        "method": attempt.request.method,
        "url": redactor.text(attempt.request.full_url),
        "quota_left": min((quota.left for quota in quotas), default=None),
        "server_id": redactor.text(next(server_ids, ""))[:200] or None,
    }
    return msgspec.json.encode({name: own[name] if name in own else getattr(attempt, name) for name in SCHEMA})


REQUESTS = BoundStream(
    name="requests",
    declared=msgspec.convert(
        {
            "path": "/",
            "records": {"type": "root"},
            "primary_keys": ["id"],
            "mode": "event",
            "schema": {"properties": SCHEMA},
        },
        Stream,
    ),
    base_url="",
    values={},
    wanted=(),
    fingerprint="",
)
"""The stream of attempts. It is filed by the day of writing: days without a run are no gaps in it."""


class Tries:
    """The requests that are sent on the way to one answer; each is told once it is known what came of it.

    Args:
        log: Of the run.
        stream: For which; None for the check.
        partition: Of the stream.
        page: Of its unit.

    Attributes:
        waited: Seconds, since the last request was sent.
    """

    def __init__(self, log: RequestLog, stream: str | None = None, partition: str = "", page: int = 0) -> None:
        self.waited = 0.0
        self._log, self._stream, self._partition, self._page = log, stream, partition or None, page or None
        self._last: Attempt | None = None
        self._tell_about()

    def send(self, request: Request, signed: Request, timeouts: Timeouts) -> Page:
        """As the transport does."""
        if self._last is not None:  # nobody has judged it: it was sent for auth, which now sends something else
            self.end(retried=self._last.outcome != "token")
        is_token = isinstance(request, Private)
        stream = None if is_token else self._stream
        self._last = attempt = Attempt(
            id=next(self._log.ids),
            at=self._log.clock.now(),
            stream=stream,
            partition=stream and self._partition,
            page=self._page if stream else None,
            request=request,
            waited=round(self.waited, 3),
            outcome="token" if is_token else "no_answer",
        )
        self._tell_about(attempt.id)
        self.waited, began = 0.0, self._log.clock.monotonic()
        try:
            page = self._log.transport.send(request, signed, timeouts)
        except NoAnswer as error:
            attempt.reason = self._log.redactor.text(error.problem)
            raise
        finally:
            attempt.ms = round((self._log.clock.monotonic() - began) * 1000, 1)
        attempt.status, attempt.headers = page.status, page.headers
        attempt.bytes = len(page.body) if page.spool is None else page.spool.size
        attempt.outcome = "token" if is_token else "reauth"
        return page

    def judged(self, outcome: str, records: int | None = None) -> None:
        """Says what the answer means."""
        if self._last is not None:
            self._last.outcome, self._last.records = outcome, records

    def end(self, reason: str = "", *, retried: bool = False) -> Mapping[str, Any]:
        """Tells what came of the last request; what is known about it, for log lines."""
        if (attempt := self._last) is None:
            return about.get()
        self._last, attempt.retried = None, retried
        if reason:
            attempt.reason = self._log.redactor.text(reason)
        if log.isEnabledFor(logging.DEBUG):
            shown = self._log.redactor.text(f"{attempt.request.method} {attempt.request.full_url}")
            log.debug("%s: %s in %s ms: %s", shown, attempt.status, attempt.ms, attempt.outcome)
        self._log.tell(attempt)
        return {**about.get(), "status": attempt.status}

    def _tell_about(self, id_: str | None = None) -> None:
        partition = self._partition and self._log.redactor.text(self._partition)
        known = {"stream_name": self._stream, "partition": partition, "page": self._page, "request": id_}
        about.set({name: value for name, value in known.items() if value is not None})


@dataclass
class RequestLog:
    """What all tries of a run share.

    Attributes:
        transport: Sends.
        clock: Measures.
        redactor: Masks secrets.
        tell: Is told every attempt as soon as it is known what came of it, in whatever thread.
        ids: For attempts.
    """

    transport: Sender
    clock: Waiter
    redactor: Redactor
    tell: Callable[[Attempt], None]
    ids: Iterator[str] = field(default_factory=lambda: map(f"{secrets.token_hex(4)}-{{}}".format, count(1)))


class Times:
    """How long answers took, in ms, within 5 % and in bounded memory: counted by their first two digits."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._counts: Counter[float] = Counter()

    def add(self, ms: float) -> None:
        self.longest = max(self.longest, ms)
        self._counts[float(f"{ms:.1e}")] += 1

    def at(self, share: float) -> float:
        """The time within which this share of the answers came."""
        rank = math.ceil(share * self._counts.total())
        for ms, times in sorted(self._counts.items()):
            rank -= times
            if rank <= 0:
                return min(ms, self.longest)
        return 0.0


@dataclass
class Tally:
    """What was sent for a stream, or by a run.

    Attributes:
        requests: Tries included.
        retries: Requests that were sent again.
        limited: Answers that asked to slow down, 429 or what the declaration calls so.
        bytes: Of the answers, inflated.
        waited: Seconds, for limits and between tries; of requests side by side, each one's.
        times: Of the answers.
    """

    requests: int = 0
    retries: int = 0
    limited: int = 0
    bytes: int = 0
    waited: float = 0.0
    times: Times = field(default_factory=Times)

    def add(self, attempt: Attempt) -> None:
        self.requests += 1
        self.retries += attempt.retried
        self.limited += attempt.status == 429 or attempt.outcome == "wait"
        self.bytes += attempt.bytes or 0
        self.waited += attempt.waited
        if attempt.ms is not None and attempt.status is not None:
            self.times.add(attempt.ms)

    def facts(self) -> dict[str, float]:
        """The sums, for programs."""
        times = {"p50_ms": self.times.at(0.5), "p95_ms": self.times.at(0.95), "max_ms": self.times.longest}
        sums = {name: value for name, value in vars(self).items() if isinstance(value, int | float)}
        return {name: round(value, 1) for name, value in {**sums, **times}.items()}

    def __str__(self) -> str:
        fast, slow = self.times.at(0.5), self.times.at(0.95)
        return (
            f"{self.requests:,} requests, {self.retries:,} retries, {self.limited:,} rate-limited, "
            f"{self.bytes / 1e6:,.1f} MB, answers in {fast:,.0f} ms (p95 {slow:,.0f}, max {self.times.longest:,.0f}), "
            f"{self.waited:.1f} s waited"
        )


@dataclass
class Summary(Tally):
    """What a run did.

    Attributes:
        streams: To be read.
        complete: How many of them were read whole.
        failed: The names of those that were not.
        pages: Whose records were written.
        records: Written.
        of: What was sent for each stream.
    """

    streams: int = 0
    complete: int = 0
    pages: int = 0
    records: int = 0
    failed: list[str] = field(default_factory=list)
    of: dict[str, Tally] = field(default_factory=dict)

    def add(self, attempt: Attempt) -> None:
        super().add(attempt)
        if attempt.stream is not None:
            self.of.setdefault(attempt.stream, Tally()).add(attempt)

    def tell(self) -> None:
        """A line for the run, and before it one for each stream where there are several."""
        for name, tally in self.of.items() if len(self.of) > 1 else ():
            log.info("%s: %s", name, tally, extra={"stream_name": name, "summary": tally.facts()})
        log.info("%s", self, extra={"summary": self.facts()})

    def __str__(self) -> str:
        return f"{self.complete} of {self.streams} streams complete, {self.records:,} records, {super().__str__()}"
