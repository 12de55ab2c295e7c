"""Where an answer points: the `Link` header, and signs of further pages where the declaration knows of none."""

from __future__ import annotations

import re
from typing import Any

from tap_rest.page import Page
from tap_rest.request import Request

_SIZE_PARAMS = ("limit", "per_page", "page_size", "pagesize", "pageSize", "page[size]", "count", "$top", "maxResults")
_NEXT_PATHS = tuple(
    f"{place}{name}"
    for place in ("", "meta.", "links.", "_links.", "paging.", "pagination.", "response_metadata.")
    for name in (
        "next",
        "next_cursor",
        "next_page",
        "next_page_token",
        "nextPageToken",
        "next_token",
        "next_url",
        "after",
    )
)
_MORE_PATHS = ("has_more", "hasMore", "has_next", "meta.has_more", "pagination.has_more")
_TOTAL_PATHS = ("total", "total_count", "totalCount", "count", "meta.total", "pagination.total")

_LINK = re.compile(r"""<([^<>]*)>((?:[^",<]|"(?:[^"\\]|\\.)*")*)""")
_LINK_PARAM = re.compile(r""";\s*([^\s=;,"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))""")


def links(header: str) -> dict[str, str]:
    """The targets of a `Link` header by relation, lower case; the first of each wins, as RFC 8288 asks.

    A link with an anchor speaks of another page and is left out.
    """
    found: dict[str, str] = {}
    for target, text in _LINK.findall(header):
        params: dict[str, str] = {}
        for name, quoted, bare in _LINK_PARAM.findall(text):
            params.setdefault(name.lower(), quoted or bare)
        if "anchor" not in params:
            for rel in params.get("rel", "").lower().split():
                found.setdefault(rel, target.strip())
    return found


def signs_of_more(request: Request, page: Page) -> str | None:
    """Why one page may not be all: what an API says when it pages and nobody asked it to."""
    came = len(page.records)
    if "next" in links(page.headers.get("link", "")):
        return "the answer has a Link to a next page: declare a paginator (link_header)"
    around = page.envelope()
    for path in _NEXT_PATHS:
        found = _walked(around, path)
        if isinstance(found, str | int) and found and found is not True:
            return f"the answer has {path}, as if there were more pages: declare a paginator (cursor or next_url)"
    for path in _MORE_PATHS:
        if _walked(around, path) is True:
            return f"{path} is true: declare a paginator"
    for path in _TOTAL_PATHS:
        found = _walked(around, path)
        if isinstance(found, int) and not isinstance(found, bool) and found > came:
            return f"{path} is {found}, but {came} rows came: declare a paginator"
    size = next((value for name in _SIZE_PARAMS if (value := request.param(name))), None)
    return f"the page is exactly full ({came} rows): declare a paginator" if size == str(came) else None


def _walked(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
