"""The engine: one visible loop per unit, from request to RECORD lines and STATE.

    request → limits → auth → transport → verdict → records → paginator.next → RECORD lines + STATE → next request

A unit is complete only with terminal evidence; only then does its bookmark move. A page is written once it is whole, so
what is retried is always a whole request, and a run that is killed repeats at most one page.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import backoff
import msgspec

from tap_rest.auth.flow import TokenUnavailable
from tap_rest.engine.checkpoint import State, Unit
from tap_rest.engine.evidence import Walk
from tap_rest.engine.messages import Lane, state_line
from tap_rest.engine.reading import read
from tap_rest.engine.signals import Waiter
from tap_rest.engine.tokens import RunTokens, token_file
from tap_rest.engine.transport import Sender, TransportError, current_stream
from tap_rest.errors import (
    CredentialsRefused,
    NoAnswer,
    PaginationLoop,
    Postponed,
    RequestRefused,
    TapError,
    UnexpectedPage,
)
from tap_rest.formats.fields import include
from tap_rest.language.declaration import Bound, BoundStream
from tap_rest.language.paginators import End
from tap_rest.language.replication import moment
from tap_rest.language.verdicts import Verdict, judge
from tap_rest.language.vocabulary import Timeouts
from tap_rest.limits.limits import Limiter
from tap_rest.page import Page
from tap_rest.redaction import Redactor
from tap_rest.request import Private, Request

TRIES = 6
FIRST_TRIES = 4
"""To connect to a server that has never answered: more likely a wrong address than a bad moment."""
STALE_TRIES = 4
LONGEST_TRYING = 900.0
"""Seconds of one request's tries, however few they are."""
READINGS = 4
FINGERPRINTS = 1_000_000
PROGRESS_EVERY = 5.0

log = logging.getLogger(__name__)


class RunAborted(TapError):
    """A rule of the declaration, or a server that was never reached, ends the whole run."""


class RunIncomplete(TapError):
    """Some streams (status 3) or all of them (status 1) failed; each has said why."""

    def __init__(self, failed: Sequence[str], total: int) -> None:
        super().__init__(f"{len(failed)} of {total} streams failed: {', '.join(failed)}")
        self.exit_status = 1 if len(failed) == total else 3  # type: ignore[misc]  # of this run, not of the class


@dataclass
class Summary:
    """What a run did."""

    streams: int = 0
    complete: int = 0
    pages: int = 0
    records: int = 0
    requests: int = 0
    retries: int = 0
    waited: float = 0.0
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.complete} of {self.streams} streams complete, {self.records:,} records, "
            f"{self.requests:,} requests, {self.retries:,} retries, {self.waited:.1f} s waited"
        )


class _Again(Exception):  # it says what to do
    """Ask again: after `wait` seconds where the server named a time (then it is no failed try), else with backoff."""

    def __init__(
        self, error: TapError, *, tries: int = TRIES, limited: bool = False, wait: float | None = None
    ) -> None:
        super().__init__(error)
        self.error, self.tries, self.limited, self.wait = error, tries, limited, wait


class Engine:
    """Fetches streams of one API.

    Args:
        bound: The declaration with its settings.
        state: Where to go on, and where the way is noted.
        lane: Takes the records.
        clock: Waits are made on it.
        transport: Sends requests.
        start_date: Where incremental streams without a bookmark begin.
        end_date: Where they end, exclusive, if the API can be asked so.
        max_wait: Seconds that a single request may spend waiting for limits before the run is postponed.
        token_store: Folder of tokens that must outlive the run; None for where the user's programs keep such things.
        limit: Records of each stream to look at, instead of reading all; None for all.
        redactor: Masks secrets; it learns those that come up.
    """

    def __init__(
        self,
        bound: Bound,
        *,
        state: State,
        lane: Lane,
        clock: Waiter,
        transport: Sender,
        start_date: str | None = None,
        end_date: str | None = None,
        max_wait: float = 3600.0,
        token_store: str | None = None,
        limit: int | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self.summary = Summary()
        self._bound, self._state, self._lane, self._clock, self._transport = bound, state, lane, clock, transport
        self._start_date, self._end_date, self._max_wait, self._limit = start_date, end_date, max_wait, limit
        self._limiter = Limiter(bound.limits, clock, bound.base_url)
        self._redactor = redactor or Redactor(bound.secrets)
        self._tokens = RunTokens(clock, (self._redactor.learn, state.learn), token_file(bound, token_store))
        self._waited = 0.0
        self._told = clock.monotonic()

    def run(self, streams: Sequence[BoundStream]) -> None:
        """Reads the streams one after the other; one that fails never stops the others.

        Raises RunIncomplete at the end if some failed, at once Postponed, Interrupted, BrokenPipeError and what makes
        the rest pointless.
        """
        self.summary.streams = len(streams)
        try:
            for stream in streams:
                self._lane.begin(stream)
                try:
                    if self._limit is None:
                        self.sync(stream)
                        self.summary.complete += 1
                    else:
                        self.look(stream, self._limit)
                except Postponed:
                    raise
                except TapError as error:
                    self.summary.failed.append(stream.name)
                    if self._pointless(error):
                        raise self._masked(error) from None
                    log.error("%s", self._said(stream, error))  # noqa: TRY400 - for people, who need no traceback
        finally:
            log.info("%s", self.summary)
        if self.summary.failed:
            raise RunIncomplete(self.summary.failed, len(streams))

    def sync(self, stream: BoundStream) -> None:
        """Reads one unit to its end, up to four times where rows are missing. Raises TapError when it is not whole."""
        unit = self._unit(stream)
        checkpoint = None if unit is None else self._state.resume(unit)
        for warning in self._state.told():
            log.warning("%s", warning)
        if unit is None:
            return
        request = stream.declared.paginator.first(unit.request)
        walk = Walk(stream)
        if checkpoint is not None:
            unit = msgspec.structs.replace(unit, began=checkpoint.began)
            request = checkpoint.step.after(unit.request)
            walk = Walk(stream, checkpoint.evidence, checkpoint.seen, checkpoint.before)
            log.info("%s: goes on after page %d of an earlier run", stream.name, walk.evidence.pages)
        for reading in range(READINGS):
            try:
                end = self._read(unit, walk, request)
            except RequestRefused as error:
                resumed = checkpoint is not None and reading == 0 and walk.evidence.pages == checkpoint.evidence.pages
                if not resumed or isinstance(error, CredentialsRefused):
                    raise
                end = End("resume_refused", complete=False)
            missing = walk.missing()
            if end.complete and not missing:
                self._state.complete(unit, walk.evidence, walk.bookmark(unit.began))
                self._lane.page(stream, (), 0, state_line(self._state.value()))
                self._note(unit, walk)
                return
            problem = f"{missing:,} of {walk.evidence.declared_total:,} rows are missing" if missing else end.reason
            if end.reason in ("max_pages", "skipped") or reading == READINGS - 1:
                break
            log.warning("%s: %s: it is read again from its start", stream.name, problem)
            request, walk = stream.declared.paginator.first(unit.request), Walk(stream)
        walk.finish(problem)
        self._give_up(unit, walk, restart=True)
        raise UnexpectedPage(f"ended incomplete: {problem}", where=stream.name)

    def look(self, stream: BoundStream, limit: int) -> None:
        """Writes so many records from the bookmark on. No bookmark moves, the claim is partial. Raises TapError."""
        if (unit := self._unit(stream)) is None:
            return
        walk, shown = Walk(stream), Walk(stream)
        for page, _ in self.pages(unit, walk, stream.declared.paginator.first(unit.request)):
            records = self._emitted(stream, page)[: limit - shown.evidence.records]
            shown.add(records, walk.evidence.declared_total)
            self.summary.pages += 1
            self.summary.records += len(records)
            self._lane.page(stream, records, self._clock.now(), b"")
            if shown.evidence.records == limit:
                break
        shown.evidence.requests = walk.evidence.requests
        shown.finish("limit")
        self._give_up(unit, shown, restart=False)

    def first(self, stream: BoundStream) -> Request | None:
        """The first request of a stream from its bookmark on; None where there is nothing to read."""
        unit = self._unit(stream)
        return None if unit is None else stream.declared.paginator.first(unit.request)

    def records(self, stream: BoundStream) -> Iterator[bytes]:
        """The records of a stream from its bookmark on, for those who write them themselves."""
        unit = self._unit(stream)
        if unit is not None:
            for page, _ in self.pages(unit, Walk(stream), stream.declared.paginator.first(unit.request)):
                yield from map(bytes, self._emitted(stream, page))

    def check(self, request: Request) -> None:
        """Proves the credentials with one request. Raises TapError."""
        try:
            page = self._exchange(request, self._bound.timeouts)
            verdict = judge(page, now=self._clock.now())
            if verdict.kind != "ok":
                refusal = self._refusal(page, verdict)
                raise refusal.error if isinstance(refusal, _Again) else refusal
        except TapError as error:
            raise self._masked(error) from None

    def _read(self, unit: Unit, walk: Walk, request: Request) -> End:
        """Walks through a unit once, writing each page. What is written stays, whatever happens after."""
        try:
            for page, following in self.pages(unit, walk, request):
                records = self._emitted(unit.stream, page)
                self.summary.pages += 1
                self.summary.records += len(records)
                if isinstance(following, End):
                    walk.finish(following.reason)
                    self._lane.page(unit.stream, records, self._clock.now(), b"")
                    if following.warning is not None:
                        walk.warn(following.warning)
                    return following
                now = self._clock.now()
                self._state.proceed(unit, following, walk, now=now)
                self._lane.page(unit.stream, records, now, state_line(self._state.value()))
                self._tell(unit, walk)
        except Postponed:
            raise
        except TapError as error:
            walk.finish(self._redactor.text(error.problem)[:200])
            self._give_up(unit, walk, restart=isinstance(error, PaginationLoop))
            raise
        raise AssertionError("pages end with an End")

    def pages(self, unit: Unit, walk: Walk, request: Request) -> Iterator[tuple[Page, Request | End]]:
        """The pages of a unit with what follows each; the last is followed by an End."""
        paginator = unit.stream.declared.paginator
        asked: set[int] = set()
        while True:
            asked.add(int(request.fingerprint(), 16))
            page, following = self._fetch(unit.stream, walk, request, asked)
            walk.add(page.records, paginator.declared_total(page))
            if walk.passed(unit.start):
                following = End("bookmark_reached")
            elif isinstance(following, Request) and walk.evidence.pages == paginator.max_pages:
                following = End("max_pages", complete=False)
            yield page, following
            if isinstance(following, End):
                return
            request = following
            if len(asked) >= FINGERPRINTS:
                asked.clear()

    def _fetch(self, stream: BoundStream, walk: Walk, request: Request, asked: set[int]) -> tuple[Page, Request | End]:
        """One page and what follows it, asked for until it is whole, fresh and as declared, within tries and time."""
        waits = backoff.expo(max_value=60)
        next(waits)
        current_stream.set(stream.name)
        self._waited, began, failed = 0.0, self._clock.monotonic(), 0
        while True:
            self._clock.check()
            while (hold := self._limiter.acquire(request)) is not None:
                self._pause(hold.seconds, hold.reason)
            walk.evidence.requests += 1
            self.summary.requests += 1
            try:
                return self._attempt(stream, walk, request, asked)
            except _Again as again:
                pause = backoff.full_jitter(next(waits))
                if again.limited:
                    pause = max(1.0, pause) if again.wait is None else again.wait
                else:
                    failed += 1
                    if failed >= again.tries or self._clock.monotonic() - began + pause > LONGEST_TRYING:
                        raise again.error from None
                self.summary.retries += 1
                log.info("%s; again in %.1f s", self._said(stream, again.error), pause)
                self._pause(pause, again.error.problem)

    def _attempt(
        self, stream: BoundStream, walk: Walk, request: Request, asked: set[int]
    ) -> tuple[Page, Request | End]:
        try:
            page = self._exchange(request, stream.declared.timeouts)
        except TransportError as error:
            self._limiter.failed(request)
            unknown = error.kind == "connect" and not self.summary.pages
            raise (_Again(error, tries=FIRST_TRIES if unknown else TRIES) if error.retriable else error) from None
        except TokenUnavailable as error:
            raise _Again(error, limited=error.wait_seconds is not None, wait=error.wait_seconds) from None
        page, verdict = self._understood(stream, page)
        if verdict.kind == "empty":
            return page, End("empty")
        if verdict.kind in ("skip_record", "skip_partition"):
            return page, End("skipped", complete=False)
        if verdict.kind != "ok":
            raise self._refusal(page, verdict)
        try:
            following = stream.declared.paginator.next(request, page)
        except UnexpectedPage as error:
            raise _Again(error) from None
        if isinstance(following, Request):
            following = self._bound.auth.stripped(following)
            if following.origin != request.origin:
                where = "{}://{}:{}".format(*following.origin)
                raise UnexpectedPage("the next page is at another origin, which gets no credentials", where=where)
        repeats = isinstance(following, Request) and int(following.fingerprint(), 16) in asked
        again = walk.repeats(page.records) and following != End("no_progress")
        if repeats or again:
            problem = "leads to a request already sent" if repeats else "holds the same records as the page before it"
            raise _Again(PaginationLoop(f"page {len(asked)} {problem}", where=stream.name), tries=STALE_TRIES)
        return page, following

    def _understood(self, stream: BoundStream, page: Page) -> tuple[Page, Verdict]:
        """What a page means, and where it is ok, the page with its records."""
        now = self._clock.now()
        verdict = judge(page, stream.declared.errors, now=now, empty_ok=stream.declared.format.takes_nothing)
        self._limiter.observe(page, verdict)
        if verdict.kind == "ok":
            try:
                return read(page, stream.declared, verdict, now)
            except UnexpectedPage as error:
                raise _Again(error) from None
        return page, verdict

    def _exchange(self, request: Request, timeouts: Timeouts) -> Page:
        """The request signed and sent, as often as auth wants to."""
        with closing(self._bound.auth.flow(request, self._tokens)) as flow:
            signed = next(flow)
            while True:
                shown = Private(signed.url, signed.method) if isinstance(signed, Private) else request
                try:
                    page = self._transport.send(shown, signed, timeouts)
                except NoAnswer as error:
                    signed = flow.throw(error)
                    continue
                try:
                    signed = flow.send(page)
                except StopIteration:
                    return page

    def _refusal(self, page: Page, verdict: Verdict) -> Exception:
        """What to raise for a page that is not one."""
        said = " ".join(page.body[:300].decode(errors="replace").split()) if page.status >= 400 else ""
        hint = f"the server says {said}" if said and not said.startswith("<") else ""
        if verdict.kind in ("retry", "wait"):
            limited = verdict.kind == "wait" or verdict.wait_seconds is not None
            return _Again(UnexpectedPage(verdict.reason, hint=hint), limited=limited, wait=verdict.wait_seconds)
        if verdict.kind == "reauth":
            return CredentialsRefused(verdict.reason, hint="check the credentials in the config")
        if verdict.kind == "abort":
            return RunAborted(verdict.reason, hint=hint)
        return RequestRefused(verdict.reason, hint=hint)

    def _pause(self, seconds: float, reason: str) -> None:
        if seconds <= 0:
            return
        if self._waited + seconds > self._max_wait:
            problem = f"{self._redactor.text(reason)} asks to wait {seconds:,.0f} s, longer than max_wait allows"
            raise Postponed(problem, hint="run again later, it goes on where it stopped", wait_seconds=seconds)
        self._waited += seconds
        self.summary.waited += seconds
        self._clock.wait(seconds)

    def _unit(self, stream: BoundStream) -> Unit | None:
        """What there is to read of a stream; None when its bookmark has passed the end."""
        began, replication = self._clock.now(), stream.declared.replication
        if replication is None:
            return Unit(stream, began)
        bookmark = self._state.bookmark(stream.name, replication)
        start = self._start_date if bookmark is None else replication.start(str(bookmark))
        if self._end_date is None or replication.until_param is None:
            if self._end_date is not None:
                log.warning("%s can't be asked to stop at end_date: it is read to its end", stream.name)
            return Unit(stream, began, start)
        first, last = moment(start), moment(self._end_date)
        if first is not None and last is not None and first >= last:
            log.info("%s: nothing to read from %s to %s", stream.name, start, self._end_date)
            return None
        return Unit(stream, began, start, self._end_date)

    def _emitted(self, stream: BoundStream, page: Page) -> Sequence[bytes]:
        if not stream.include:
            return page.records
        return [include(bytes(record), stream.include) for record in page.records]

    def _give_up(self, unit: Unit, walk: Walk, *, restart: bool) -> None:
        self._state.give_up(unit, walk.evidence, restart=restart)
        self._lane.page(unit.stream, (), 0, state_line(self._state.value()))

    def _pointless(self, error: TapError) -> bool:
        unreached = isinstance(error, TransportError) and error.kind in ("connect", "tls", "request")
        return isinstance(error, CredentialsRefused | RunAborted) or (unreached and self.summary.pages == 0)

    def _tell(self, unit: Unit, walk: Walk) -> None:
        if self._clock.monotonic() - self._told >= PROGRESS_EVERY:
            self._note(unit, walk)

    def _note(self, unit: Unit, walk: Walk) -> None:
        self._told, evidence = self._clock.monotonic(), walk.evidence
        for warning in walk.warned:
            log.warning("%s: %s", unit.stream.name, self._redactor.text(warning))
        walk.warned.clear()
        done = f"complete ({evidence.reason})" if evidence.reason else "reading"
        log.info(
            "%s: %s, %s records on %s pages", unit.stream.name, done, f"{evidence.records:,}", f"{evidence.pages:,}"
        )

    def _masked(self, error: TapError) -> TapError:
        """The error without secrets, which a server may have put into its own words."""
        error.problem, error.where, error.hint = map(self._redactor.text, (error.problem, error.where, error.hint))
        return error

    def _said(self, stream: BoundStream, error: TapError) -> str:
        """An error as it may be shown."""
        text = self._redactor.text(str(error))
        return text if text.startswith(stream.name) else f"{stream.name}: {text}"
