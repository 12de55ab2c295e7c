"""Paginators: the kinds there are (what each of them is, is in paging.py). The union is the list of them all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode, urljoin

import msgspec

from tap_rest.errors import UnexpectedPage
from tap_rest.formats.fields import KeyReader
from tap_rest.language.links import absolute, links, signs_of_more
from tap_rest.language.paging import Count, End, PaginatorKind, whole_number
from tap_rest.page import Page
from tap_rest.request import Request

_MOVING = "rows that move while pages are read can be missed: `overlap` notices it, `stable` says that they don't"


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
        stable: Whether the rows don't move while they are read; then nothing can be missed, and where it is known how
            many there are, pages are fetched side by side.
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
        param: Parameter that takes the offset.
        start: Offset of the first row.
        overlap: Rows of each page that the next one brings again: that none of them is there shows that rows have moved
            and may have been missed, and the unit is read again.
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
        done, total = offset - self.start + came, self.declared_total(page)
        end = self._end(page, done=done, total=total, nothing_new=came == 0)
        # After a page of no more rows than that, going back would lead nowhere.
        return end or request.with_params(**{self.param: offset + came - (self.overlap if came > self.overlap else 0)})

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
        number, pages = self._number(request), whole_number(page, self.total_pages)
        end = self._end(page, done=number - self.start + 1, total=pages, nothing_new=not page.records)
        return end or request.with_params(**{self.param: number + 1})

    def plan(self, request: Request, page: Page) -> Iterator[Request]:
        pages, total = whole_number(page, self.total_pages), self.declared_total(page)
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
        short_page_ends: Whether a page with fewer rows than page_size is the last.
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
