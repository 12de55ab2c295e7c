"""The engine: all streams of a run, parents before their children.

    stream → partitions (parents) → turns, side by side (rounds) → units (reader) → requests (sending) → lines (telling)

A unit is complete only with terminal evidence; only then does its bookmark move. A page is written once it is whole, so
what is retried is always a whole request, and a run that is killed repeats at most one page of each unit it was in.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress

from tap_rest.engine.attempts import REQUESTS, about
from tap_rest.engine.checkpoint import Unit
from tap_rest.engine.evidence import Walk
from tap_rest.engine.job_reader import reader_of
from tap_rest.engine.messages import Lane
from tap_rest.engine.parents import Parents
from tap_rest.engine.reader import Reader
from tap_rest.engine.rounds import Rounds
from tap_rest.engine.sending import Sending
from tap_rest.engine.signals import Waiter
from tap_rest.engine.state import State
from tap_rest.engine.telling import Teller
from tap_rest.engine.transport import Sender
from tap_rest.engine.turns import Turns
from tap_rest.errors import Postponed, TapError, UnexpectedPage
from tap_rest.language.declaration import Bound, BoundStream
from tap_rest.language.partitions import WHOLE, Partition, batches
from tap_rest.limits.books import OwnBooks
from tap_rest.redaction import Redactor
from tap_rest.request import Request

log = logging.getLogger(__name__)


class RunIncomplete(TapError):
    """Some streams (status 3) or all of them (status 1) failed; each has said why."""

    def __init__(self, failed: Sequence[str], total: int) -> None:
        super().__init__(f"{len(failed)} of {total} streams failed: {', '.join(failed)}")
        self.exit_status = 1 if len(failed) == total else 3  # type: ignore[misc]  # of this run, not of the class


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
        self._state, self._clock, self._limit = state, clock, limit
        redactor = redactor or Redactor(bound.secrets)
        self._teller = Teller(state, lane, clock, redactor)
        self.summary = self._teller.summary
        self.sending = Sending(
            bound,
            state=state,
            clock=clock,
            transport=transport,
            redactor=redactor,
            max_wait=max_wait,
            token_store=token_store,
            books=books,
            tell=self._teller.attempts.append,
        )
        self._turns = Turns(clock, start_date, end_date)
        self._parents = Parents(bound, state, self.sending, self._teller, self._turns)
        self._rounds = Rounds(state, self.sending, self._teller, self._turns, self._parents, clock)

    def run(self, streams: Sequence[BoundStream], *, request_log: bool = False) -> None:
        """Reads the streams; one that fails never stops the others. With `request_log` it writes `requests` as well.

        Raises RunIncomplete at the end if some failed, at once Postponed, Interrupted, BrokenPipeError and what makes
        the rest pointless.
        """
        self.summary.streams, self._parents.selected = len(streams), streams
        self._teller.request_log = request_log
        if request_log:
            self._teller.begin(REQUESTS)
        try:
            for stream in sorted(streams, key=self._parents.depth):
                about.set({"stream_name": stream.name})
                self._teller.begin(stream)
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
                    if self.sending.is_pointless(error):
                        raise self.sending.masked(error) from None
                    log.error("%s", self.sending.said(stream.name, error), extra=error.about)  # noqa: TRY400 - for people, who need no traceback
        finally:
            with suppress(BrokenPipeError):  # it has been noticed where records were written
                self._teller.drain()
            about.set({})
            self.summary.tell()
        if self.summary.failed:
            raise RunIncomplete(self.summary.failed, len(streams))

    def sync(self, stream: BoundStream) -> None:
        """Reads all of a stream that there is to read. Raises TapError when it is not whole."""
        try:
            errors = self._rounds.read(stream, [WHOLE]) if stream.declared.for_each is None else self._pass(stream)
        finally:
            self._teller.settle(stream)
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
            self._teller.write(stream, few, tell=False)
            if shown.evidence.records >= limit:
                break
        shown.evidence.requests = self._teller.sent(unit.name)
        shown.finish("limit")
        self._state.give_up(unit, shown.evidence, restart=False)
        self._teller.write(stream, (), tell=True)

    def records(self, stream: BoundStream) -> Iterator[bytes]:
        """The records of a stream from its bookmark on, for those who write them themselves."""
        for records, _ in self._walked(stream):
            yield from map(bytes, records)

    def first(self, stream: BoundStream) -> Request | None:
        """The first request of a stream from its bookmark on; None where there is nothing to read.

        A value that only a parent's record has is shown as its name.
        """
        each = stream.declared.for_each
        partition = next(iter(self._parents.fixed(stream)), WHOLE)
        if each is not None and each.stream is not None:
            partition = Partition({name: f"<{name}>" for name in stream.wanted})
        turn = self._turns.turn(stream, partition, self._state.bookmark(stream, partition))
        return None if turn.is_over else reader_of(turn.unit()).request

    def _pass(self, stream: BoundStream) -> list[TapError]:
        """Reads the partitions that have not had their turn in this pass. What failed is given, not raised."""
        ended = self._state.begin_pass(stream, self._clock.now())
        found = self._parents.find(stream)
        waiting = [one for one in found.partitions if one.id > ended.through]
        if done := len(found.partitions) - len(waiting):
            log.info("%s: goes on after %d of %d partitions", stream.name, done, len(found.partitions))
        each = stream.declared.for_each
        if each is not None and each.batch is not None:
            waiting = list(batches(waiting, each.batch))
        errors = self._rounds.read(stream, waiting)
        known = (one.id for one in found.partitions)
        self._state.end_pass(stream, known, whole=not found.errors, marks=found.marks, parent=found.replication)
        self._teller.write(stream, (), tell=True)
        return [*found.errors, *errors]

    def _walked(self, stream: BoundStream) -> Iterator[tuple[Sequence[bytes], Reader]]:
        """The records of a stream from its bookmarks on, batch by batch; nothing is written."""
        found = self._parents.find(stream)
        for partition in found.partitions:
            bookmark = self._state.bookmark(stream, partition)
            yield from self._parents.walk(self._turns.turn(stream, partition, bookmark))
        if found.errors:
            raise found.errors[0]
