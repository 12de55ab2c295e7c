"""What a person sees of a run: a moving table on a terminal, a plain line every few seconds on a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

import msgspec
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PLAIN_SECONDS = 5.0


class Counts(msgspec.Struct, frozen=True):
    """Records of a stream that a run has received, and how many of them the archive held already."""

    received: int
    repeats: int

    def __str__(self) -> str:
        return f"{self.received:,}" + (f" ({self.repeats:,} already held)" if self.repeats else "")


class Watcher(Protocol):
    """Is told what happens in a run, by several threads."""

    def line(self, text: str) -> None:
        """A log line of the tap or the target."""

    def progress(self, counts: Mapping[str, Counts]) -> None:
        """What has been archived so far, per stream."""


def printable(text: str) -> str:
    """The text with control characters made visible: what a stranger wrote must not steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def say(text: str) -> None:
    """Write a line of our own to standard error, if it is still there."""
    with suppress(OSError):
        sys.stderr.write(f"daykeep: {text}\n")
        sys.stderr.flush()


def summary(counts: Mapping[str, Counts]) -> str:
    return " · ".join(f"{printable(stream)} {count}" for stream, count in counts.items()) or "no records"


class PlainWatcher:
    """Writes lines."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PLAIN_SECONDS

    def line(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def progress(self, counts: Mapping[str, Counts]) -> None:
        if counts and time.monotonic() >= self._next:
            self._next = time.monotonic() + _PLAIN_SECONDS
            self.line(f"records: {summary(counts)}")


class MovingWatcher:
    """Keeps a line per stream below the log lines."""

    def __init__(self, table: Progress) -> None:
        self._table = table
        self._rows: dict[str, TaskID] = {}

    def line(self, text: str) -> None:
        self._table.console.print(Text(text), soft_wrap=True)

    def progress(self, counts: Mapping[str, Counts]) -> None:
        for stream, count in counts.items():
            if stream not in self._rows:
                self._rows[stream] = self._table.add_task(printable(stream), total=None, count="")
            self._table.update(self._rows[stream], completed=count.received, count=str(count))


@contextmanager
def watching() -> Iterator[Watcher]:
    """The watcher that suits standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainWatcher()
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - slow to load

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[count]}", justify="right", markup=False),
        TimeElapsedColumn(),
    )
    table = Progress(*columns, console=console)
    with suppress(OSError):
        table.start()
    try:
        yield MovingWatcher(table)
    finally:
        with suppress(OSError):  # the terminal may be gone
            table.stop()
