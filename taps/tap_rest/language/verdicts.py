"""What an answer means for the request: typed predicates of the declaration first, sane defaults after them.

`judge` is a pure function of the page, the rules and the time. The engine acts on the verdict; waiting, counting
tries and signing again are its business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from tap_rest.component import Component
from tap_rest.limits.quota_headers import bounded, readings, retry_after, seconds_until
from tap_rest.page import Page

Action = Literal["ok", "empty", "retry", "wait", "reauth", "skip_record", "skip_partition", "fail_stream", "abort"]
Status = int | str
_UNITS = {"s": 1.0, "ms": 0.001, "min": 60.0}


class Verdict(msgspec.Struct, frozen=True):
    """What to do with a page.

    Attributes:
        kind: `ok` read the records · `unchanged` (304) the stored answer still holds · `empty` a complete page without
            records · `retry` ask again with backoff · `wait` ask again after a rate limit · `reauth` new credentials,
            once · `skip_record`, `skip_partition` leave this one out, counted · `fail_stream` · `abort` the whole run.
        reason: For people, without secrets.
        wait_seconds: How long the server wants us to wait, capped at LONGEST_WAIT; None when it did not say.
        declared: Whether a rule of the declaration expected the answer.
    """

    kind: Action | Literal["unchanged"]
    reason: str
    wait_seconds: float | None = None
    declared: bool = False


class BodyTest(Component, frozen=True, kw_only=True):
    """A test of one value in the JSON body. Without any option but `path`, all but null, false, "", [] and {} will do.

    Attributes:
        path: Dotted path to the value.
        equals: The value it must have, or one of several.
        exists: Whether it must be there, null included, or must not.
        contains: Text that must occur in it, as it stands in a text or number.
    """

    path: str
    equals: str | int | bool | list[str | int] | None = None
    exists: bool | None = None
    contains: str | None = None

    def __post_init__(self) -> None:
        if self.exists is False and (self.equals, self.contains) != (None, None):
            raise ValueError("what does not exist has no value: `exists: false` stands alone")
        if self.contains == "":
            raise ValueError("`contains` needs a text")

    def is_early(self, page: Page) -> bool:
        """Whether what must not exist can only be looked for once a success in another format is read as JSON."""
        return self.exists is False and page.status < 300 and bool(page.body.strip()) and not page.is_json

    def holds(self, page: Page) -> bool:
        if self.exists is not None and (page.slice_at(self.path) is not None) != self.exists:
            return False
        found = page.at(self.path)
        if self.contains is not None and (isinstance(found, dict | list | None) or self.contains not in str(found)):
            return False
        if self.equals is None:
            tested = (self.exists, self.contains) != (None, None)
            return tested or bool(found) or (found == 0 and found is not False)
        wanted = self.equals if isinstance(self.equals, list) else [self.equals]
        return any(found == value and isinstance(found, bool) == isinstance(value, bool) for value in wanted)


class When(Component, frozen=True, kw_only=True):
    """Tests that must all hold.

    Attributes:
        status: One status or several, classes and ranges: `404`, `[429, 5xx]`, `400-417`.
        header: Header names with the exact value each must have; "*" for any. Without case in the names.
        body: A test of a value in the body.
        content_type: Beginning of the content type, `text/html`.
        contains: Text that occurs in the body.
    """

    status: Status | list[Status] | None = None
    header: dict[str, str] = {}
    body: BodyTest | None = None
    content_type: str | None = None
    contains: str | None = None

    def __post_init__(self) -> None:
        for status in self.statuses:
            if not _range(status):
                raise ValueError(f"{status} is not a status: write 404, a class like 5xx, or a range like 400-417")
        if not any((self.statuses, self.header, self.body, self.content_type, self.contains)):
            raise ValueError("a rule needs a test: status, header, body, content_type or contains")

    @property
    def statuses(self) -> list[Status]:
        return self.status if isinstance(self.status, list) else [] if self.status is None else [self.status]

    def holds(self, page: Page) -> bool:
        if self.statuses and not any(page.status in _range(status) for status in self.statuses):
            return False
        for name, value in self.header.items():
            found = page.headers.get(name.lower())
            if found is None or value not in ("*", found):
                return False
        if self.content_type is not None and not page.content_type.startswith(self.content_type.lower()):
            return False
        if self.contains is not None and not page.contains(self.contains.encode()):
            return False
        return self.body is None or self.body.holds(page)


class Until(Component, frozen=True, kw_only=True):
    """Where an answer says how long to wait: seconds, an epoch in s or ms, an ISO 8601 time or an HTTP date.

    Attributes:
        header: Name of the header that says so.
        body: Or the dotted path of the value in the JSON body.
        unit: What a small number counts: `s`, `ms` or `min`.
        at_least: Seconds to wait at any rate, also where nothing is said.
    """

    header: str | None = None
    body: str | None = None
    unit: Literal["s", "ms", "min"] = "s"
    at_least: Annotated[float, msgspec.Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        if self.header is not None and self.body is not None:
            raise ValueError("`until` reads a header or the body, not both")
        if (self.header, self.body, self.at_least) == (None, None, None):
            raise ValueError("`until` needs header, body or at_least")

    def seconds(self, page: Page, *, now: float) -> float | None:
        """Seconds to wait, bounded; None when nothing is said."""
        found = page.headers.get(self.header.lower()) if self.header else page.at(self.body) if self.body else None
        text = "" if isinstance(found, bool | dict | list | None) else str(found)
        said = seconds_until(text, now=now, unit=_UNITS[self.unit])
        return said if self.at_least is None else bounded(max(said or 0.0, self.at_least))


class Rule(Component, frozen=True, kw_only=True):
    """One line of `errors:`; the first whose tests hold decides.

    Attributes:
        when: The tests.
        then: What the answer means: `ok`, read it; `empty`, a whole page without records; `retry`, `wait`, ask again,
            after growing pauses or when it says; `reauth`, once with new credentials; `skip_record` and
            `skip_partition`, leave out this answer (after the first page that is the partition, too, since nothing
            leads on from it) or the whole partition, counted and no failure; `fail_stream`; `abort`, end the run.
        until: With `retry` and `wait`: where the answer says how long; without it `Retry-After` does.
        reason: Why, for reports.
    """

    when: When
    then: Action
    until: Until | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.until is not None and self.then not in ("retry", "wait"):
            raise ValueError("`until` goes with `then: retry` or `then: wait`")


def judge(page: Page, rules: Sequence[Rule] = (), *, now: float, empty_ok: bool = False) -> Verdict:
    """The verdict on a page: the first rule that holds, else what the status means everywhere.

    Its records need not be sliced; `now` is the wall clock; `empty_ok`: whether a success may have an empty body.
    """
    wait = retry_after(page.headers, now=now)
    for rule in rules:
        if rule.when.body is not None and (page.spool is not None or rule.when.body.is_early(page)):
            break  # it is judged again once it is read
        if rule.when.holds(page):
            said = None if rule.until is None else rule.until.seconds(page, now=now)
            reason = rule.reason or f"status {page.status}, by the declaration"
            return Verdict(rule.then, reason, wait if said is None else said, declared=True)
    return _default(page, wait, now, empty_ok=empty_ok)


def is_web_page(page: Page) -> bool:
    """Whether the answer is a page for people, as logins, proxies and walls in front of an API give them."""
    start = page.body[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return page.content_type.startswith("text/html") or start.startswith((b"<!doctype html", b"<html"))


def _default(page: Page, wait: float | None, now: float, *, empty_ok: bool) -> Verdict:
    status = page.status
    said = f"status {status}"
    if status in (200, 201, 202, 203, 206):
        return _readable(page, wait, empty_ok=empty_ok)
    if status == 304:
        return Verdict("unchanged", "not modified since the stored answer")
    spent = [found.reset for found in readings(page.headers, "auto", now=now) if found.left <= 0]
    if status == 429 or (status == 403 and (spent or wait is not None)):
        return Verdict("wait", f"rate limited ({status})", max(spent, default=None) if wait is None else wait)
    if status in (408, 425) or status >= 500:
        return Verdict("retry", said, wait)
    if status == 401:
        return Verdict("reauth", "the credentials were refused (401)")
    return Verdict("fail_stream", said)


def _readable(page: Page, wait: float | None, *, empty_ok: bool) -> Verdict:
    """A success needs a body that can be what was declared: an error page or nothing at all is not an empty answer."""
    if not empty_ok and not page.body[:64].lstrip(b"\xef\xbb\xbf \t\r\n"):
        return Verdict("retry", f"status {page.status} with an empty body", wait)
    if is_web_page(page):
        return Verdict("retry", f"status {page.status} with a web page where data was expected", wait)
    part = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", page.headers.get("content-range", ""), re.ASCII)
    if part and (int(part[1]), int(part[2]) + 1) != (0, int(part[3])):
        return Verdict("retry", f"status {page.status} with a part of the data, {part[0]}", wait)
    return Verdict("ok", f"status {page.status}")


def _range(status: Status) -> range:
    """The statuses that one test names; empty when it names none."""
    spelt_out = re.sub(r"^(\d)xx$", r"\g<1>00-\g<1>99", str(status))
    match = re.fullmatch(r"([1-5]\d\d)(?:-([1-5]\d\d))?", spelt_out, re.ASCII)
    return range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
