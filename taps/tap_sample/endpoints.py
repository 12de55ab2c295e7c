"""What the sample API answers: a path and its parameters become a Page of a table, a Page becomes a Reply. No I/O."""

from __future__ import annotations

import base64
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import ceil
from typing import Literal, Self

import msgspec

from tap_sample.tables import table

PAGE_SIZE = 500
PAGE_SIZE_CAP = 1000

Params = Mapping[str, str]
Wire = Literal["whole", "cut", "short_gzip", "chunked_cut", "slow"]


@dataclass(frozen=True)
class Reply:
    """One answer before it is encoded; `wire` says how it is sent and `cut_at` (0 to 1) where a cut falls."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    wire: Wire = "whole"
    cut_at: float = 0.0


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.reply = Reply(status, error_body(code, message), headers or {})


@dataclass(frozen=True)
class Page:
    """Rows `start` to `start + size` of a walk through the rows `first` to `end` of a table's `records`.

    `write(rows, links)` makes the reply out of the records of one page and the way on of another (the same, in truth).
    """

    records: Sequence[bytes]
    first: int
    start: int
    size: int
    end: int
    write: Callable[[Page, Page], Reply]
    by_offset: bool = False

    @property
    def lines(self) -> Sequence[bytes]:
        return self.records[min(self.start, self.end) : min(self.start + self.size, self.end)]

    @property
    def after(self) -> int | None:
        """Where the next page starts, None on the last one."""
        return self.start + self.size if self.start + self.size < self.end else None

    def moved(self, rows: int) -> Self:
        return replace(self, start=self.start + rows)

    def reply(self) -> Reply:
        return self.write(self, self)


def answer(path: str, params: Params, *, origin: str, cap: int = PAGE_SIZE_CAP) -> Page:
    """The page that a request asks for; its links start with `origin`. Raises Refused."""
    if path not in _ENDPOINTS:
        raise Refused(404, "not_found", f"there is no {path}; there is {', '.join(_ENDPOINTS)}")
    known, endpoint = _ENDPOINTS[path]
    if unknown := params.keys() - set(known):
        names = ", ".join(known) or "no parameter"
        raise Refused(400, "bad_parameter", f"{path} does not know {', '.join(sorted(unknown))}; it takes {names}")
    return endpoint(params, cap, f"{origin}{path}")


def error_body(code: str, message: str) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "message": message}})


def _weather(params: Params, cap: int, _url: str) -> Page:
    weather, size = table("weather"), _whole(params, "limit", 1, cap, min(PAGE_SIZE, cap))
    walk = _Walk.of(params)
    first = bisect_left(weather.times, _time("since", walk.since)) if walk.since else 0
    end = bisect_left(weather.times, _time("until", walk.until)) if walk.until else len(weather.times)
    start = first if walk.position is None else walk.position
    if walk.position is not None and not first < start < end:
        raise Refused(400, "bad_cursor", _FOREIGN_CURSOR)

    def write(rows: Page, links: Page) -> Reply:
        cursor = "null" if links.after is None else f'"{replace(walk, position=links.after).cursor}"'
        return Reply(200, b'{"data":[%b],"next_cursor":%b}' % (b",".join(rows.lines), cursor.encode()))

    return Page(weather.lines, first, start, size, end, write)


def _planes(params: Params, cap: int, _url: str) -> Page:
    planes, size = table("planes").lines, _whole(params, "limit", 1, cap, min(PAGE_SIZE, cap))

    def write(rows: Page, _links: Page) -> Reply:
        return Reply(200, b'{"total":%d,"items":[%b]}' % (len(planes), b",".join(rows.lines)))

    return Page(planes, 0, _whole(params, "offset", 0, 10**9, 0), size, len(planes), write, by_offset=True)


def _airports(params: Params, cap: int, url: str) -> Page:
    airports, size = table("airports").lines, _whole(params, "per_page", 1, cap, min(PAGE_SIZE, cap))

    def write(rows: Page, links: Page) -> Reply:
        here, last = links.start // size + 1, ceil(len(airports) / size)
        pages = {"first": 1, "prev": here - 1, "next": here + 1, "last": last}
        link = (f'<{url}?per_page={size}&page={n}>; rel="{rel}"' for rel, n in pages.items() if 1 <= n <= last)
        return Reply(200, b"[%b]" % b",".join(rows.lines), {"Link": ", ".join(link)})

    return Page(airports, 0, (_whole(params, "page", 1, 10**6, 1) - 1) * size, size, len(airports), write)


def _airlines(_params: Params, _cap: int, _url: str) -> Page:
    airlines = table("airlines").lines

    def write(rows: Page, _links: Page) -> Reply:
        return Reply(200, b'{"airlines":[%b]}' % b",".join(rows.lines))

    return Page(airlines, 0, 0, len(airlines), len(airlines), write)


def _me(_params: Params, _cap: int, _url: str) -> Page:
    return Page((), 0, 0, 0, 0, lambda _rows, _links: Reply(200, b'{"account":"sample"}'))


_ENDPOINTS: Mapping[str, tuple[Sequence[str], Callable[[Params, int, str], Page]]] = {
    "/v1/weather": (("limit", "cursor", "since", "until"), _weather),
    "/v1/planes": (("limit", "offset"), _planes),
    "/v1/airports": (("per_page", "page"), _airports),
    "/v1/airlines": ((), _airlines),
    "/v1/me": ((), _me),
}


_CURSOR = msgspec.json.Decoder(tuple[str, str, int])
_FOREIGN_CURSOR = "cursor is not one that this API gave"


@dataclass(frozen=True)
class _Walk:
    """A way through the weather; its cursor holds all of it, so that it goes on alike with and without since/until."""

    since: str
    until: str
    position: int | None = None

    @classmethod
    def of(cls, params: Params) -> Self:
        since, until = params.get("since", ""), params.get("until", "")
        if "cursor" not in params:
            return cls(since, until)
        try:
            walk = cls(*_CURSOR.decode(base64.b64decode(params["cursor"], altchars=b"-_", validate=True)))
        except (ValueError, msgspec.DecodeError):
            raise Refused(400, "bad_cursor", _FOREIGN_CURSOR) from None
        for name, asked, kept in (("since", since, walk.since), ("until", until, walk.until)):
            if asked not in ("", kept):
                raise Refused(400, "bad_cursor", f"cursor belongs to {name}={kept or '(none)'}, not to {asked}")
        return walk

    @property
    def cursor(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode((self.since, self.until, self.position))).decode()


def _whole(params: Params, name: str, low: int, high: int, default: int) -> int:
    text = params.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,10}", text) or not low <= int(text) <= high:
        raise Refused(400, "bad_parameter", f"{name} must be a whole number from {low} to {high}, not {text[:40]!r}")
    return int(text)


def _time(name: str, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        hint = f"{name} must be an ISO 8601 date or time such as 2013-02-08T00:00:00Z, not {text[:40]!r}"
        raise Refused(400, "bad_parameter", hint) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
