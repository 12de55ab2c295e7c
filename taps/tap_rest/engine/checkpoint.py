"""What is read as one, and how far that is: the page in flight, which STATE keeps for a killed run to go on from."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tap_rest.engine.evidence import Evidence
from tap_rest.language.declaration import BoundStream
from tap_rest.language.jobs import Errand
from tap_rest.language.partitions import WHOLE, Partition
from tap_rest.request import Pairs, Request

VERSION = 1
"""Of the shape of a checkpoint."""


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a request differs from its unit's first one: no base URL, and nothing that the declaration puts in itself.

    Attributes:
        url: Path and query below the origin, or None when unchanged.
        params: Query parameters that differ or are new.
        without: Places of the query parameters that are gone.
        headers: Headers that differ or are new.
        body: The body, or None when unchanged.
    """

    url: str | None = None
    params: Pairs = ()
    without: tuple[int, ...] = ()
    headers: Pairs = ()
    body: str | None = None

    @classmethod
    def between(cls, base: Request, request: Request) -> Step:
        """Both requests go to the same origin."""
        return cls(
            url=None if request.url == base.url else request.url.removeprefix(_root(request.url)),
            params=tuple(pair for pair in request.params if pair not in base.params),
            without=tuple(place for place, pair in enumerate(base.params) if pair not in request.params),
            headers=tuple(pair for pair in request.headers if pair not in base.headers),
            body=None if request.body == base.body else request.body,
        )

    def after(self, base: Request) -> Request:
        """The request again; the base may have moved to another origin."""
        return msgspec.structs.replace(
            base,
            url=base.url if self.url is None else _root(base.url) + self.url,
            params=(*(pair for place, pair in enumerate(base.params) if place not in self.without), *self.params),
            body=base.body if self.body is None else self.body,
        ).with_headers(dict(self.headers))


class Checkpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """The page in flight: what a killed run goes on with, repeating at most one page.

    Attributes:
        version: Of this shape.
        declaration: Fingerprint of the stream's declaration.
        saved: When, ISO time.
        began: When the unit began, seconds since the epoch.
        start: The bookmark or date that the unit reads from.
        until: Its end.
        step: The next request.
        evidence: Of what is written so far.
        seen: The highest replication key value so far.
        before: Signature of the page written last, so that its repetition is noticed.
        tail: Prints of its last rows, where the next page brings them again.
        last: The replication key value of its last record.
        ordered: Whether all so far was as sorted as was declared.
        members: Print of what a batch is made of.
        errand: How far the unit's job is; its next request follows from that alone, but for pages of the result.
    """

    version: int
    declaration: str
    saved: str
    began: float
    step: Step
    evidence: Evidence
    start: str | None = None
    until: str | None = None
    seen: str | int | None = None
    before: str = ""
    tail: Sequence[str] = ()
    last: str | int | None = None
    ordered: bool = True
    members: str = ""
    errand: Errand | None = None

    @property
    def reached(self) -> str:
        """How far that was, for people."""
        pages, errand = self.evidence.pages, self.errand
        return f"the order of job {errand.id}" if errand and errand.id and not pages else f"page {pages}"


class Unit(msgspec.Struct, frozen=True):
    """What is read as one: a partition of a stream, from a start to an end, and when that began (its signpost).

    Attributes:
        stream: Of which a part is read.
        began: Seconds since the epoch.
        start: Inclusive; None for the beginning.
        until: Exclusive; None for as far as there is.
        partition: Which of the stream's.
        bookmark: What the start was made from.
        start_floats: The start is only what the clock said; a unit that is resumed keeps the one it had.
        end_floats: So is the end.
    """

    stream: BoundStream
    began: float
    start: str | None = None
    until: str | None = None
    partition: Partition = WHOLE
    bookmark: str | int | None = None
    start_floats: bool = False
    end_floats: bool = False

    @property
    def request(self) -> Request:
        return self.stream.request(start=self.start, until=self.until, partition=self.partition)

    def asked(self, errand: Errand | None) -> Request:
        """The first request of the phase that its job is in, or of a unit without one."""
        return self.request if errand is None else self.stream.errand(self.request, errand, self.partition)

    @property
    def name(self) -> str:
        """For people: the stream, and which partition of it."""
        return f"{self.stream.name} ({self.partition.id})" if self.partition.id else self.stream.name


def _root(url: str) -> str:
    """Scheme, host and port of a URL, as written."""
    scheme, _, rest = url.partition("://")
    end = min((at for at in (rest.find(char) for char in "/?#") if at >= 0), default=len(rest))
    return f"{scheme}://{rest[:end]}"
