"""Paginators: how the next request follows from a page. Options are fields, behaviour is `first` and `next`, both pure.

The page token is the next request, so a checkpoint stores a Request and a loop is a Request seen before. A paginator
alone decides the end; what it cannot know without memory (pages fetched so far, unique keys) is the engine's to check.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin

import msgspec

from tap_rest.component import Component
from tap_rest.errors import UnexpectedPage
from tap_rest.formats.fields import KeyReader
from tap_rest.language.links import absolute, links, signs_of_more
from tap_rest.page import Page
from tap_rest.request import Request

Count = Annotated[int, msgspec.Meta(ge=1)]
_MOST_DIGITS = 20
_MOVING = "rows that move while pages are read can be missed: `overlap` notices it, `stable` says that they don't"


class End(msgspec.Struct, frozen=True):
    """There is no next request.

    Attributes:
        reason: Terminal evidence in a word: `no_next`, `flag`, `total_reached`, `empty_page`, `short_page`,
            `single_page` …
        complete: Whether everything asked for was received; a unit that ends incomplete confirms nothing.
        warning: Signs that there is more than the declaration asks for: complete as declared, but a person should look.
        token: What the API gave to go on from in the next run.
    """

    reason: str
    complete: bool = True
    warning: str | None = None
    token: str | None = None


class PaginatorKind(Component, frozen=True, kw_only=True):
    """Options that all paginators have.

    Attributes:
        page_size: Rows to ask for, where the API lets one choose.
        size_param: Parameter that takes the page size; without it nothing is asked for.
        max_pages: A unit ends here, not complete; counted by the engine.
        total: Path of the total of rows that the API declares; checked against the unique keys when the unit ends.
        has_more: Path of a flag that says whether there is more; a page without it is an error.
        at_end: Or path of a flag that says whether this was the last page; a page without it is an error.
        result_cap: Rows that the API gives at most for one question, however many there are. A window with as many is
            cut in two and read again; without a window to cut the unit ends incomplete.
    """

    page_size: Count | None = None
    size_param: str | None = None
    max_pages: Count | None = None
    total: str | None = None
    has_more: str | None = None
    at_end: str | None = None
    result_cap: Count | None = None

    def __post_init__(self) -> None:
        if self.page_size is not None and self.size_param is None and not hasattr(self, "short_page_ends"):
            raise ValueError("page_size is not sent without `size_param`")
        if self.has_more is not None and self.at_end is not None:
            raise ValueError("`has_more` and `at_end` are two ways to say one thing: declare one of them")

    def first(self, request: Request) -> Request:
        """The request of the first page."""
        if self.size_param is None or self.page_size is None:
            return request
        return request.with_params(**{self.size_param: self.page_size})

    def next(self, request: Request, page: Page) -> Request | End:
        """What follows a page whose records have been sliced.

        Raises:
            UnexpectedPage: The page contradicts itself or the declaration.
        """
        path = self.has_more or self.at_end
        if path is None:
            return self._following(request, page)
        flag = page.at(path)
        if flag not in (True, "true", False, "false"):
            raise UnexpectedPage(f"the page has no flag at {path}, so its end can't be told")
        if (flag in (True, "true")) != (self.has_more is not None):
            return End("flag")
        following = self._following(request, page)
        if isinstance(following, End):
            return msgspec.structs.replace(following, complete=False, warning=f"{path} says that there is more")
        return following

    def plan(self, request: Request, page: Page) -> Iterator[Request]:  # noqa: ARG002 - for those who can
        """The requests that will probably follow a page, so that they can be sent side by side; `next` decides."""
        return iter(())

    def overlapping(self) -> int:
        """Rows at the end of a page that the next one brings again, to notice rows that move meanwhile."""
        return 0

    def unproved(self) -> str:
        """Why a walk over several pages can miss rows without a sign of it; empty where it can't."""
        return ""

    def resumed(self, request: Request, token: str) -> Request:
        """The first request of a run that goes on from what the last one was given."""
        raise AssertionError(f"{token} for {request.url}: no such token is ever given")

    def declared_total(self, page: Page) -> int | None:
        """How many rows the API says there are; None when nothing is declared or the page does not say."""
        return _whole_number(page, self.total)

    def _following(self, request: Request, page: Page) -> Request | End:
        raise NotImplementedError


class SinglePagePaginator(PaginatorKind, tag="single_page", frozen=True, kw_only=True):
    """One page is all there is. Signs of more are reported: a forgotten paginator must not look like success."""

    def _following(self, request: Request, page: Page) -> Request | End:
        return End("single_page", warning=signs_of_more(request, page))


class CountingKind(PaginatorKind, frozen=True, kw_only=True):
    """Options of the paginators that count, rows or pages.

    Attributes:
        param: Parameter that takes the number.
        start: The first number.
        short_page_ends: Whether a page with fewer rows than page_size is the last.
        stable: Whether the rows don't move while they are read; then nothing can be missed, and pages whose number is
            known are fetched side by side.
    """

    param: str
    start: int
    short_page_ends: bool = False
    stable: bool = False

    def first(self, request: Request) -> Request:
        return super().first(request).with_params(**{self.param: self.start})

    def unproved(self) -> str:
        return "" if self.stable else _MOVING

    def _number(self, request: Request) -> int:
        return int(request.param(self.param) or self.start)

    def _end(self, page: Page, *, done: int, total: int | None, nothing_new: bool) -> End | None:
        """Whether the page is the last, after which so much is done of what the API declares."""
        if total is not None and done >= total:
            return End("total_reached")
        if nothing_new:
            return End("empty_page") if total is None else End("total_not_reached", complete=False)
        if self.short_page_ends and total is None and len(page.records) < (self.page_size or 0):
            return End("short_page")
        return None


class OffsetPaginator(CountingKind, tag="offset", frozen=True, kw_only=True):
    """Skips the rows already read, by what came rather than by what was asked for: a server may cap its pages.

    Attributes:
        page_size: Rows to ask for.
        param: Parameter that takes the offset.
        size_param: Parameter that takes the page size; null for none.
        start: Offset of the first row.
        overlap: Rows of each page that the next one brings again: that none of them is there shows that rows have moved
            and may have been missed, and the unit is read again.
        stable: Whether the rows don't move while they are read; then nothing can be missed, and pages whose total is
            known are fetched side by side.
    """

    page_size: Count
    param: str = "offset"
    size_param: str | None = "limit"
    start: int = 0
    overlap: Annotated[int, msgspec.Meta(ge=0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overlap >= self.page_size or (self.overlap and self.stable):
            raise ValueError("`overlap` is less than page_size, and needless where rows are `stable`")

    def _following(self, request: Request, page: Page) -> Request | End:
        offset, came = self._number(request), len(page.records)
        nothing_new = came == 0 or (came <= self.overlap and offset != self.start)
        done, total = offset - self.start + came, self.declared_total(page)
        end = self._end(page, done=done, total=total, nothing_new=nothing_new)
        return end or request.with_params(**{self.param: offset + came - self.overlap})

    def plan(self, request: Request, page: Page) -> Iterator[Request]:
        came, total = len(page.records), self.declared_total(page)
        if self.stable and came and total is not None:
            for offset in range(self._number(request) + came, self.start + total, came):
                yield request.with_params(**{self.param: offset})

    def overlapping(self) -> int:
        return self.overlap

    def unproved(self) -> str:
        return "" if self.overlap else super().unproved()


class PageNumberPaginator(CountingKind, tag="page_number", frozen=True, kw_only=True):
    """Counts pages.

    Attributes:
        param: Parameter that takes the page number.
        start: Number of the first page.
        total_pages: Path of the number of pages that the API declares.
    """

    param: str = "page"
    start: int = 1
    total_pages: str | None = None

    def _following(self, request: Request, page: Page) -> Request | End:
        number, pages = self._number(request), _whole_number(page, self.total_pages)
        end = self._end(page, done=number - self.start + 1, total=pages, nothing_new=not page.records)
        return end or request.with_params(**{self.param: number + 1})

    def plan(self, request: Request, page: Page) -> Iterator[Request]:
        pages, total = _whole_number(page, self.total_pages), self.declared_total(page)
        if pages is None and total is not None and page.records:
            pages = -(-total // len(page.records))
        for number in range(self._number(request) + 1, self.start + (pages or 0)) if self.stable else ():
            yield request.with_params(**{self.param: number})


class CursorPaginator(PaginatorKind, tag="cursor", frozen=True, kw_only=True):
    """Sends back the token that came with the page. No token is the end; an empty page with a token is not.

    Attributes:
        path: Where the token is in the body, or
        header: the response header that holds it.
        param: Where the token goes: a query parameter,
        into_header: a request header,
        into_body: a dotted path in the JSON body, or a name in the form, or
        next_path: the `{cursor}` in this URL path, which all pages but the first have.
    """

    path: str | None = None
    header: str | None = None
    param: str | None = None
    into_header: str | None = None
    into_body: str | None = None
    next_path: Annotated[str, msgspec.Meta(pattern="^/")] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.path is None) == (self.header is None):
            raise ValueError("a cursor needs one of `path` and `header`: where the token is in the answer")
        if not (self.param or self.into_header or self.into_body or self.next_path):
            raise ValueError("a cursor needs `param`, `into_header`, `into_body` or `next_path`: where the token goes")

    def _following(self, request: Request, page: Page) -> Request | End:
        token = page.text_at(self.path) if self.path is not None else page.headers.get((self.header or "").lower())
        if token in (None, "", "false"):
            return End("no_next")
        if self.next_path is not None:
            target = self.next_path.replace("{cursor}", quote(token, safe=""))
            request = msgspec.structs.replace(request, url=urljoin(request.url, target))
        if self.param is not None:
            request = request.with_params(**{self.param: token})
        if self.into_header is not None:
            request = request.with_headers({self.into_header: token})
        if self.into_body is not None:
            request = msgspec.structs.replace(request, body=_with_member(request.body, self.into_body, token))
        return request


class SyncTokenPaginator(CursorPaginator, tag="sync_token", frozen=True, kw_only=True):
    """Pages by a cursor, of which the last gives a token; the next run asks with it for what has changed since.

    Attributes:
        token_path: Where the last page has the token, `nextSyncToken`.
        token_param: Query parameter that takes it in the next run.
        without: Parameters that the API refuses beside it.
        expired: Statuses that say that the token is too old: everything is read again.
    """

    token_path: str
    token_param: str
    without: list[str] = []
    expired: tuple[int, ...] = (410,)

    def _following(self, request: Request, page: Page) -> Request | End:
        following = super()._following(request, page)
        if not isinstance(following, End):
            return following
        token = page.text_at(self.token_path)
        missing = f"the last page has no token at {self.token_path}: the next run reads everything again"
        return msgspec.structs.replace(following, token=token or None, warning=None if token else missing)

    def resumed(self, request: Request, token: str) -> Request:
        return request.with_params(**dict.fromkeys(self.without), **{self.token_param: token})


class KeysetPaginator(PaginatorKind, tag="keyset", frozen=True, kw_only=True):
    """Asks for the rows after the last one by the value of a field that the rows are sorted by.

    Rows that share the last value may go on past the page, even when it shows only one of them. Asking inclusively
    brings them again; asking exclusively goes back to the value before them, unless the field is unique. A full page of
    one single value leaves no way on and is an error.

    Attributes:
        field: The field.
        param: Parameter that takes the value to go on from.
        inclusive: Whether the API returns rows equal to that value.
        unique: Whether no two rows share a value, as with an id: then no row has to be read twice.
        page_size: Rows to ask for.
        size_param: Parameter that takes the page size; null for none.
        short_page_ends: Whether a page with fewer rows than asked for is the last.
    """

    field: str
    param: str
    inclusive: bool
    page_size: Count
    unique: bool = False
    size_param: str | None = "limit"
    short_page_ends: bool = False

    def _following(self, request: Request, page: Page) -> Request | End:
        if not page.records:
            return End("empty_page")
        full = len(page.records) >= self.page_size
        if self.short_page_ends and not full:
            return End("short_page")
        reader = KeyReader([self.field])
        values = [_token(value) for batch in page.batches() for (value,) in reader.read(batch)]
        last = values[-1]
        if last is None:
            raise UnexpectedPage(f"the last record has no {self.field} to go on from")
        if self.unique and len(set(values)) < len(values):
            raise UnexpectedPage(f"rows share values of {self.field}, which is declared unique")
        before = next((value for value in reversed(values) if value != last), None)
        stuck = before is None and (request.param(self.param) == last if self.inclusive else not self.unique)
        if stuck and full:
            raise UnexpectedPage(
                f"a whole page of {len(values)} rows has the same {self.field} {last!r}, so there is no way on",
                hint="raise page_size, or use a field that is unique and say so",
            )
        if stuck and self.inclusive:
            return End("no_progress")
        back = before is not None and not self.inclusive and not self.unique
        return request.with_params(**{self.param: before if back else last})


class LinkHeaderPaginator(PaginatorKind, tag="link_header", frozen=True, kw_only=True):
    """Follows the `Link` header (RFC 8288), as the server wrote it.

    Attributes:
        rel: The relation of the next page.
    """

    rel: str = "next"

    def _following(self, request: Request, page: Page) -> Request | End:
        target = links(page.headers.get("link", "")).get(self.rel.lower())
        return End("no_next") if target is None else _followed(request, page, target)


class NextUrlPaginator(PaginatorKind, tag="next_url", frozen=True, kw_only=True):
    """Follows the URL of the next page in the body; null, empty or nothing there is the end.

    Attributes:
        path: Where the URL is, `paging.next`.
    """

    path: str

    def _following(self, request: Request, page: Page) -> Request | End:
        target = page.text_at(self.path)
        return _followed(request, page, target) if target and target != "false" else End("no_next")


Paginator = (
    SinglePagePaginator
    | OffsetPaginator
    | PageNumberPaginator
    | CursorPaginator
    | SyncTokenPaginator
    | KeysetPaginator
    | LinkHeaderPaginator
    | NextUrlPaginator
)


def _followed(request: Request, page: Page, target: str) -> Request:
    """The same request for another URL; its query is the server's own."""
    url = absolute(request, page, target, f"the link to the next page is not an http(s) URL: {target[:80]!r}")
    return msgspec.structs.replace(request, url=url.partition("#")[0], params=())


def _whole_number(page: Page, path: str | None) -> int | None:
    """The whole number at a path, which may be a text; None where there is none."""
    found = None if path is None else page.at(path)
    if isinstance(found, str) and found.isdecimal() and len(found) < _MOST_DIGITS:
        return int(found)
    return found if type(found) is int else None


def _token(value: Any) -> str | None:
    return None if value is None or isinstance(value, bool | list | dict) else str(value)


def _with_member(body: str, path: str, value: str) -> str:
    """The body with the value set at a dotted path of its JSON, or under that name of its form."""
    if body and not body.startswith("{"):
        return urlencode({**dict(parse_qsl(body, keep_blank_values=True)), path: value})
    whole: dict[str, Any] = json.loads(body or "{}")
    *way, name = path.split(".")
    inner = whole
    for key in way:
        inner = inner.setdefault(key, {})
    inner[name] = value
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
