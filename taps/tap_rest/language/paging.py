"""What every paginator is: how the next request follows from a page, by `first` and `next`, both pure.

The page token is the next request, so a checkpoint stores a Request and a loop is a Request seen before. A paginator
alone decides the end; what it cannot know without memory (pages fetched so far, unique keys) is the engine's to check.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated

import msgspec

from tap_rest.component import Component
from tap_rest.errors import UnexpectedPage
from tap_rest.page import Page
from tap_rest.request import Request

Count = Annotated[int, msgspec.Meta(ge=1)]


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
        page_size: Rows to ask for.
        size_param: Parameter that takes the page size; null for none.
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
        """What follows a page with its records. Raises UnexpectedPage: it contradicts itself or the declaration."""
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
        return whole_number(page, self.total)

    @abstractmethod
    def _following(self, request: Request, page: Page) -> Request | End:
        """What follows a page on which no flag says that it was the last."""


def whole_number(page: Page, path: str | None) -> int | None:
    """The whole number at a path, which may be a text; None where there is none."""
    found = None if path is None else page.at(path)
    if isinstance(found, str) and found.isdecimal() and len(found) < 20:
        return int(found)
    return found if type(found) is int else None
