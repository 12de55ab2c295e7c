"""The engine: streams, their partitions and windows, read side by side as far as limits allow, written by one.

    stream → partitions → turns → units → Reader ⇄ Sending → RECORD lines + STATE

A unit is complete only with terminal evidence; only then does its bookmark move. A page is written once it is whole, so
what is retried is always a whole request, and a run that is killed repeats at most one page of each unit it was in.
Requests are sent by threads where the declaration allows several at once; all else happens in one.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

import msgspec

from tap_rest.engine.attempts import REQUESTS, Attempt, Summary, about, record
from tap_rest.engine.checkpoint import State, Unit
from tap_rest.engine.evidence import MOST_NAMED, Walk
from tap_rest.engine.job_reader import JobFailed, reader_of
from tap_rest.engine.messages import Lane, state_line
from tap_rest.engine.reader import Reader
from tap_rest.engine.sending import Answer, Ask, RunAborted, Sending
from tap_rest.engine.signals import Waiter
from tap_rest.engine.transport import Sender, TransportError
from tap_rest.engine.turns import Turn
from tap_rest.errors import (
    CredentialsRefused,
    PaginationLoop,
    Postponed,
    RequestRefused,
    TapError,
    UnexpectedPage,
)
from tap_rest.language.declaration import Bound, BoundStream
from tap_rest.language.jobs import STEPS
from tap_rest.language.paginators import End, SyncTokenPaginator
from tap_rest.language.partitions import WHOLE, Children, Partition, batches
from tap_rest.language.replication import Replication
from tap_rest.limits.books import OwnBooks
from tap_rest.redaction import Redactor
from tap_rest.request import Request

READINGS = 4
PROGRESS_EVERY = 5.0
LIGHT_STATE = 16 * 1024
"""Bytes of a STATE line up to which every page is followed by one; a heavier one is written once a second at most."""

log = logging.getLogger(__name__)


class UnitIncomplete(TapError):
    """A unit came to its end without the evidence that everything came."""


class RunIncomplete(TapError):
    """Some streams (status 3) or all of them (status 1) failed; each has said why."""

    def __init__(self, failed: Sequence[str], total: int) -> None:
        super().__init__(f"{len(failed)} of {total} streams failed: {', '.join(failed)}")
        self.exit_status = 1 if len(failed) == total else 3  # type: ignore[misc]  # of this run, not of the class


class _Job:
    """A turn in progress.

    Attributes:
        turn: Whose.
        reader: Of its present unit; None where there is nothing to read.
        sent: Its requests that are under way, in order; all but the first are guesses.
        again: What to ask once more.
        readings: How often the present unit has been read anew.
        children: Collect the partitions of its children, by their names.
    """

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.reader: Reader | None = None
        self.sent: deque[tuple[Request, Future[Answer]]] = deque()
        self.again: Ask | None = None
        self.readings = 0
        self.children: dict[str, Children] = {}

    def drop(self) -> None:
        """Forgets what was guessed."""
        for _, future in self.sent:
            future.cancel()
        self.sent.clear()


class _Threads:
    """Runs calls, at most `count` at a time; a single one in the caller's own thread."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count) if count > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, fetch: Callable[[Ask], Answer], ask: Ask) -> Future[Answer]:
        if self._pool is not None:
            return self._pool.submit(fetch, ask)
        future: Future[Answer] = Future()
        try:
            future.set_result(fetch(ask))
        except Exception as error:  # noqa: BLE001 - raised where the result is taken, as with a thread
            future.set_exception(error)
        return future


@dataclass
class _Fed:
    """The partitions of a child that one parent's records made, since a bookmark."""

    children: Children
    bookmark: str | int | None
    seen: str | int | None = None


@dataclass
class _Parents:
    """What came of looking for partitions."""

    errors: list[TapError] = field(default_factory=list)
    marks: dict[str, str | int] = field(default_factory=dict)
    replication: Replication | None = None


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
        books: Where it is kept what limits allow; None for this run's own.
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
        books: OwnBooks | None = None,
    ) -> None:
        self.summary = Summary()
        self._bound, self._state, self._lane, self._clock = bound, state, lane, clock
        self._start_date, self._end_date, self._limit = start_date, end_date, limit
        self._request_log = False
        self._redactor = redactor or Redactor(bound.secrets)
        self._attempts: deque[Attempt] = deque()
        self.sending = Sending(
            bound,
            state=state,
            clock=clock,
            transport=transport,
            redactor=self._redactor,
            max_wait=max_wait,
            token_store=token_store,
            books=books,
            tell=self._attempts.append,
        )
        self._requests: Counter[str] = Counter()
        self._selected: Sequence[BoundStream] = ()
        self._told: set[tuple[str, str]] = set()
        self._fed: dict[tuple[str, str], _Fed] = {}
        self._progress = self._stated = clock.monotonic()
        self._weight = 0
        self._untold = False

    def run(self, streams: Sequence[BoundStream], *, request_log: bool = False) -> None:
        """Reads the streams, parents before their children; one that fails never stops the others.

        With `request_log` the stream `requests` is written too.
        Raises RunIncomplete at the end if some failed, at once Postponed, Interrupted, BrokenPipeError and what makes
        the rest pointless.
        """
        self.summary.streams, self._selected = len(streams), streams
        if request_log:
            self._request_log = True
            self._lane.begin(REQUESTS)
        try:
            for stream in sorted(streams, key=self._depth):
                about.set({"stream_name": stream.name})
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
                        raise self.sending.masked(error) from None
                    log.error("%s", self.sending.said(stream.name, error), extra=error.about)  # noqa: TRY400 - for people, who need no traceback
        finally:
            with suppress(BrokenPipeError):  # it has been noticed where records were written
                self._drain()
            about.set({})
            self.summary.tell()
        if self.summary.failed:
            raise RunIncomplete(self.summary.failed, len(streams))

    def sync(self, stream: BoundStream) -> None:
        """Reads all of a stream that there is to read. Raises TapError when it is not whole."""
        try:
            errors = self._read(stream, [WHOLE]) if stream.declared.for_each is None else self._pass(stream)
        finally:
            self._tell_warnings()
            if self._untold:
                self._write(stream, (), tell=True)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise UnexpectedPage(f"{len(errors)} partitions failed, the first: {errors[0]}", where=stream.name)

    def look(self, stream: BoundStream, limit: int) -> None:
        """Writes so many records from the bookmark on. No bookmark moves, the claim is partial. Raises TapError."""
        shown, unit = Walk(stream), Unit(stream, self._clock.now())
        for records, reader in self._walked(stream):
            unit = reader.unit
            shown.turn(None)
            shown.add(few := records[: limit - shown.evidence.records])
            self._write(stream, few, tell=False)
            if shown.evidence.records >= limit:
                break
        self._drain()
        shown.evidence.requests = self._requests.pop(unit.name, 0)
        shown.finish("limit")
        self._state.give_up(unit, shown.evidence, restart=False)
        self._write(stream, (), tell=True)

    def records(self, stream: BoundStream) -> Iterator[bytes]:
        """The records of a stream from its bookmark on, for those who write them themselves."""
        for records, _ in self._walked(stream):
            yield from map(bytes, records)

    def first(self, stream: BoundStream) -> Request | None:
        """The first request of a stream from its bookmark on; None where there is nothing to read.

        A value that only a parent's record has is shown as its name.
        """
        each = stream.declared.for_each
        partition = next(iter(self._fixed(stream)), WHOLE)
        if each is not None and each.stream is not None:
            partition = Partition({name: f"<{name}>" for name in stream.wanted})
        turn = self._turn(stream, partition, self._state.bookmark(stream, partition))
        return None if turn.is_over else reader_of(turn.unit()).request

    # --- partitions ---------------------------------------------------------------------------------------------------

    def _pass(self, stream: BoundStream) -> list[TapError]:
        """Reads the partitions that have not had their turn in this pass. What failed is given, not raised."""
        ended, parents = self._state.begin_pass(stream, self._clock.now()), _Parents()
        partitions = self._partitions(stream, parents, ended.began)
        waiting = [one for one in partitions if one.id > ended.through]
        if done := len(partitions) - len(waiting):
            log.info("%s: goes on after %d of %d partitions", stream.name, done, len(partitions))
        each = stream.declared.for_each
        if each is not None and each.batch is not None:
            waiting = list(batches(waiting, each.batch))
        errors = self._read(stream, waiting)
        self._state.end_pass(
            stream,
            (one.id for one in partitions),
            whole=not parents.errors,
            marks=parents.marks,
            parent=parents.replication,
        )
        self._write(stream, (), tell=True)
        return [*parents.errors, *errors]

    def _partitions(self, stream: BoundStream, parents: _Parents, began: float) -> list[Partition]:
        """What a stream is read once for each of, in the order of their ids; parents that can't be read are noted."""
        each = stream.declared.for_each
        if each is None or each.stream is None:
            return self._fixed(stream)
        parent, found = self._bound.streams[each.stream], {one.id: one for one in self._state.pending(stream)}
        above_all = self._partitions(parent, upper := _Parents(), began)
        parents.errors += upper.errors
        replication = parents.replication = parent.declared.replication if stream.declared.by_change else None
        for above in above_all:
            mark = self._state.mark(stream, above.id, replication)
            fed = self._fed.get((stream.name, above.id))
            if fed is None or fed.bookmark != mark:
                children, seen = self._collectors(parent, stream), None
                try:
                    for records, reader in self._walk(self._turn(parent, above, mark)):
                        for child in children.values():
                            child.add(reader.walk.recent(records, mark), above)
                        seen = reader.walk.bookmark(began) or seen
                except (Postponed, CredentialsRefused, RunAborted):
                    raise
                except TapError as error:
                    parents.errors.append(error)
                    continue
                for name, child in children.items():
                    self._fed[name, above.id] = _Fed(child, mark, seen)
                fed = self._fed[stream.name, above.id]
            found |= fed.children.found
            if fed.children.without:
                problem = f"{fed.children.without} records of {parent.name} lack a value of {', '.join(stream.wanted)}"
                parents.errors.append(UnexpectedPage(problem, where=stream.name))
            if fed.seen is not None:
                parents.marks[above.id] = fed.seen
        return [found[id_] for id_ in sorted(found)]

    def _fixed(self, stream: BoundStream) -> list[Partition]:
        """The one partition of a stream without any; those of a list or a setting."""
        each = stream.declared.for_each
        if each is None:
            return [WHOLE]
        found = each.fixed(stream.values.get(f"settings.{each.setting}"), stream.asked)
        return sorted(found, key=lambda one: one.id)

    def _turn(self, stream: BoundStream, partition: Partition, bookmark: str | int | None = None) -> Turn:
        """What there is to read of a partition: from its own bookmark, or from another one."""
        return Turn(
            stream,
            self._clock.now(),
            bookmark=bookmark,
            start_date=self._start_date,
            end_date=self._end_date,
            partition=partition,
        )

    def _walked(self, stream: BoundStream) -> Iterator[tuple[Sequence[bytes], Reader]]:
        """The records of a stream from its bookmarks on, batch by batch; nothing is written."""
        parents = _Parents()
        for partition in self._partitions(stream, parents, self._clock.now()):
            yield from self._walk(self._turn(stream, partition, self._state.bookmark(stream, partition)))
        if parents.errors:
            raise parents.errors[0]

    def _walk(self, turn: Turn) -> Iterator[tuple[Sequence[bytes], Reader]]:
        """The records of a turn, one request after another. Raises TapError where it ends incomplete."""
        while not turn.is_over:
            reader = reader_of(unit := turn.unit())
            try:
                end = yield from self._pages(reader)
            finally:
                self._abandon(reader)
            if end.reason == "result_cap" and turn.halved(unit):
                continue
            if not end.complete or reader.walk.missing():
                raise UnitIncomplete(f"ended incomplete: {end.reason}", where=unit.name)
            if not turn.completed(unit):
                return

    def _pages(self, reader: Reader) -> Generator[tuple[Sequence[bytes], Reader], None, End]:
        following: Request | End = reader.request
        while isinstance(following, Request):
            ask: Ask | None = reader.ask()
            while ask is not None:
                try:
                    answer = self.sending.fetch(ask)
                    ask = reader.take(answer)
                except TapError as error:
                    ask = reader.mended(error)
            for records in reader.records(answer):
                yield records, reader
            following = reader.following(answer)
            self._drain()
        return following

    def _abandon(self, reader: Reader) -> None:
        """Cleans up what a unit that is not read on has left on the server."""
        if (ask := reader.abandoned()) is not None:
            self.sending.fetch(ask)

    # --- turns, side by side ------------------------------------------------------------------------------------------

    def _read(self, stream: BoundStream, partitions: Iterable[Partition]) -> list[TapError]:
        """Gives each partition its turn, as many at once as limits allow; what failed is given, not raised."""
        errors: list[TapError] = []
        waiting, jobs = iter(partitions), list[_Job]()
        started, ended = deque[str](), set[str]()
        with _Threads(self.sending.side_by_side) as threads:
            while True:
                while len(jobs) < threads.count and (partition := next(waiting, None)) is not None:
                    jobs.append(self._job(stream, partition))
                    started.append(partition.id)
                if not jobs:
                    return errors
                job = self._next_ready(jobs, threads)
                try:
                    status = self._step(job)
                except Postponed:
                    raise
                except TapError as error:
                    status = "failed"
                    self._fail(job, error)
                    errors.append(error)
                if status:
                    self._state.turn(stream, job.turn.partition, job.turn.start, status)
                    jobs.remove(job)
                    ended.add(job.turn.partition.id)
                    while started and started[0] in ended:
                        self._state.passed(stream, started.popleft())
                    self._write(stream, ())
                if errors and self._pointless(errors[-1]):
                    raise errors[-1]

    def _job(self, stream: BoundStream, partition: Partition) -> _Job:
        turn = self._turn(stream, partition, self._state.bookmark(stream, partition))
        job = _Job(turn)
        if turn.lost is not None:
            since, floor = turn.lost
            log.warning("%s: what changed from %s to %s is beyond what the API keeps", turn.unit().name, since, floor)
        if not turn.is_over:
            self._begin(job, resume=True)
        self._tell_warnings()
        return job

    def _begin(self, job: _Job, *, resume: bool = False, token: bool = True) -> None:
        """Starts the next unit of a turn, where an earlier run was if it can."""
        unit, paginator = job.turn.unit(), job.turn.stream.declared.paginator
        checkpoint = self._state.resume(unit) if resume else None
        if checkpoint is not None:
            unit = msgspec.structs.replace(unit, began=checkpoint.began, start=checkpoint.start, until=checkpoint.until)
            log.info("%s: goes on after %s of an earlier run", unit.name, checkpoint.reached)
        known = self._state.token(unit) if token and isinstance(paginator, SyncTokenPaginator) else None
        job.reader = reader_of(unit, checkpoint, known, self._state.validators(unit))
        if resume and checkpoint is None:
            job.children = self._collectors(job.turn.stream)

    def _next_ready(self, jobs: Sequence[_Job], threads: _Threads) -> _Job:
        """A job whose next answer is there, after what may be sent has been sent."""
        for job in jobs:
            if job.reader is None:
                return job
            if not job.sent:
                ask, job.again = job.again or job.reader.ask(), None
                job.sent.append((ask.request, threads.submit(self.sending.fetch, ask)))
        free = threads.count - sum(len(job.sent) for job in jobs)
        for job in jobs:
            reader, under_way = job.reader, {request for request, _ in job.sent}
            if reader is None or free <= 0:
                continue
            for request in islice((one for one in reader.plan if one not in under_way), free):
                ask = Ask(reader.unit, request, page=reader.walk.evidence.pages + len(job.sent) + 1)
                job.sent.append((request, threads.submit(self.sending.fetch, ask)))
                free -= 1
        fronts = {job.sent[0][1]: job for job in jobs}
        done, _ = wait(fronts, return_when=FIRST_COMPLETED)
        return next(job for future, job in fronts.items() if future in done)

    def _step(self, job: _Job) -> str:
        """Takes the next answer of a job; `complete` or `skipped` when its turn is over. Raises TapError."""
        if (reader := job.reader) is None:
            log.info("%s: nothing to read from %s", job.turn.stream.name, job.turn.start)
            return "complete"
        stream, partition = job.turn.stream, job.turn.partition
        _, future = job.sent.popleft()
        try:
            answer = self._taken(reader, future)
        except RequestRefused as error:
            return self._refused(job, reader, error)
        if isinstance(answer, Ask):
            job.drop()
            job.again, self.summary.retries = answer, self.summary.retries + 1
            log.info("%s: %s; again in %.1f s", reader.unit.name, answer.again, answer.pause)
            return ""
        held: Sequence[bytes] | None = None
        for records in reader.records(answer):
            if held is not None:
                self._write(stream, held, tell=False)
            held = records
            for child in job.children.values():
                child.add(reader.walk.recent(records, job.turn.bookmark), partition)
        step = reader.phase in STEPS
        following = reader.following(answer)
        self._count(reader)
        self.summary.pages += not step
        if isinstance(following, End):
            self._write(stream, held or (), tell=False)
            return self._end(job, reader, following)
        self._state.proceed(reader.unit, following, reader.walk, now=self._clock.now(), errand=reader.errand)
        self._write(stream, held or (), tell=step or None)
        if job.sent and job.sent[0][0] != following:
            job.drop()
        self._note(reader)
        return ""

    @staticmethod
    def _taken(reader: Reader, future: Future[Answer]) -> Answer | Ask:
        """An answer that leads on, or what to ask again. Raises TapError."""
        try:
            answer = future.result()
            about.set(answer.about)
            return reader.take(answer) or answer
        except TapError as error:
            return reader.mended(error)

    def _end(self, job: _Job, reader: Reader, end: End) -> str:
        """Ends a unit. `complete` or `skipped` when the turn is over. Raises UnexpectedPage where it is not whole."""
        unit, walk, turn = reader.unit, reader.walk, job.turn
        if end.reason == "skip_partition":
            self._state.give_up(unit, walk.evidence, restart=True, skipped=True)
            log.warning("%s: left out: %s", unit.name, walk.evidence.given_up[-1])
            return "skipped"
        missing = walk.missing()
        if end.complete and not missing:
            bookmark = walk.bookmark(unit.began) if turn.window is None else unit.until
            self._state.complete(unit, walk, bookmark, token=end.token)
            self._note(reader, done=True)
            if turn.completed(unit):
                self._write(turn.stream, ())
                self._begin(job)
                return ""
            for name, children in job.children.items():
                self._fed[name, unit.partition.id] = _Fed(children, turn.bookmark, walk.bookmark(unit.began))
            return "complete"
        if end.reason == "result_cap" and turn.halved(unit):
            log.info("%s: more rows than the API gives at once: the window is cut in two", unit.name)
            self._begin(job)
            return ""
        problem = f"{missing:,} of {walk.evidence.declared_total:,} rows are missing" if missing else end.reason
        hint = "a window that can be cut needs a start and an end" if end.reason == "result_cap" else ""
        job.readings += 1
        if job.readings == READINGS or end.reason in ("max_pages", "result_cap"):
            walk.finish(problem)
            raise UnitIncomplete(f"ended incomplete: {problem}", where=unit.name, hint=hint)
        self._restart(job, reader, problem)
        return ""

    def _refused(self, job: _Job, reader: Reader, error: RequestRefused) -> str:
        """Begins a unit anew whose page in flight, or sync token, the API no longer knows; raises any other refusal."""
        paginator = job.turn.stream.declared.paginator
        first = reader.resumed_at is not None and reader.walk.evidence.pages == reader.resumed_at
        expired = reader.uses_token and isinstance(paginator, SyncTokenPaginator) and error.status in paginator.expired
        if isinstance(error, CredentialsRefused) or job.readings or not (first or expired):
            raise error
        job.readings += 1
        self._restart(job, reader, "the token has expired" if expired else "resume_refused")
        return ""

    def _restart(self, job: _Job, reader: Reader, problem: str) -> None:
        log.warning("%s: %s: it is read again from its start", reader.unit.name, problem)
        job.drop()
        self._abandon(reader)
        job.reader = reader_of(reader.unit)

    def _fail(self, job: _Job, error: TapError) -> None:
        """Notes that a turn ends here. What is written stays, nothing is confirmed."""
        job.drop()
        if (reader := job.reader) is None:
            return
        self._count(reader)
        evidence, anew = reader.walk.evidence, isinstance(error, PaginationLoop | UnitIncomplete | JobFailed)
        request = reader.unit.request if reader.errand or isinstance(error, UnitIncomplete) else reader.request
        if not isinstance(error, UnitIncomplete):
            reader.walk.finish(self._redactor.text(error.problem)[:200])
        given_up = self.sending.given_up(reader.unit, request, error.problem, error.about.get("status"))
        evidence.given_up = [*evidence.given_up, given_up][-MOST_NAMED:]
        self._state.give_up(reader.unit, evidence, restart=anew)
        if reader.unit.partition.id:
            log.error("%s", self.sending.said(reader.unit.name, error), extra=error.about)

    # --- what is told -------------------------------------------------------------------------------------------------

    def _write(self, stream: BoundStream, records: Sequence[bytes], *, tell: bool | None = None) -> None:
        """Writes records, and the STATE behind them: always with `tell`, never without, else unless it is too heavy."""
        now = self._clock.monotonic()
        due = self._weight <= LIGHT_STATE or now - self._stated >= 1.0
        state = b""
        self._untold = True
        if tell or (tell is None and due):
            state = state_line(self._state.value())
            self._weight, self._stated, self._untold = len(state), now, False
        self.summary.records += len(records)
        self._lane.page(stream, records, self._clock.now(), state)

    def _count(self, reader: Reader) -> None:
        """Adds the requests sent since to the evidence."""
        self._drain()
        reader.walk.evidence.requests += self._requests.pop(reader.unit.name, 0)

    def _drain(self) -> None:
        """Takes note of what has been sent, by whatever thread, and writes it to the stream `requests`."""
        rows = list[bytes]()
        while self._attempts:
            attempt = self._attempts.popleft()
            self.summary.add(attempt)
            self._requests[attempt.unit] += 1
            if self._request_log:
                rows.append(record(attempt, self._redactor))
        if rows:
            self._lane.page(REQUESTS, rows, self._clock.now(), b"")

    def _tell_warnings(self) -> None:
        for warning in self._state.told():
            log.warning("%s", warning)

    def _note(self, reader: Reader, *, done: bool = False) -> None:
        """Progress, for people: now and then, and at the end of a stream that has no partitions."""
        evidence, now = reader.walk.evidence, self._clock.monotonic()
        for warning in reader.walk.warned:
            if (told := (reader.unit.stream.name, warning)) not in self._told:
                self._told.add(told)
                log.warning("%s: %s", reader.unit.name, self._redactor.text(warning))
        reader.walk.warned.clear()
        if (done and not reader.unit.partition.id) or now - self._progress >= PROGRESS_EVERY:
            self._progress = now
            said = f"complete ({evidence.reason})" if done else "reading"
            counts = f"{evidence.records:,} records on {evidence.pages:,} pages"
            log.info("%s: %s, %s", reader.unit.name, said, counts)

    def _collectors(self, parent: BoundStream, *more: BoundStream) -> dict[str, Children]:
        """By its name, what collects the partitions of each selected stream, and of these, that has this parent."""
        return {
            child.name: Children(each.name, child.wanted, child.asked)
            for child in (*self._selected, *more)
            if (each := child.declared.for_each) and each.stream == parent.name
        }

    def _depth(self, stream: BoundStream) -> int:
        each = stream.declared.for_each
        return 0 if each is None or each.stream is None else 1 + self._depth(self._bound.streams[each.stream])

    def _pointless(self, error: TapError) -> bool:
        """Whether no other stream would fare better."""
        unreached = isinstance(error, TransportError) and error.kind in ("connect", "tls", "request")
        return isinstance(error, CredentialsRefused | RunAborted) or (unreached and not self.sending.reached)
