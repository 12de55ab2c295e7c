"""One page asked for until it is whole, fresh and as declared: limits, auth, transport, verdict, records, what follows.

    request → limits → auth → transport → verdict → records → paginator.next → Answer

Stands between the engine, which decides what to ask for, and the transport. Safe to use from several threads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import backoff
import msgspec

from tap_rest.auth.auth import NoAuth
from tap_rest.auth.flow import TokenUnavailable
from tap_rest.engine.attempts import Attempt, RequestLog, Tries
from tap_rest.engine.checkpoint import Unit
from tap_rest.engine.credentials import Credential, Credentials
from tap_rest.engine.evidence import GivenUp
from tap_rest.engine.reading import read
from tap_rest.engine.signals import Waiter
from tap_rest.engine.state import SKEW, State
from tap_rest.engine.transport import Sender, TransportError
from tap_rest.errors import CredentialsRefused, NoAnswer, Postponed, RequestRefused, TapError, UnexpectedPage
from tap_rest.formats.json_text import BOM, check_whole
from tap_rest.language.declaration import Bound, BoundStream
from tap_rest.language.jobs import STEPS, Phase
from tap_rest.language.paging import End
from tap_rest.language.verdicts import Verdict, judge
from tap_rest.limits.books import OwnBooks
from tap_rest.limits.limits import Hold
from tap_rest.limits.quota_headers import http_date
from tap_rest.page import Page
from tap_rest.redaction import Redactor
from tap_rest.request import Private, Request, origin

TRIES = 6
FIRST_TRIES = 4
"""To connect to a server that has never answered: more likely a wrong address than a bad moment."""
LONG_WAIT = 10.0
"""Seconds of waiting for a limit that are told."""
LONGEST_TRYING = 900.0
"""Seconds of one request's tries, however few they are."""

log = logging.getLogger(__name__)


class RunAborted(TapError):
    """A rule of the declaration, or a server that was never reached, ends the whole run."""


class Ask(msgspec.Struct, frozen=True):
    """A request of a unit.

    Attributes:
        unit: Whose.
        request: What to send.
        validators: ETag and Last-Modified of the answer that is known already; a 304 then is an answer.
        pause: Seconds to wait before.
        again: Why it is sent once more; empty the first time.
        page: Which of the unit's, from 1.
        phase: What it is for: a page, or a step of the unit's job.
        waited: Seconds that have been waited for that job before.
    """

    unit: Unit
    request: Request
    validators: tuple[str, str] | None = None
    pause: float = 0.0
    again: str = ""
    page: int = 1
    phase: Phase = "page"
    waited: float = 0.0


class Answer(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        page: With its records.
        following: The next request, or the End; after a step of a job, which says itself what follows, the same one.
        left_out: What is to be skipped, and why; None for an answer that counts.
        came: When, seconds since the epoch.
        about: What log lines say of its request.
    """

    page: Page
    following: Request | End
    left_out: GivenUp | None = None
    came: float = 0.0
    about: Mapping[str, Any] = {}


class InDoubt(TapError):
    """What must not be done twice unasked may have been done: the order of a job was sent, and no answer shows it."""


class _Again(Exception):  # it says what to do
    """Ask again with backoff; where the server says to wait it is no failed try, `wait` seconds if they are not 0.

    What the server may have done when no answer says so is `done`; `limited` is what a rate limit refused.
    """

    def __init__(
        self,
        error: TapError,
        *,
        tries: int = TRIES,
        wait: float | None = None,
        done: bool = False,
        limited: bool = False,
    ) -> None:
        super().__init__(error)
        self.error, self.tries, self.wait, self.done, self.limited = error, tries, wait, done, limited


class Sending:
    """Sends the requests of one API.

    Args:
        bound: The declaration with its settings.
        state: Is told the tokens that must not get into STATE.
        clock: Waits are made on it.
        transport: Sends requests.
        redactor: Masks secrets; it learns those that come up.
        max_wait: Seconds that a single request may spend waiting for limits before the run is postponed.
        token_store: Folder of tokens that must outlive the run; None for where the user's programs keep such things.
        books: Where it is kept what limits allow; None for this run's own.
        tell: Is told every attempt, in whatever thread.
    """

    def __init__(
        self,
        bound: Bound,
        *,
        state: State,
        clock: Waiter,
        transport: Sender,
        redactor: Redactor,
        max_wait: float,
        token_store: str | None,
        books: OwnBooks | None,
        tell: Callable[[Attempt], None],
    ) -> None:
        self._bound, self._clock, self._redactor, self._max_wait = bound, clock, redactor, max_wait
        self._log = RequestLog(transport, clock, redactor, tell)
        self._credentials = Credentials(bound, clock, (redactor.learn, state.learn), token_store, books)
        self._reached = threading.Event()
        self._home = origin(bound.base_url)

    @property
    def side_by_side(self) -> int:
        """How many requests may ever be under way at once."""
        return self._credentials.side_by_side

    def fetch(self, ask: Ask) -> Answer:
        """One page and what follows it, within tries and time. Raises TapError, Interrupted, BrokenPipeError.

        A job that can't be cleaned up is no error: `left_out` says why. Where the order of one may have been carried
        out without an answer, InDoubt is raised and the order not repeated.
        """
        try:
            return self._fetch(ask)
        except (RequestRefused, NoAnswer, UnexpectedPage) as error:
            if ask.phase != "clean_up":
                raise
            left_out = self.given_up(ask.unit, ask.request, error.problem, error.about.get("status"))
            return Answer(Page(ask.request, 0, {}, b""), ask.request, left_out, about=error.about)

    def _fetch(self, ask: Ask) -> Answer:
        tries = Tries(self._log, ask.unit.stream.name, ask.unit.partition.id, ask.page)
        waits = backoff.expo(max_value=60)
        next(waits)
        began, failed = self._clock.monotonic(), 0
        waited = self._pause(tries, ask.pause, ask.again, ask.waited)
        while True:
            self._clock.check()
            credential, waited = self._booked(self._credentials, ask.request, tries, waited)
            try:
                answer = self._attempt(ask, tries, credential)
            except _Again as again:
                pause = backoff.full_jitter(next(waits))
                doubt = again.done and ask.phase == "submit"
                if again.wait is not None and not doubt:
                    pause = max(1.0, again.wait or pause)
                    if again.limited and len(self._credentials.good()) > 1:
                        pause = 1.0  # its own limits hold this credential back; another may be free
                else:
                    failed += 1
                    last = failed >= again.tries or self._clock.monotonic() - began + pause > LONGEST_TRYING
                    if last or doubt:
                        error = again.error
                        error = InDoubt(error.problem, where=error.where, hint=error.hint) if doubt else error
                        error.about = tries.end(error.problem)
                        raise error from None
                tries.end(again.error.problem, retried=True)
                log.info("%s; again in %.1f s", self.said(ask.unit.name, again.error), pause)
                waited = self._pause(tries, pause, again.error.problem, waited)
            except TapError as error:
                retried = self._is_left_out(credential, error)
                error.about = tries.end(error.problem, retried=retried)
                if not retried:
                    raise
            else:
                left_out = answer.left_out
                known = tries.end(left_out.reason if left_out else "")
                return msgspec.structs.replace(answer, about=known)

    def check(self, request: Request) -> None:
        """Proves the credentials with one request each. Raises TapError where none is good."""
        for credential in self._credentials.good():
            try:
                self._check(request, credential)
            except TapError as error:
                if not self._is_left_out(credential, error):
                    raise self.masked(error) from None

    def _check(self, request: Request, credential: Credential) -> None:
        tries = Tries(self._log)
        try:
            self._booked(credential, request, tries)
            with credential.in_flight(request):
                page = self._exchange(request, None, tries, credential)
                verdict = judge(page, now=self._clock.now())
                credential.observe(page, verdict)
            tries.judged(verdict.kind)
            if verdict.kind != "ok":
                refusal = self._refusal(page, verdict)
                raise refusal.error if isinstance(refusal, _Again) else refusal
        finally:
            tries.end()

    def _booked(
        self, of: Credentials | Credential, request: Request, tries: Tries, waited: float = 0.0
    ) -> tuple[Credential, float]:
        """A credential that has booked the request, once its limits let it go; how long that has taken in all."""
        while isinstance(found := of.acquire(request), Hold):
            if found.seconds >= LONG_WAIT:
                log.info("%s asks to wait %.0f s", self._redactor.text(found.reason), found.seconds)
            waited = self._pause(tries, found.seconds, found.reason, waited)
        return found, waited

    def _is_left_out(self, credential: Credential, error: TapError) -> bool:
        """Whether an error is that of one credential, without which it goes on."""
        why = self._redactor.text(error.problem)
        return isinstance(error, CredentialsRefused) and self._credentials.drop(credential, why)

    def given_up(self, unit: Unit, request: Request, reason: str, status: int | None = None) -> GivenUp:
        """A request whose answer is not archived, as evidence."""
        shown, values = self._redactor.text, unit.partition.values
        return GivenUp(
            request=request.fingerprint(),
            method=request.method,
            url=shown(request.full_url),
            reason=shown(reason)[:200],
            status=status,
            partition={name: shown(value) if isinstance(value, str) else value for name, value in values.items()},
            start=unit.start,
            until=unit.until,
        )

    def _attempt(self, ask: Ask, tries: Tries, credential: Credential) -> Answer:
        request = ask.request
        etag, modified = ask.validators or ("", "")
        sent = request.with_headers({"If-None-Match": etag or None, "If-Modified-Since": modified or None})
        try:
            with credential.in_flight(request):
                page = self._exchange(sent, ask.unit.stream, tries, credential)
                if not self._reached.is_set():
                    self._reached.set()
                    self._compare_clocks(page)
                page, verdict = self._understood(ask, page, tries, credential)
        except TransportError as error:
            unknown = error.kind == "connect" and not self._reached.is_set()
            tried = FIRST_TRIES if unknown else TRIES
            raise (_Again(error, tries=tried, done=error.arrived) if error.retriable else error) from None
        except TokenUnavailable as error:
            raise _Again(error, wait=error.wait_seconds) from None
        came = self._clock.now()
        match verdict.kind:
            case "ok":
                return Answer(page, self._following(ask, page), came=came)
            case "empty":
                return Answer(page, End("empty"), came=came)
            case "unchanged" if ask.validators is not None:
                return Answer(page, End("not_modified"), came=came)
            case "skip_record" | "skip_partition":
                left_out = self.given_up(ask.unit, request, verdict.reason, page.status)
                # The pages behind one that is left out are known to nobody: only a first page may stand alone.
                skipped = verdict.kind if ask.page == 1 else "skip_partition"
                return Answer(page, End(skipped), left_out, came)
        raise self._refusal(page, verdict)

    def _compare_clocks(self, page: Page) -> None:
        server = http_date(page.headers.get("date", ""))
        ahead = 0.0 if server is None else self._clock.now() - server
        if abs(ahead) > SKEW:
            said = f"{abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'}"
            log.warning("this machine's clock is %s the server's: bookmarks by time may leave records out", said)

    def _following(self, ask: Ask, page: Page) -> Request | End:
        if ask.phase != "page":
            return End("file") if ask.phase == "file" else ask.request
        try:
            following = ask.unit.stream.declared.paginator.next(ask.request, page)
        except UnexpectedPage as error:
            raise _Again(error) from None
        if isinstance(following, Request):
            following = self._bound.auth.stripped(following)
            if following.origin != ask.request.origin:
                where = "{}://{}:{}".format(*following.origin)
                raise UnexpectedPage("the next page is at another origin, which gets no credentials", where=where)
        return following

    def _understood(self, ask: Ask, page: Page, tries: Tries, credential: Credential) -> tuple[Page, Verdict]:
        """What a page means, and where it is ok, the page with its records; a step of a job has none."""
        now, stream, step = self._clock.now(), ask.unit.stream.declared, ask.phase in STEPS
        verdict = judge(page, stream.errors, now=now, empty_ok=not step and stream.format.takes_nothing)
        if ask.phase == "clean_up" and (page.status < 300 or page.status in (404, 410)):
            verdict = Verdict("ok", f"status {page.status}")
        credential.observe(page, verdict)
        if verdict.kind == "ok" and ask.phase != "clean_up":
            tries.judged("retry")
            try:
                if step:
                    check_whole(page.whole().removeprefix(BOM))
                else:
                    page, verdict = read(page, stream, verdict, now)
            except UnexpectedPage as error:
                raise _Again(error, done=True) from None
        tries.judged(verdict.kind, len(page.records) if verdict.kind == "ok" else None)
        return page, verdict

    def _exchange(self, request: Request, stream: BoundStream | None, tries: Tries, credential: Credential) -> Page:
        """The request signed and sent, as often as auth wants to."""
        timeouts = self._bound.timeouts if stream is None else stream.declared.timeouts
        auth = credential.auth if request.origin == self._home else NoAuth()
        with closing(auth.flow(request, credential.tokens)) as flow:
            signed = next(flow)
            while True:
                shown = Private(signed.url, signed.method) if isinstance(signed, Private) else request
                try:
                    page = tries.send(shown, signed, timeouts)
                except NoAnswer as error:
                    signed = flow.throw(error)
                    continue
                refused = stream is not None and not isinstance(signed, Private) and self._is_refused(page, stream)
                try:
                    # What the declaration calls `reauth` is to every kind of auth what a 401 is.
                    signed = flow.send(msgspec.structs.replace(page, status=401) if refused else page)
                except StopIteration:
                    return page

    def _is_refused(self, page: Page, stream: BoundStream) -> bool:
        rules = stream.declared.errors
        declared = any(rule.then == "reauth" for rule in rules)
        return declared and judge(page, rules, now=self._clock.now()).kind == "reauth"

    def _refusal(self, page: Page, verdict: Verdict) -> Exception:
        """What to raise for a page that is not one."""
        said = page.body[:20_000].decode(errors="replace") if page.status >= 400 else ""
        said = " ".join(self._redactor.text(said).split())[:300]  # masked before it is cut: half a token is not known
        hint = f"the server says {said}" if said and not said.startswith("<") else ""
        if verdict.kind in ("retry", "wait"):
            wait = 0.0 if verdict.kind == "wait" and verdict.wait_seconds is None else verdict.wait_seconds
            limited = verdict.kind == "wait"
            done = not (limited or verdict.declared or page.status in (408, 425, 503))
            return _Again(UnexpectedPage(verdict.reason, hint=hint), wait=wait, done=done, limited=limited)
        if verdict.kind == "reauth" and page.request.origin == self._home:
            return CredentialsRefused(verdict.reason, hint="check the credentials in the config")
        if verdict.kind == "abort":
            return RunAborted(verdict.reason, hint=hint)
        return RequestRefused(verdict.reason, hint=hint, status=page.status)

    def _pause(self, tries: Tries, seconds: float, reason: str, waited: float) -> float:
        """Waits; how long a request has waited in all. Raises Postponed where that is more than allowed."""
        if seconds <= 0:
            return waited
        if waited + seconds > self._max_wait:
            problem = f"{reason} asks to wait {waited + seconds:,.0f} s in all, longer than max_wait allows"
            raise Postponed(self._redactor.text(problem), hint="run again later, it goes on where it stopped")
        tries.waited += seconds
        self._clock.wait(seconds)
        return waited + seconds

    def is_pointless(self, error: TapError) -> bool:
        """Whether after an error no other stream would fare better."""
        unreached = isinstance(error, TransportError) and error.kind in ("connect", "tls", "request")
        return isinstance(error, CredentialsRefused | RunAborted) or (unreached and not self._reached.is_set())

    def masked(self, error: TapError) -> TapError:
        """The error without secrets, which a server may have put into its own words."""
        error.problem, error.where, error.hint = map(self._redactor.text, (error.problem, error.where, error.hint))
        return error

    def said(self, name: str, error: TapError) -> str:
        """An error of a stream or unit as it may be shown."""
        text = self._redactor.text(str(error))
        return text if text.startswith(name) else f"{name}: {text}"
