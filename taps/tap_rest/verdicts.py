"""What an answer means for the request: typed predicates of the declaration first, sane defaults after them.

`judge` is a pure function of the page, the rules and the time. The engine acts on the verdict; waiting, counting
tries and signing again are its business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Literal

import msgspec

from tap_rest.component import Component
from tap_rest.page import Page

Action = Literal["ok", "empty", "retry", "wait", "reauth", "skip_record", "skip_partition", "fail_stream", "abort"]
LONGEST_WAIT = 30 * 86400.0
"""Seconds; a longer wait asked for is cut to this: it is beyond any `max_wait`, so the run is postponed."""


class Verdict(msgspec.Struct, frozen=True):
    """What to do with a page.

    Attributes:
        kind: `ok` read the records · `unchanged` (304) the stored answer still holds · `empty` a complete page without
            records · `retry` ask again with backoff · `wait` ask again after a rate limit · `reauth` new credentials,
            once · `skip_record`, `skip_partition` leave this one out, counted · `fail_stream` · `abort` the whole run.
        reason: For people, without secrets.
        wait_seconds: How long the server wants us to wait, capped at LONGEST_WAIT; None when it did not say.
    """

    kind: Action | Literal["unchanged"]
    reason: str
    wait_seconds: float | None = None


class BodyTest(Component, frozen=True, kw_only=True):
    """A test of one value in the JSON body.

    Attributes:
        path: Dotted path to the value.
        equals: The value it must have, or one of several; without it any value but null, false, "", [] and {} will do.
    """

    path: str
    equals: str | int | bool | list[str | int] | None = None

    def holds(self, page: Page) -> bool:
        found = page.at(self.path)
        if self.equals is None:
            return bool(found) or (found == 0 and found is not False)
        wanted = self.equals if isinstance(self.equals, list) else [self.equals]
        return any(found == value and isinstance(found, bool) == isinstance(value, bool) for value in wanted)


class When(Component, frozen=True, kw_only=True):
    """Tests that must all hold.

    Attributes:
        status: One status or several: `404`, `[429, 5xx]`.
        header: Header names with the exact value each must have; "*" for any.
        body: A test of a value in the body.
        content_type: Beginning of the content type, `text/html`.
        contains: Text that occurs in the body.
    """

    status: int | str | list[int | str] | None = None
    header: dict[str, str] = {}
    body: BodyTest | None = None
    content_type: str | None = None
    contains: str | None = None

    def __post_init__(self) -> None:
        for status in self.status if isinstance(self.status, list) else [self.status]:
            if status is not None and status not in range(100, 600) and not re.fullmatch("[1-5]xx", str(status)):
                raise ValueError(f"{status} is not a status: write a number like 404, or a class like 5xx")
        if not any((self.status, self.header, self.body, self.content_type, self.contains)):
            raise ValueError("a rule needs a test: status, header, body, content_type or contains")

    def holds(self, page: Page) -> bool:
        wanted = self.status if isinstance(self.status, list) else [self.status]
        if self.status is not None and page.status not in wanted and f"{page.status // 100}xx" not in wanted:
            return False
        for name, value in self.header.items():
            found = page.headers.get(name.lower())
            if found is None or value not in ("*", found):
                return False
        if self.content_type is not None and not page.content_type.startswith(self.content_type.lower()):
            return False
        if self.contains is not None and self.contains.encode() not in page.body:
            return False
        return self.body is None or self.body.holds(page)


class Rule(Component, frozen=True, kw_only=True):
    """One line of `errors:`; the first whose tests hold decides.

    Attributes:
        when: The tests.
        then: What the answer means.
        reason: Why, for reports.
    """

    when: When
    then: Action
    reason: str = ""


def judge(page: Page, rules: Sequence[Rule] = (), *, now: float) -> Verdict:
    """The verdict on a page: the first rule that holds, else what the status means everywhere.

    Args:
        page: The answer; its records need not have been sliced yet.
        rules: The declaration's, in order.
        now: Wall clock, seconds since the epoch, to turn dates in `Retry-After` into seconds.
    """
    wait = retry_after(page.headers, now=now)
    for rule in rules:
        if rule.when.holds(page):
            return Verdict(rule.then, rule.reason or f"status {page.status}, by the declaration", wait)
    return _default(page, wait)


def _default(page: Page, wait: float | None) -> Verdict:
    status = page.status
    said = f"status {status}"
    if status in (200, 201, 202, 203, 206):
        return _readable(page, wait)
    if status == 304:
        return Verdict("unchanged", "not modified since the stored answer")
    if status == 429:
        return Verdict("wait", "rate limited (429)", wait)
    if status in (408, 425) or status >= 500:
        return Verdict("retry", said, wait)
    if status == 401:
        return Verdict("reauth", "the credentials were refused (401)")
    return Verdict("fail_stream", said)


def _readable(page: Page, wait: float | None) -> Verdict:
    """A success needs a body that can be what was declared: an error page or nothing at all is not an empty answer."""
    start = page.body[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        return Verdict("retry", f"status {page.status} with an empty body", wait)
    if page.content_type.startswith("text/html") or start.startswith(b"<"):
        return Verdict("retry", f"status {page.status} with a web page where data was expected", wait)
    return Verdict("ok", f"status {page.status}")


_SECONDS = re.compile(r"\+?\d{1,18}(\.\d*)?$", re.ASCII)


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds that `Retry-After` asks to wait, from 0 to LONGEST_WAIT; None for a missing or unreadable one.

    Both forms are read, seconds (with decimals) and HTTP dates; a date counts from the server's own `Date`, so that a
    wrong clock on either side does no harm. A date in the past is 0: ask again now. A negative number is no statement.
    """
    text = headers.get("retry-after", "").strip()
    if _SECONDS.match(text):
        return min(float(text), LONGEST_WAIT)
    until = http_date(text)
    if until is None:
        return None
    return min(max(until - (http_date(headers.get("date", "")) or now), 0.0), LONGEST_WAIT)


def http_date(text: str) -> float | None:
    """Seconds since the epoch of an HTTP date in any of its three forms; None for anything else."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
