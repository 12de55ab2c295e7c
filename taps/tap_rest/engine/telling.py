"""What a run tells: RECORD lines and STATE, the stream `requests`, warnings and progress; one thread alone writes."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Sequence

from tap_rest.engine.attempts import REQUESTS, Attempt, Summary, record
from tap_rest.engine.messages import Lane, state_line
from tap_rest.engine.reader import Reader
from tap_rest.engine.signals import Waiter
from tap_rest.engine.state import State
from tap_rest.language.declaration import BoundStream
from tap_rest.redaction import Redactor

PROGRESS_EVERY = 5.0
LIGHT_STATE = 16 * 1024
"""Bytes of a STATE line up to which every page is followed by one; a heavier one is written once a second at most."""

log = logging.getLogger(__name__)


class Teller:
    """Tells what happens in a run.

    Args:
        state: What STATE lines hold.
        lane: Takes the records.
        clock: Says when a heavy STATE, or progress, is due.
        redactor: Masks secrets.

    Attributes:
        attempts: What was sent and has not been told yet; any thread may append to it.
        request_log: Whether the stream `requests` is written.
        summary: Of the run.
    """

    def __init__(self, state: State, lane: Lane, clock: Waiter, redactor: Redactor) -> None:
        self._state, self._lane, self._clock, self._redactor = state, lane, clock, redactor
        self.attempts: deque[Attempt] = deque()
        self.request_log = False
        self.summary = Summary()
        self._requests: Counter[str] = Counter()
        self._warned: set[tuple[str, str]] = set()
        self._progress = self._stated = clock.monotonic()
        self._weight = 0
        self._untold = False

    def begin(self, stream: BoundStream) -> None:
        """Writes a stream's SCHEMA."""
        self._lane.begin(stream)

    def write(self, stream: BoundStream, records: Sequence[bytes], *, tell: bool | None = None) -> None:
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

    def settle(self, stream: BoundStream) -> None:
        """Writes the STATE that was too heavy for the last page."""
        self.warn()
        if self._untold:
            self.write(stream, (), tell=True)

    def drain(self) -> None:
        """Takes note of what has been sent, by whatever thread, and writes it to the stream `requests`."""
        rows = list[bytes]()
        while self.attempts:
            attempt = self.attempts.popleft()
            self.summary.add(attempt)
            self._requests[attempt.unit] += 1
            if self.request_log:
                rows.append(record(attempt, self._redactor))
        if rows:
            self._lane.page(REQUESTS, rows, self._clock.now(), b"")

    def sent(self, unit: str) -> int:
        """How many requests have been sent for a unit since this was asked last."""
        self.drain()
        return self._requests.pop(unit, 0)

    def warn(self) -> None:
        """Tells what could not be understood in STATE."""
        for warning in self._state.told():
            log.warning("%s", warning)

    def note(self, reader: Reader, *, done: bool = False) -> None:
        """Warnings of a unit, each once for its stream; progress now and then, and where a stream has no partitions."""
        evidence, now, unit = reader.walk.evidence, self._clock.monotonic(), reader.unit
        for warning in reader.walk.warned:
            if (unit.stream.name, warning) not in self._warned:
                self._warned.add((unit.stream.name, warning))
                log.warning("%s: %s", unit.name, self._redactor.text(warning))
        reader.walk.warned.clear()
        if (done and not unit.partition.id) or now - self._progress >= PROGRESS_EVERY:
            self._progress = now
            said = f"complete ({evidence.reason})" if done else "reading"
            log.info("%s: %s, %s records on %s pages", unit.name, said, f"{evidence.records:,}", f"{evidence.pages:,}")
