"""Signals as a flag, and the waits that they cut short.

Stands beside the engine: a first SIGTERM or SIGINT lets the page in flight be finished and its STATE be written, a
second one ends the process at once. Nothing is written in a handler.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """The run was asked to end; everything before it is written."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_status = 128 + signum


class Abandoned(Exception):
    """The run has ended while this thread waited."""


class Waiter:
    """The clock that the engine waits by.

    Args:
        reader: A file descriptor of a pipe that is written to; when its reader goes away, a wait ends.
    """

    def __init__(self, reader: int | None = None) -> None:
        self._signum, self._abandoned = 0, False
        self._wake, self._knock = os.pipe()
        self._reader = reader

    def close(self) -> None:
        os.close(self._wake)
        os.close(self._knock)

    def now(self) -> float:
        """Wall clock, seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def check(self) -> None:
        """Raises Interrupted after a signal."""
        if self._signum:
            raise Interrupted(self._signum)

    def abandon(self) -> None:
        """Ends all waits, in whatever thread."""
        self._abandoned = True
        os.write(self._knock, b"!")

    def wait(self, seconds: float) -> None:
        """Sleeps.

        Raises Interrupted on a signal, Abandoned after `abandon`, BrokenPipeError when nobody reads our output.
        """
        end = self.monotonic() + seconds
        poll = select.poll()  # one for each wait: several threads may wait at a time
        poll.register(self._wake, select.POLLIN)
        if self._reader is not None:
            poll.register(self._reader, 0)
        while (left := end - self.monotonic()) > 0:
            self.check()
            if self._abandoned:
                raise Abandoned
            ready = [fd for fd, _ in poll.poll(min(left, 86400) * 1000)]
            if ready and ready != [self._wake]:
                raise BrokenPipeError
        self.check()

    @contextmanager
    def catching(self) -> Iterator[None]:
        """While open, signals set the flag; only the main thread can do so, others leave signals as they are."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {signum: signal.signal(signum, self._handle) for signum in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _handle(self, signum: int, _: FrameType | None) -> None:
        if self._signum:
            os._exit(128 + signum)
        self._signum = signum
        os.write(self._knock, b"!")
