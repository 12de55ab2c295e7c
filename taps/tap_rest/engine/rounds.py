"""The turns of a stream's partitions, as many side by side as limits allow; all but the sending is done by one thread.

turn → unit → Reader.ask → Sending, in a thread → Reader.take → records → STATE → following | End
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Self

import msgspec

from tap_rest.engine.attempts import about
from tap_rest.engine.evidence import MOST_NAMED
from tap_rest.engine.job_reader import JobFailed, reader_of
from tap_rest.engine.memory import utc
from tap_rest.engine.parents import Parents
from tap_rest.engine.reader import Reader
from tap_rest.engine.sending import Answer, Ask, Sending
from tap_rest.engine.signals import Waiter
from tap_rest.engine.state import State
from tap_rest.engine.telling import Teller
from tap_rest.engine.turns import Turn, Turns
from tap_rest.errors import (
    CredentialsRefused,
    PaginationLoop,
    Postponed,
    RequestRefused,
    TapError,
    UnitIncomplete,
)
from tap_rest.language.declaration import BoundStream
from tap_rest.language.jobs import STEPS
from tap_rest.language.paginators import SyncTokenPaginator
from tap_rest.language.paging import End
from tap_rest.language.partitions import Children, Partition
from tap_rest.request import Request

READINGS = 4

log = logging.getLogger(__name__)


class _Threads:
    """Runs calls, at most `count` at a time; a single one in the caller's own thread.

    What ends the block by an error ends the run, so then no call waits any longer by `clock`.
    """

    def __init__(self, count: int, clock: Waiter) -> None:
        self.count, self._clock = count, clock
        self._pool = ThreadPoolExecutor(count) if count > 1 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._pool is not None:
            if kind is not None:
                self._clock.abandon()
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


class _Task:
    """A turn in progress.

    Attributes:
        turn: Whose.
        reader: Of its present unit; None where there is nothing to read.
        sent: Its requests that are under way, in order; all but the first are guesses.
        again: What to ask once more.
        readings: How often the present unit has been read anew.
        children: Collect the partitions of its children, by their names.
        seen: The bookmark of its records so far.
    """

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.reader: Reader | None = None
        self.sent: deque[tuple[Request, Future[Answer]]] = deque()
        self.again: Ask | None = None
        self.readings = 0
        self.children: dict[str, Children] = {}
        self.seen: str | int | None = None

    @property
    def until(self) -> str:
        """Up to where its last unit reads."""
        unit = self.turn.unit() if self.reader is None else self.reader.unit
        return unit.until or utc(unit.began)

    def drop(self) -> None:
        """Forgets what was guessed."""
        for _, future in self.sent:
            future.cancel()
        self.sent.clear()


class Rounds:
    """Gives partitions their turns.

    Args:
        state: Where each goes on, and where the way is noted.
        sending: Sends the requests.
        teller: Writes what comes.
        turns: Makes turns.
        parents: Takes the partitions that records make.
        clock: Tells when.
    """

    def __init__(
        self, state: State, sending: Sending, teller: Teller, turns: Turns, parents: Parents, clock: Waiter
    ) -> None:
        self._state, self._sending, self._teller = state, sending, teller
        self._turns, self._parents, self._clock = turns, parents, clock

    def read(self, stream: BoundStream, partitions: Iterable[Partition]) -> list[TapError]:
        """Reads all that there is of these partitions. What failed is given, what makes the rest pointless raised."""
        errors: list[TapError] = []
        waiting, tasks = iter(partitions), list[_Task]()
        started, ended = deque[str](), set[str]()
        with _Threads(self._sending.side_by_side, self._clock) as threads:
            while True:
                while len(tasks) < threads.count and (partition := next(waiting, None)) is not None:
                    tasks.append(self._task(stream, partition))
                    started.append(partition.id)
                if not tasks:
                    return errors
                task = self._next_ready(tasks, threads)
                try:
                    status = self._step(task)
                except Postponed:
                    raise
                except TapError as error:
                    status = "failed"
                    self._fail(task, error)
                    errors.append(error)
                if status:
                    self._state.turn(stream, task.turn.partition, task.turn.start, task.until, status)
                    tasks.remove(task)
                    ended.add(task.turn.partition.id)
                    while started and started[0] in ended:
                        self._state.passed(stream, started.popleft())
                    self._teller.write(stream, ())
                if errors and self._sending.is_pointless(errors[-1]):
                    raise errors[-1]

    def _task(self, stream: BoundStream, partition: Partition) -> _Task:
        turn = self._turns.turn(stream, partition, self._state.bookmark(stream, partition))
        task = _Task(turn)
        if turn.lost is not None:
            since, floor = turn.lost
            log.warning("%s: what changed from %s to %s is beyond what the API keeps", turn.unit().name, since, floor)
        if not turn.is_over:
            self._begin(task, resume=True)
        self._teller.warn()
        return task

    def _begin(self, task: _Task, *, resume: bool = False) -> None:
        """Starts the next unit of a turn, where an earlier run was if it can."""
        task.drop()
        unit, paginator = task.turn.unit(), task.turn.stream.declared.paginator
        checkpoint = self._state.resume(unit) if resume else None
        if checkpoint is not None:
            unit = msgspec.structs.replace(unit, began=checkpoint.began, start=checkpoint.start, until=checkpoint.until)
            log.info("%s: goes on after %s of an earlier run", unit.name, checkpoint.reached)
        task.readings = 0
        known = self._state.token(unit) if isinstance(paginator, SyncTokenPaginator) else None
        task.reader = reader_of(unit, checkpoint, known, self._state.validators(unit))
        if resume and checkpoint is None:
            task.children = self._parents.collectors(task.turn.stream)

    def _next_ready(self, tasks: Sequence[_Task], threads: _Threads) -> _Task:
        """A task whose next answer is there, after what may be sent has been sent."""
        for task in tasks:
            if task.reader is None:
                return task
            if not task.sent:
                ask, task.again = task.again or task.reader.ask(), None
                task.sent.append((ask.request, threads.submit(self._sending.fetch, ask)))
        free = threads.count - sum(len(task.sent) for task in tasks)
        for task in tasks:
            reader, under_way = task.reader, {request for request, _ in task.sent}
            if reader is None or free <= 0:
                continue
            for request in islice((one for one in reader.plan if one not in under_way), free):
                ask = Ask(reader.unit, request, page=reader.walk.evidence.pages + len(task.sent) + 1)
                task.sent.append((request, threads.submit(self._sending.fetch, ask)))
                free -= 1
        fronts = {task.sent[0][1]: task for task in tasks}
        done, _ = wait(fronts, return_when=FIRST_COMPLETED)
        return next(task for future, task in fronts.items() if future in done)

    def _step(self, task: _Task) -> str:
        """Takes the next answer of a task; `complete` or `skipped` when its turn is over. Raises TapError."""
        if (reader := task.reader) is None:
            log.info("%s: nothing to read from %s", task.turn.stream.name, task.turn.start)
            return "complete"
        stream = task.turn.stream
        _, future = task.sent.popleft()
        try:
            answer = self._taken(reader, future)
        except RequestRefused as error:
            return self._refused(task, reader, error)
        if isinstance(answer, Ask):
            task.drop()
            task.again, self._teller.summary.retries = answer, self._teller.summary.retries + 1
            log.info("%s: %s; again in %.1f s", reader.unit.name, answer.again, answer.pause)
            return ""
        held: Sequence[bytes] | None = None
        for records in reader.records(answer):
            if held is not None:
                self._teller.write(stream, held, tell=False)
            held = records
            self._parents.collect(task.children, reader, records)
        step = reader.phase in STEPS
        following = reader.following(answer)
        reader.walk.evidence.requests += self._teller.sent(reader.unit.name)
        self._teller.summary.pages += not step
        if isinstance(following, End):
            self._teller.write(stream, held or (), tell=False)
            return self._end(task, reader, following)
        self._state.proceed(reader.unit, following, reader.walk, now=self._clock.now(), errand=reader.errand)
        self._teller.write(stream, held or (), tell=step or None)
        if task.sent and task.sent[0][0] != following:
            task.drop()
        self._teller.note(reader)
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

    def _end(self, task: _Task, reader: Reader, end: End) -> str:
        """Ends a unit. `complete` or `skipped` when the turn is over. Raises UnitIncomplete where it is not whole."""
        unit, walk, turn = reader.unit, reader.walk, task.turn
        if end.reason == "skip_partition":
            self._state.give_up(unit, walk.evidence, restart=True, skipped=True)
            log.warning("%s: left out: %s", unit.name, walk.evidence.given_up[-1].reason)
            return "skipped"
        missing = walk.missing()
        walk.evidence.changes_only |= end.reason == "not_modified"
        if end.complete and not missing:
            bookmark = walk.bookmark(unit.began) if turn.window is None else unit.until
            self._state.complete(unit, walk, bookmark, token=end.token)
            self._teller.note(reader, done=True)
            task.seen = walk.bookmark(unit.began) or task.seen
            if turn.completed(unit):
                self._teller.write(turn.stream, ())
                self._begin(task)
                return ""
            if not walk.evidence.changes_only:
                self._parents.feed(task.children, turn, task.seen)
            return "complete"
        if end.reason == "result_cap" and turn.halved(unit):
            log.info("%s: more rows than the API gives at once: the window is cut in two", unit.name)
            self._begin(task)
            return ""
        problem = f"{missing:,} of {walk.evidence.declared_total:,} rows are missing" if missing else end.reason
        hint = "a window that can be cut needs a start and an end" if end.reason == "result_cap" else ""
        if task.readings + 1 == READINGS or end.reason in ("max_pages", "result_cap"):
            walk.finish(problem)
            raise UnitIncomplete(f"ended incomplete: {problem}", where=unit.name, hint=hint)
        return self._restart(task, reader, problem)

    def _refused(self, task: _Task, reader: Reader, error: RequestRefused) -> str:
        """Begins a unit anew whose page in flight, or sync token, the API no longer knows; raises any other refusal."""
        paginator = task.turn.stream.declared.paginator
        first = reader.resumed_at is not None and reader.walk.evidence.pages == reader.resumed_at
        expired = reader.uses_token and isinstance(paginator, SyncTokenPaginator) and error.status in paginator.expired
        if isinstance(error, CredentialsRefused) or task.readings or not (first or expired):
            raise error
        return self._restart(task, reader, "the token has expired" if expired else "resume_refused")

    def _restart(self, task: _Task, reader: Reader, problem: str) -> str:
        log.warning("%s: %s: it is read again from its start", reader.unit.name, problem)
        task.drop()
        task.readings += 1
        if (ask := reader.abandoned()) is not None:
            self._sending.fetch(ask)
        task.reader = reader_of(reader.unit)
        return ""

    def _fail(self, task: _Task, error: TapError) -> None:
        """Notes that a turn ends here. What is written stays, nothing is confirmed."""
        task.drop()
        if (reader := task.reader) is None:
            return
        unit, evidence = reader.unit, reader.walk.evidence
        evidence.requests += self._teller.sent(unit.name)
        anew = isinstance(error, PaginationLoop | UnitIncomplete | JobFailed)
        request = unit.request if reader.errand or isinstance(error, UnitIncomplete) else reader.request
        given_up = self._sending.given_up(unit, request, error.problem, error.about.get("status"))
        if not isinstance(error, UnitIncomplete):
            reader.walk.finish(given_up.reason)
        evidence.given_up = [*evidence.given_up, given_up][-MOST_NAMED:]
        self._state.give_up(unit, evidence, restart=anew)
        self._teller.note(reader)
        if unit.partition.id:
            log.error("%s", self._sending.said(unit.name, error), extra=error.about)
