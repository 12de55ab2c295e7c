"""One unit read to its end: which request comes next, and what an answer means for the evidence that all came.

Knows nothing of threads and of sending; the engine gives it the answers in the order of its requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import backoff

from tap_rest.engine.checkpoint import Checkpoint, Unit
from tap_rest.engine.evidence import MOST_NAMED, Walk
from tap_rest.engine.sending import Answer, Ask
from tap_rest.errors import PaginationLoop, TapError
from tap_rest.formats.fields import include
from tap_rest.formats.formats import RowsFormat
from tap_rest.language.jobs import Errand, Phase
from tap_rest.language.paging import End
from tap_rest.request import Request

STALE_TRIES = 4
MOST_EMPTY = 1_000
"""Pages in a row without records."""
MOST_KNOWN = 3
"""Pages in a row, of a stream with a key, that have all come before."""
FINGERPRINTS = 1_000_000


class Reader:
    """Walks through a unit.

    Args:
        unit: What to read.
        checkpoint: Where an earlier run was.
        token: What the API gave to go on from; then only what has changed since is read.
        validators: ETag and Last-Modified to ask with whether anything has changed, of the request with this print.

    Attributes:
        walk: What has been seen.
        request: To be sent next.
        phase: What that is for: a page, or a step of the unit's job.
        errand: How far that job is; None where there is none.
        plan: The requests that will probably follow it.
    """

    def __init__(
        self,
        unit: Unit,
        checkpoint: Checkpoint | None = None,
        token: str | None = None,
        validators: tuple[str, str, str] | None = None,
    ) -> None:
        self.unit = unit
        self._paginator = unit.stream.declared.paginator
        self._include = unit.stream.include(unit.partition)
        self._stale = self._short = 0
        self._too_many = self._moved = self._repeated = False
        self._longest = 0
        self._asked: set[int] = set()
        self._pages: set[int] = set()
        self._empty = self._known = 0
        self.plan: Iterator[Request] = iter(())
        self.phase: Phase = "page"
        self.errand: Errand | None = None
        self.uses_token = token is not None and checkpoint is None
        if checkpoint is None:
            self.walk = Walk(unit.stream)
            self.request = self._paginator.first(unit.request)
            if token is not None:
                self.walk.evidence.changes_only = True
                self.request = self._paginator.resumed(self.request, token)
        else:
            self.walk = Walk(
                unit.stream,
                checkpoint.evidence,
                checkpoint.seen,
                checkpoint.before,
                checkpoint.tail,
                checkpoint.last,
                ordered=checkpoint.ordered,
            )
            self.request = checkpoint.step.after(unit.asked(checkpoint.errand))
        self.resumed_at = None if checkpoint is None else checkpoint.evidence.pages
        self._print = f"{self.request.fingerprint()}{unit.stream.fingerprint}:"
        same = validators is not None and checkpoint is None and self._is_answered_by(validators[2])
        self._validators = validators if same else None

    def _is_answered_by(self, mark: str) -> bool:
        """Whether an unchanged answer holds nothing that was not written: it was read alike, from no later a start.

        `mark` is that of the answer: the request, how it was read, and from which start, which no request may show.
        """
        start = self.unit.start
        same, since = mark.startswith(self._print), mark[len(self._print) :]
        return same and (not since or self.unit.bookmark is not None or (start is not None and since <= start))

    def ask(self) -> Ask:
        """The next request, to be sent now."""
        done = self.walk.evidence.pages
        validators = self._validators[:2] if self._validators and not done else None
        return Ask(self.unit, self.request, validators, page=done + 1)

    def take(self, answer: Answer) -> Ask | None:
        """Looks whether an answer leads on; if not, the same request again.

        Raises:
            PaginationLoop: It still does not after several tries.
        """
        walk, following = self.walk, answer.following
        self._asked.add(int(self.request.fingerprint(), 16))
        loops = isinstance(following, Request) and int(following.fingerprint(), 16) in self._asked
        self._repeated = walk.repeats(answer.page.records)
        if not loops and not (self._repeated and following != End("no_progress")):
            self._stale = 0
            if isinstance(following, Request):
                self._check_progress(walk.mark)
            return None
        self._stale += 1
        problem = "leads to a request already sent" if loops else "holds the same records as the page before it"
        page = walk.evidence.pages + 1
        problem = f"page {page} {problem}"
        if self._stale == STALE_TRIES:
            raise PaginationLoop(problem, where=self.unit.name)
        return Ask(self.unit, self.request, pause=backoff.full_jitter(2.0**self._stale), again=problem, page=page)

    def mended(self, error: TapError) -> Ask:
        """What to ask after an error that is no end; raises any other."""
        raise error

    def abandoned(self) -> Ask | None:
        """What to ask when the unit is not read on; None where nothing of it is left on the server."""
        return None

    def _check_progress(self, mark: str) -> None:
        """Raises PaginationLoop where ever new requests bring nothing new."""
        self._empty = 0 if mark else self._empty + 1
        if mark and self.unit.stream.declared.primary_keys:
            self._known = self._known + 1 if hash(mark) in self._pages else 0
            self._pages.add(hash(mark))
        if self._empty == MOST_EMPTY or self._known == MOST_KNOWN:
            problem = f"{MOST_EMPTY} pages in a row are empty" if self._empty else "the same pages come again and again"
            raise PaginationLoop(problem, where=self.unit.name)
        if len(self._pages) >= FINGERPRINTS:
            self._pages.clear()

    def records(self, answer: Answer) -> Iterator[Sequence[bytes]]:
        """The records of an answer that was taken, as they are written, in batches; each is counted as it is given."""
        walk, paginator, replication = self.walk, self._paginator, self.unit.stream.declared.replication
        total = paginator.declared_total(answer.page)
        self._too_many = paginator.result_cap is not None and (total or 0) > paginator.result_cap
        if self._too_many:
            return
        if walk.evidence.pages == 0 and self.unit.stream.declared.conditional:
            headers = answer.page.headers
            marks = headers.get("etag", ""), headers.get("last-modified", "")
            walk.validators = (*marks, f"{self._print}{self.unit.start or ''}") if any(marks) else None
        for name in ("sunset", "deprecation"):
            if said := answer.page.headers.get(name):
                walk.warn(f"the API announces its end: {name}: {said}")
        walk.turn(total)
        if not answer.page.framed and isinstance(self.unit.stream.declared.format, RowsFormat):
            walk.warn("nothing says where an answer ends, so one that was cut between two lines would look whole")
        batches: Iterable[Sequence[bytes]] = answer.page.batches()
        if overlap := paginator.overlapping():
            fresh = walk.overlapped(answer.page.records, overlap)
            self._moved = fresh is None
            batches = [answer.page.records if fresh is None else fresh]
        for batch in batches:
            records = batch
            if replication is not None and replication.client_side:
                came, records = len(records), walk.recent(records, self.unit.start)
                walk.evidence.older += came - len(records)
            walk.add(records)
            yield [include(bytes(record), self._include) for record in records] if self._include else records

    def following(self, answer: Answer) -> Request | End:
        """What follows an answer whose records have been counted."""
        evidence = self.walk.evidence
        if answer.left_out is not None:
            evidence.given_up = [*evidence.given_up, answer.left_out][:MOST_NAMED]
        self._check_size(answer)
        following = self._decided(answer.following, len(answer.page.records))
        if isinstance(following, End):
            self._finish(following)
            return following
        self.plan = self._paginator.plan(self.request, answer.page)
        self.request = following
        if len(self._asked) >= FINGERPRINTS:
            self._asked.clear()
        return following

    def _decided(self, following: Request | End, came: int) -> Request | End:
        """What follows in the light of all pages so far."""
        walk, paginator = self.walk, self._paginator
        longest, self._longest = self._longest, max(self._longest, came)
        if following == End("no_progress") and 0 < longest <= came and not self._repeated:
            return End("ties_fill_a_page", complete=False)  # a server's own, smaller than was asked for
        if self._moved:
            return End("rows_moved", complete=False)
        if walk.passed(self.unit.start):
            return End("bookmark_reached")
        if paginator.result_cap is not None:
            full = isinstance(following, End) and walk.evidence.records + walk.evidence.older >= paginator.result_cap
            if self._too_many or full:
                return End("result_cap", complete=False)
        if isinstance(following, Request) and walk.evidence.pages == paginator.max_pages:
            return End("max_pages", complete=False)
        return following

    def _finish(self, end: End) -> None:
        walk, evidence = self.walk, self.walk.evidence
        if end.warning is not None:
            walk.warn(end.warning)
        if evidence.pages > 1 and (doubt := self._paginator.unproved()) and doubt not in evidence.warnings:
            evidence.warnings.append(doubt)
        replication = self.unit.stream.declared.replication
        newest_first = replication is not None and replication.order == "descending"
        if end.reason == "not_modified":
            walk.validators = self._validators
        elif evidence.pages > 1 and not newest_first:
            walk.validators = None
        capped = newest_first and replication is not None and replication.retention is not None
        if capped and walk.stays_above(self.unit.bookmark):
            walk.warn(f"ended before the bookmark {self.unit.bookmark} was reached: what lies between may be lost")
        walk.finish(end.reason)

    def _check_size(self, answer: Answer) -> None:
        """Whether the server keeps to the page size that it was asked for."""
        paginator, walk, came = self._paginator, self.walk, len(answer.page.records)
        if paginator.size_param is None or paginator.page_size is None:
            return
        if came > paginator.page_size:
            walk.warn(f"a page has {came:,} rows where {paginator.page_size:,} were asked for: is size_param right?")
        elif came and self._short:
            walk.warn(f"the first page has {self._short:,} of {paginator.page_size:,} rows, and there are more")
        self._short = came if walk.evidence.pages == 1 and came < paginator.page_size else 0
