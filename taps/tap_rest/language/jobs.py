"""Report jobs: an API that first has to prepare the records is asked for them, asked whether they are there, and read.

    submit → poll, again and again → pages of the result, or one file → clean up

Options are fields, behaviour is pure: what an answer means for the job. How far it is, an Errand, is kept in STATE.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal

import msgspec

from tap_rest.component import Component
from tap_rest.errors import UnexpectedPage
from tap_rest.formats.places import not_there
from tap_rest.language.links import absolute
from tap_rest.language.paging import Count, End
from tap_rest.language.replication import Duration, duration
from tap_rest.page import Page
from tap_rest.request import DEFAULT_PORTS, Request, origin

JobPath = Annotated[str, msgspec.Meta(pattern="^/", examples=["/reports/{job.id}"])]
Origin = Annotated[
    str, msgspec.Meta(pattern=r"^https?://[a-z0-9*.-]+(:[0-9]+)?$", examples=["https://*.example-storage.com"])
]
Status = str | int | bool
Phase = Literal["submit", "poll", "page", "file", "clean_up"]
STEPS = ("submit", "poll", "clean_up")
"""The phases whose answers are about the job and hold no records."""


class Errand(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far the job of a unit is. The URL of a file is not in it: that may hold a credential.

    Attributes:
        phase: What is asked next.
        id: What the API calls the job.
        since: When it was submitted, seconds since the epoch.
        failures: How many jobs of the unit came to nothing.
        problem: What became of the last of these.
        end: How the reading of the result ended, while the job is still there.
    """

    phase: Literal["submit", "poll", "page", "clean_up"] = "submit"
    id: str = ""
    since: float = 0.0
    failures: int = 0
    problem: str = ""
    end: End | None = None


class Job(Component, frozen=True, kw_only=True):
    """A report that the API has to prepare first: the stream's own request orders it, its result holds the records.

    A killed run goes on with the job that it had. One that is gone by then, that failed or took too long is ordered
    anew. To order is no harmless repetition: where no answer shows whether a job was made, it counts as one of `tries`.
    A status that means that there is no data is said by a rule in `errors`, `then: empty`.

    Attributes:
        id: Path of the job's id in the answer to the order.
        poll: Where to ask how far it is; `{job.id}` stands for the id.
        every: How long to wait before each time; longer where an answer has a `Retry-After`.
        status: Path of the status in that answer.
        running: The values that say that it is still at work.
        done: Those that say that the result is there.
        failed: Those that say that there will be none. A value in no list is an error.
        timeout: From the order until it is done; a job that takes longer has failed.
        tries: Jobs that may be ordered for one unit before it fails.
        url: Path, in the last answer to `poll`, of the URL of one file, which is the whole result; asked for once more
            where it has expired. At another origin it is asked for without credentials and headers.
        origins: The other origins that it may be at; `*` stands for any part of a host name.
        result: Or where the result is, which is then read by the stream's paginator.
        delete: Where to DELETE the job when it is no longer needed. That this fails is only a warning.
    """

    id: str
    poll: JobPath
    every: Duration = "10s"
    status: str
    running: list[Status]
    done: list[Status]
    failed: list[Status] = []
    timeout: Duration = "1h"
    tries: Count = 3
    url: str | None = None
    origins: list[Origin] = []
    result: JobPath | None = None
    delete: JobPath | None = None

    def __post_init__(self) -> None:
        if (self.url is None) == (self.result is None):
            raise ValueError("a job needs one of `url` and `result`: where its result is")
        if self.origins and self.url is None:
            raise ValueError("`origins` are those of a file that `url` leads to")
        if not duration(self.every):
            raise ValueError("`every` is at least 1s")
        known = [*self.running, *self.done, *self.failed]
        if twice := next((value for place, value in enumerate(known) if _is_in(value, known[:place])), None):
            raise ValueError(f"the status {twice!r} is named twice")

    def submitted(self, page: Page) -> str:
        """The id in the answer to the order. Raises UnexpectedPage where there is none."""
        if found := page.text_at(self.id):
            return found
        raise not_there(page.body, self.id, "the id of a job")

    def polled(self, page: Page) -> tuple[Literal["running", "done", "failed"], str]:
        """How far a job is, and how the API put it. Raises UnexpectedPage for a status that the declaration lacks."""
        found = page.at(self.status)
        for meaning in ("running", "done", "failed"):
            if _is_in(found, getattr(self, meaning)):
                return meaning, str(found)
        if found is None:
            raise not_there(page.body, self.status, "the status of a job")
        known = ", ".join(f"{name} {getattr(self, name)}" for name in ("running", "done", "failed"))
        raise UnexpectedPage(
            f"the job has the status {str(found)[:80]!r}, which the declaration does not know: {known}",
            hint="add it to `running`, `done` or `failed`",
        )

    def file(self, request: Request, page: Page) -> Request:
        """What to ask for the file that the answer to `poll` leads to. Raises UnexpectedPage where that may not be."""
        found = page.text_at(self.url or "")
        if not found:
            raise not_there(page.body, self.url or "", "the URL of a file")
        url = absolute(request, page, found, f"what is at {self.url} is not an http(s) URL")
        scheme, host, port = origin(url)
        if (scheme, host, port) == request.origin:
            return msgspec.structs.replace(request, url=url, params=())
        shown = f"{scheme}://{host}" if port == DEFAULT_PORTS[scheme] else f"{scheme}://{host}:{port}"
        if not any(fnmatchcase(shown, allowed) for allowed in self.origins):
            raise UnexpectedPage(f"the file is at {shown}, another origin", hint="name it in `origins`")
        return Request(url=url)


def _is_in(found: object, values: Sequence[Status]) -> bool:
    """Whether a value is listed; true is not 1."""
    return any(type(found) is type(value) and found == value for value in values)
