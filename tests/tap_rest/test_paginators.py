"""Tables of (request, page) → next request; what holds for every paginator is in test_contracts.py."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.tap_rest.pages import START, page

from tap_rest.errors import UnexpectedPage
from tap_rest.language.links import links
from tap_rest.language.paginators import (
    CursorPaginator,
    KeysetPaginator,
    LinkHeaderPaginator,
    NextUrlPaginator,
    OffsetPaginator,
    PageNumberPaginator,
    Paginator,
    SinglePagePaginator,
)
from tap_rest.language.paging import End
from tap_rest.page import Page
from tap_rest.request import Request


def params(found: Request | End) -> dict[str, str]:
    assert isinstance(found, Request)
    return dict(found.params)


@pytest.mark.case("C12")
def test_offset_steps_by_what_came_since_a_server_may_cap_its_pages() -> None:
    paginator = OffsetPaginator(page_size=1000)
    second = paginator.next(paginator.first(START), page(100))
    assert params(second) == {"q": "a", "offset": "100", "limit": "1000"}
    assert isinstance(second, Request)
    assert params(paginator.next(second, page(7)))["offset"] == "107"


@pytest.mark.parametrize(
    ("options", "offset", "rows", "around", "end"),
    [
        ({}, 0, 0, {}, End("empty_page")),
        ({"total": "t"}, 8, 2, {"t": 10}, End("total_reached")),
        ({"total": "t"}, 8, 2, {"t": "10"}, End("total_reached")),
        ({"total": "t"}, 8, 0, {"t": 10}, End("total_not_reached", complete=False)),
        ({"short_page_ends": True}, 0, 4, {}, End("short_page")),
        ({"short_page_ends": True, "total": "t"}, 0, 4, {"t": 10}, None),
        ({"start": 1, "total": "t"}, 9, 2, {"t": 10}, End("total_reached")),
        ({}, 0, 4, {}, None),
    ],
)
@pytest.mark.case("trap:2.short-page-is-the-end")
@pytest.mark.case("trap:1.c")
@pytest.mark.case("trap:3.3")
def test_offset_ends(options: dict[str, Any], offset: int, rows: int, around: dict[str, Any], end: End | None) -> None:
    paginator = OffsetPaginator(page_size=5, **options)
    found = paginator.next(START.with_params(offset=offset), page(rows, around))
    assert found == end if end else isinstance(found, Request)


@pytest.mark.parametrize(
    ("options", "number", "rows", "around", "end"),
    [
        ({"total_pages": "p"}, 3, 2, {"p": 3}, End("total_reached")),
        ({"total_pages": "p"}, 2, 0, {"p": 3}, End("total_not_reached", complete=False)),
        ({"total_pages": "p", "start": 0}, 2, 2, {"p": 3}, End("total_reached")),
        ({"total_pages": "p"}, 3, 2, {"p": "3"}, End("total_reached")),
        ({"page_size": 5, "short_page_ends": True}, 1, 4, {}, End("short_page")),
        ({"page_size": 5}, 1, 4, {}, None),
    ],
)
def test_page_number_ends(
    options: dict[str, Any], number: int, rows: int, around: dict[str, Any], end: End | None
) -> None:
    found = PageNumberPaginator(**options).next(START.with_params(page=number), page(rows, around))
    assert found == end if end else params(found)["page"] == str(number + 1)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"param": "after"}, START.with_params(after="t/1")),
        ({"into_header": "X-After"}, START.with_headers({"X-After": "t/1"})),
        ({"next_path": "/v1/rows/continue"}, msgspec.structs.replace(START, url="https://x.test/v1/rows/continue")),
        ({"next_path": "/v1/at/{cursor}"}, msgspec.structs.replace(START, url="https://x.test/v1/at/t%2F1")),
    ],
)
def test_a_cursor_goes_where_it_is_declared(options: dict[str, Any], changed: Request) -> None:
    found = CursorPaginator(path="next", **options).next(START, page(0, {"next": "t/1"}))
    assert found == changed


def test_a_cursor_can_come_from_a_header_and_go_into_a_body() -> None:
    start = Request("https://x.test", "POST", body='{"query":{"size":5}}')
    answer = Page(start, 200, {"x-next": "t"}, b"[]")
    found = CursorPaginator(header="X-Next", into_body="query.after").next(start, answer)
    assert isinstance(found, Request)
    assert found.body == '{"query":{"size":5,"after":"t"}}'


@pytest.mark.parametrize("token", [None, "", False])
@pytest.mark.case("trap:2.paging-absent")
def test_no_token_is_the_end(token: Any) -> None:
    assert CursorPaginator(path="next", param="c").next(START, page(5, {"next": token})) == End("no_next")


def test_a_numeric_token_goes_back_with_its_own_digits() -> None:
    answer = Page(START, 200, {}, b'{"next": 1234567890123456789012.50}')
    assert params(CursorPaginator(path="next", param="c").next(START, answer))["c"] == "1234567890123456789012.50"


@pytest.mark.parametrize("options", [{"param": "c"}, {"path": "p"}, {"path": "p", "header": "h", "param": "c"}])
def test_a_cursor_needs_one_source_and_a_target(options: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError, match="a cursor needs"):
        msgspec.convert({"type": "cursor", **options}, Paginator)


@pytest.mark.parametrize("kind", ["cursor", "link_header", "next_url"])
def test_a_page_size_that_is_not_sent_is_refused(kind: str) -> None:
    needed = {"cursor": {"path": "p", "param": "c"}, "next_url": {"path": "p"}}.get(kind, {})
    with pytest.raises(msgspec.ValidationError, match="page_size is not sent"):
        msgspec.convert({"type": kind, **needed, "page_size": 5}, Paginator)


def test_two_flags_that_could_contradict_each_other_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="`has_more` and `at_end`"):
        msgspec.convert({"type": "single_page", "has_more": "more", "at_end": "end"}, Paginator)


def keys(*values: Any) -> list[dict[str, Any]]:
    return [{"k": value, "n": number} for number, value in enumerate(values)]


@pytest.mark.case("R002-5")
@pytest.mark.case("C26")
@pytest.mark.parametrize(
    ("inclusive", "asked", "values", "found"),
    [
        (False, None, (1, 2, 3), "2"),  # more of 3 may follow: back to the value before
        (False, None, (1, 2, 2), "1"),
        (False, "1", (2, 2), "2"),  # not full: all of 2 are here
        (False, "1", (2, 2, 2), UnexpectedPage),
        (False, None, (7,), "7"),
        (True, None, (1, 2, 2), "2"),
        (True, None, (2, 2, 2), "2"),
        (True, "2", (2, 2, 2), UnexpectedPage),
        (True, "2", (2, 2), End("no_progress")),
        (True, "2", (2, 3), "3"),
        (False, None, ("b", None), UnexpectedPage),
        (False, "1", (1.10,), "1.1"),
        (False, None, (), End("empty_page")),
    ],
)
@pytest.mark.case("trap:2.keyset-ties")
@pytest.mark.case("trap:3.4")
def test_keyset_never_skips_ties_and_never_loops(
    inclusive: bool, asked: str | None, values: tuple[Any, ...], found: Any
) -> None:
    paginator = KeysetPaginator(field="k", param="after", inclusive=inclusive, page_size=3)
    request = paginator.first(START).with_params(after=asked)
    if found is UnexpectedPage:
        with pytest.raises(UnexpectedPage):
            paginator.next(request, page(keys(*values)))
    else:
        following = paginator.next(request, page(keys(*values)))
        assert following == (found if isinstance(found, End) else request.with_params(after=found))


def test_a_unique_keyset_field_reads_no_row_twice_and_is_checked() -> None:
    paginator = KeysetPaginator(field="k", param="after", inclusive=False, page_size=3, unique=True)
    assert params(paginator.next(START, page(keys("a", "b", "c"))))["after"] == "c"
    with pytest.raises(UnexpectedPage, match="declared unique"):
        paginator.next(START, page(keys("a", "b", "b")))


@pytest.mark.case("R002-5")
@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize(
    "values", [[1, 1, 2, 2, 2, 3], [1, 2, 3, 4, 5, 5], [5, 5], [1, 1, 1, 2, 2, 2, 3, 3], list(range(9))]
)
def test_keyset_walks_a_real_table_with_ties(inclusive: bool, values: list[int]) -> None:
    """Ties up to one less than a page are all read, whichever way the server compares."""
    table = keys(*values)
    paginator = KeysetPaginator(field="k", param="after", inclusive=inclusive, page_size=4)
    request: Request | End = paginator.first(START)
    seen = set()
    for _ in range(20):
        if isinstance(request, End):
            break
        after = int(request.param("after") or -1)
        rows = [row for row in table if row["k"] > after or (inclusive and row["k"] == after)][:4]
        seen |= {row["n"] for row in rows}
        request = paginator.next(request, page(rows))
    assert isinstance(request, End)
    assert request.complete
    assert len(seen) == len(table)


@pytest.mark.case("R002-6")
@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('<https://x.test/?a=1,2&b=3>; rel="next"', "https://x.test/?a=1,2&b=3"),
        ('</p?page=1>; rel="prev", </p?page=3>; rel="next", </p?page=9>; rel="last"', "/p?page=3"),
        ("</p>; rel=next", "/p"),
        ("</p> ; REL = NEXT", "/p"),
        ('</p>; title="a, <b>; rel=prev"; rel="first next"', "/p"),
        ('</p>;rel="next",</q>;rel="next"', "/p"),
        ('</p>; rel="prev"; rel="next"', None),
        ('</p>; rel="next"; anchor="/other"', None),
        ('</p>; rel="nextish"', None),
        ("", None),
        ("garbage; rel=next", None),
        ('<>; rel="next"', ""),
    ],
)
@pytest.mark.case("trap:2.link-commas")
def test_a_link_header_is_read_as_rfc_8288_says(header: str, target: str | None) -> None:
    assert links(header).get("next") == target


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("https://y.test/a?b=c#top", "https://y.test/a?b=c"),
        ("/v2?page=2", "https://x.test/v2?page=2"),
        ("?page=2", "https://x.test/v1/rows?page=2"),
        ("//y.test/a", "https://y.test/a"),
    ],
)
def test_a_link_is_followed_as_the_server_wrote_it(target: str, url: str) -> None:
    following = NextUrlPaginator(path="next").next(START, page(2, {"next": target}))
    assert following == msgspec.structs.replace(START, url=url, params=())


@pytest.mark.case("X1")
def test_a_link_that_is_no_url_is_an_error() -> None:
    with pytest.raises(UnexpectedPage, match="is not an http"):
        NextUrlPaginator(path="next").next(START, page(2, {"next": "http://[::1"}))


@pytest.mark.case("trap:3.6")
@pytest.mark.case("trap:4.3")
@pytest.mark.case("trap:1.c")
def test_an_empty_page_with_a_next_link_is_not_the_end() -> None:
    assert isinstance(LinkHeaderPaginator().next(START, page(0, link="<?page=2>; rel=next")), Request)
    assert isinstance(NextUrlPaginator(path="next").next(START, page(0, {"next": "?page=2"})), Request)
    assert isinstance(CursorPaginator(path="next", param="c").next(START, page(0, {"next": "x"})), Request)


@pytest.mark.parametrize(
    ("answer", "sign"),
    [
        (page(2, link='</p?page=2>; rel="next"'), "Link"),
        (page(2, {"next_cursor": "abc"}), "next_cursor"),
        (page(2, {"meta": {"next_page": 2}}), "meta.next_page"),
        (page(2, {"has_more": True}), "has_more"),
        (page(2, {"total": 3}), "total is 3, but 2 rows"),
        (page(5, request=START.with_params(per_page=5)), "exactly full"),
        (page(2), None),
        (page(2, {"next": None, "has_more": False, "total": 2}), None),
    ],
)
@pytest.mark.case("trap:4.1")
@pytest.mark.case("trap:1.k")
def test_a_forgotten_paginator_is_noticed(answer: Page, sign: str | None) -> None:
    found = SinglePagePaginator().next(answer.request, answer)
    assert isinstance(found, End)
    assert found.complete
    assert sign in (found.warning or "") if sign else found.warning is None


def test_the_declared_total_is_a_whole_number_or_nothing() -> None:
    paginator = SinglePagePaginator(total="t")
    given = [3, "3", None, True, "many", [3], "9" * 5000]
    assert [paginator.declared_total(page(0, {"t": value})) for value in given] == [3, 3, *[None] * 5]
