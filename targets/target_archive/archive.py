"""An archive for reading: its sources, streams, days and lines, and whether they are as they were written.

Reading takes no lock and needs no index. Every file that is read is checked against the commit log.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import msgspec

from target_archive import coverage, layout
from target_archive.coverage import Gap
from target_archive.errors import CorruptArchive, FormatError
from target_archive.log import Log
from target_archive.reading import DayReader, open_log
from target_archive.storage import storage_of
from target_archive.views import head


class _Format(msgspec.Struct):
    source: str


class Finding(msgspec.Struct, frozen=True):
    """What `verify` found wrong: a path below the root, and the problem."""

    path: str
    problem: str


def sources(root: str | Path) -> list[str]:
    """Names of the sources below a root, sorted. Raises FormatError where there is no archive."""
    storage = storage_of(root)
    formats = [storage.read(layout.meta(name, "format.json")) for name in storage.names("")]
    found = [msgspec.json.decode(one, type=_Format).source for one in formats if one is not None]
    if not found:
        raise FormatError("no archive here", where=str(root), hint="point --root or DAYKEEP_ROOT at one")
    return sorted(found)


class Archive:
    """One source of an archive, as it stood when it was opened.

    Raises CorruptArchive where the commit log cannot be trusted.
    """

    def __init__(self, root: str | Path, source: str) -> None:
        self._storage = storage_of(root)
        self.source = source
        self.log = self._open()

    def _open(self) -> Log:
        return open_log(self._storage, layout.safe_name(self.source))

    def streams(self) -> list[str]:
        return sorted(name for name in self.log.streams if name != layout.DEAD_LETTERS)

    def days(self, stream: str) -> list[str]:
        """Days with at least one record, `YYYY-MM-DD`, sorted."""
        return sorted({*self.log.days(stream), *self.log.same.get(stream, {})})

    def lines(self, stream: str, day: str | None = None) -> Iterator[bytes]:
        """The lines of a day, or of every day and then the undated ones, each the record's own bytes."""
        days = [day] if day else [*self.log.days(stream), layout.UNDATED]
        for one in days:
            yield from self._read_day(stream, one)

    def view(self, stream: str, day: str, *, as_of: str | None = None) -> list[bytes]:
        """The records of a day as they stand: of each key the latest version, without what is gone.

        With `as_of`, a time in UTC as the commits have it, as they stood then; else a pin of the day goes first. A day
        whose snapshot equalled an earlier day's has that day's records.
        """
        held = self.log.day(stream, day)
        seq = self.log.seq_at(as_of) if as_of is not None else held.pin or None
        if not held.lines(seq):
            since, earlier = self.log.same.get(stream, {}).get(day, (0, ""))
            known = earlier and (seq is None or since <= seq)
            return self.view(stream, earlier, as_of=self.log.times[since - 1]) if known else []
        lines = self._read_day(stream, day)[: held.lines(seq)]
        return head(lines, self.log.streams[stream].key_properties, held.gone_lines(seq))

    def _read_day(self, stream: str, day: str) -> list[bytes]:
        while True:
            try:
                return DayReader(self._storage, self.log).lines(stream, day)
            except CorruptArchive:
                former, self.log = self.log.seq, self._open()
                if self.log.seq == former:
                    raise  # nobody has written meanwhile: it is as bad as it looks

    def count(self, stream: str) -> int:
        """How many lines a stream has, undated ones included."""
        return sum(self.log.lines_of(stream, day) for day in [*self.log.days(stream), layout.UNDATED])

    def dead_letters(self) -> Iterator[bytes]:
        """What could not be archived as a record: JSON objects with `at`, `reason`, and `line` or `line_base64`."""
        yield from self.lines(layout.DEAD_LETTERS)

    def statuses(self, stream: str, today: date | None = None) -> dict[str, str]:
        """See `coverage.day_statuses`."""
        return coverage.day_statuses(self.log, stream, today or datetime.now(UTC).date())

    def gaps(self, stream: str, today: date | None = None) -> list[Gap]:
        """See `coverage.gaps`."""
        return coverage.gaps(self.log, stream, today or datetime.now(UTC).date())

    def verify(self) -> Iterator[Finding]:
        """Everything that is not as the commit log says; the log itself is checked by reading it.

        While a run is writing, look again at what is found: files change their places meanwhile.
        """
        self.log = self._open()
        days, files = DayReader(self._storage, self.log), list(self.log.files)
        for file in files:
            path = self.log.path(file)
            try:
                days.file(file)
            except CorruptArchive as error:
                yield Finding(path, error.problem)
            else:
                if self._storage.size(path) != file.size:
                    yield Finding(path, "has grown since it was written")
        for seq, segment in (one for segments in self.log.pending.values() for one in segments):
            try:
                days.segment(seq, segment)
            except CorruptArchive as error:
                yield Finding(error.where, error.problem)
        yield from self._strangers({self.log.path(file) for file in files})

    def _strangers(self, known: set[str]) -> Iterator[Finding]:
        for folder in sorted({self.log.folder(stream) for stream in self.log.streams}):
            for name in self._storage.names(folder):
                if f"{folder}/{name}" not in known and not name.endswith(".tmp"):
                    yield Finding(f"{folder}/{name}", "is not in the commit log")
