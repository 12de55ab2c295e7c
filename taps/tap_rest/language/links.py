"""Where an answer points: the `Link` header, and signs of further pages where the declaration knows of none."""

from __future__ import annotations

import re
from urllib.parse import urljoin

from tap_rest.errors import UnexpectedPage
from tap_rest.page import Page
from tap_rest.request import Request, origin

_PLACES = ("", "meta", "links", "_links", "paging", "pagination", "response_metadata")
_NEXT = ("next", "next_cursor", "next_page", "next_page_token", "nextPageToken", "next_token", "next_url", "after")
_MORE = ("has_more", "hasMore", "has_next", "meta.has_more", "pagination.has_more")
_TOTAL = ("total", "total_count", "totalCount", "count", "meta.total", "pagination.total")
_SIZE_PARAMS = ("limit", "per_page", "page_size", "pagesize", "pageSize", "page[size]", "count", "$top", "maxResults")

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


def absolute(request: Request, page: Page, target: str, problem: str) -> str:
    """Where a link leads, resolved against where the answer came from.

    Raises UnexpectedPage with the problem where that is no http(s) URL.
    """
    try:
        url = urljoin(page.url or request.url, target.strip())
        origin(url)
    except ValueError:
        raise UnexpectedPage(problem) from None
    return url


def signs_of_more(request: Request, page: Page) -> str | None:
    """Why one page may not be all: what an API says when it pages and nobody asked it to."""
    if "next" in links(page.headers.get("link", "")):
        return "the answer has a Link to a next page: declare a paginator (link_header)"
    envelope, came = page.envelope(), len(page.records)
    for place in _PLACES:
        part = envelope.get(place) if place else envelope
        for name, value in part.items() if isinstance(part, dict) else ():
            path = f"{place}.{name}" if place else name
            if name in _NEXT and isinstance(value, str | int) and value and value is not True:
                return f"the answer has {path}, as if there were more pages: declare a paginator (cursor or next_url)"
            if path in _MORE and value is True:
                return f"{path} is true: declare a paginator"
            if path in _TOTAL and type(value) is int and value > came:
                return f"{path} is {value}, but {came} rows came: declare a paginator"
    size = next((value for name in _SIZE_PARAMS if (value := request.param(name))), None)
    return f"the page is exactly full ({came} rows): declare a paginator" if size == str(came) else None
