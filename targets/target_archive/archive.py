"""An archive for reading: its sources, streams, days and lines, and whether they are as they were written.

Reading takes no lock and needs no index. Every file that is read is checked against the commit log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from pathlib import Path

import msgspec

from target_archive import integrity, layout
from target_archive.commit import StreamFacts
from target_archive.coverage import Coverage, Status, Stretch
from target_archive.errors import BadSettings, CorruptArchive, FormatError, NotHeld
from target_archive.integrity import Finding
from target_archive.log import Held, Log
from target_archive.quality import Policy, Revision, chosen, revisions
from target_archive.reading import DayReader, open_log, read_commit
from target_archive.storage import storage_of
from target_archive.views import Diff, Version, diff, first, head, versions

AsOf = datetime | date | str | int
"""A time, a day or the number of a commit; see `Archive.commit_at`."""

_DIGITS = re.compile("[0-9]+")


class _Format(msgspec.Struct):
    source: str


def sources(root: str | Path) -> list[str]:
    """Names of the sources below a root, sorted. Raises FormatError where there is no archive."""
    storage = storage_of(root)
    found = []
    for folder in storage.names(""):
        if (data := storage.read(layout.meta(folder, "format.json"))) is not None:
            try:
                found.append(msgspec.json.decode(data, type=_Format).source)
            except msgspec.DecodeError:  # `verify` tells it, `repair` mends it
                found.append(integrity.name_of(folder) or folder)
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
        self._runs: dict[int, str] = {}

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
            yield from self._read_day(stream, one)[1]

    def view(self, stream: str, day: str, *, as_of: AsOf | None = None, policy: Policy = "latest") -> list[bytes]:
        """The records of a day as they stand: of each key the latest version, without what is gone.

        Args:
            stream: Its name.
            day: `YYYY-MM-DD` or `undated`; a day of which nothing is held has no records.
            as_of: As they stood then, see `commit_at`, whatever is pinned. Without it, a pinned day is shown as pinned.
            policy: Which of the day's revisions is shown, of those until `as_of`; see `Policy`.

        Returns the records' own bytes, in the order of arrival of these versions. A day whose snapshot equalled an
        earlier day's has that day's records. Raises BadSettings for an unknown stream, a time that is none, a commit
        that does not exist; NotHeld where a repair has made it unknowable; CorruptArchive.
        """
        pin = self.log.day(stream, day).pin if as_of is None else 0
        if pin or policy == "latest":
            return self._view(stream, day, pin or self._seq(as_of))
        one = chosen(self._revisions(stream, day, self._seq(as_of)), policy)
        return self._view(stream, day, one.commit) if one else []

    def first(self, stream: str, day: str, *, as_of: AsOf | None = None) -> list[bytes]:
        """The version of each record of a day that came first, also of what is gone since. As `view` else."""
        seq = self._seq(as_of)
        held, lines = self._lines_until(stream, day, seq)
        return first(lines, self._facts(stream).key_properties) if held else self._view(stream, day, seq)

    def versions(self, stream: str, day: str, *, as_of: AsOf | None = None) -> list[Version]:
        """Every line that is held of a day, in the order of arrival, those that are gone included. As `view` else.

        A day whose snapshot equalled an earlier day's has no lines of its own.
        """
        seq = self._seq(as_of)
        held, lines = self._lines_until(stream, day, seq)
        return list(versions(lines, held, self.log.times, seq)) if held else []

    def revisions(self, stream: str, day: str) -> list[Revision]:
        """What each run has changed in a day, oldest first, and how good it looks. Reads the whole day."""
        return self._revisions(stream, day, self.log.seq)

    def diff(self, stream: str, day: str, before: AsOf, after: AsOf | None = None) -> Diff:
        """What became of a day's view from one time to another, or to the latest commit. Arguments as for `view`."""
        old, new = (self._view(stream, day, self._seq(as_of)) for as_of in (before, after))
        return diff(old, new, self._facts(stream).key_properties)

    def commit_at(self, as_of: AsOf) -> int:
        """The number of the last commit at or before a time; 0 where there was none yet.

        Args:
            as_of: A datetime or an RFC 3339 text with any offset, UTC without one (commits know milliseconds, finer
                parts are cut off); a date or its text, which means the end of that day in UTC; or a commit's number,
                also as digits. Raises BadSettings for anything else.
        """
        try:
            given = _parsed(as_of) if isinstance(as_of, str) else as_of
            if not isinstance(given, int):
                return self.log.seq_at(_text(given))
        except (ValueError, OverflowError):
            raise BadSettings(
                f"`{as_of}` is not a time",
                hint="write it as 2024-05-01, 2024-05-01T12:00:00Z, or the number of a commit",
            ) from None
        if not 0 <= given <= self.log.seq:
            raise BadSettings(f"there is no commit {given}", hint=f"the last one is {self.log.seq}")
        return given

    def _seq(self, as_of: AsOf | None) -> int:
        return self.log.seq if as_of is None else self.commit_at(as_of)

    def _facts(self, stream: str) -> StreamFacts:
        try:
            return self.log.streams[stream]
        except KeyError:
            raise BadSettings(f"there is no stream `{stream}`", where=self.source) from None

    def _view(self, stream: str, day: str, seq: int) -> list[bytes]:
        facts = self._facts(stream)
        held, lines = self._lines_until(stream, day, seq)
        if held:
            return head(lines, facts.key_properties, held.gone_lines(seq))
        if earlier := self._same_as(stream, day, seq):
            since = self.log.same[stream][day][0]
            # of an earlier day that was damaged since, there is what the repair has left
            return self._view(stream, earlier, max(since, self.log.day(stream, earlier).lost))
        return []

    def _same_as(self, stream: str, day: str, seq: int) -> str:
        """The earlier day whose snapshot a day's equalled, as known after commit `seq`; "" for none."""
        since, earlier = self.log.same.get(stream, {}).get(day, (0, ""))
        if not earlier or since > seq:
            return ""
        if since < (lost := self.log.day(stream, earlier).lost) and seq < lost:
            raise _not_held(earlier, self.log.times[lost - 1])
        return earlier

    def _lines_until(self, stream: str, day: str, seq: int) -> tuple[Held | None, list[bytes]]:
        """The lines of a day after commit `seq`, and what the log says of them; None where there were none."""
        self._facts(stream)
        held, lines = self._read_day(stream, day)
        if seq < held.lost:
            raise _not_held(day, self.log.times[held.lost - 1])
        count = held.lines(seq)
        return (held, lines[:count]) if count else (None, [])

    def _revisions(self, stream: str, day: str, until: int) -> list[Revision]:
        _, lines = self._lines_until(stream, day, until)
        found: list[Revision] = []
        if earlier := self._same_as(stream, day, until):
            since = self.log.same[stream][day][0]
            rows = len(self._view(stream, earlier, max(since, self.log.day(stream, earlier).lost)))
            at, run = self.log.times[since - 1], self._run_of(since)
            found = [Revision(1, since, at, run, added=0, gone=0, rows=rows, complete=True, same_as=earlier)]
        held = revisions(self.log, stream, day, lines, self._run_of, until)
        return found + [msgspec.structs.replace(one, number=one.number + len(found)) for one in held]

    def _run_of(self, seq: int) -> str:
        if seq not in self._runs:
            self._runs[seq] = read_commit(self._storage, self.log.source, seq).run
        return self._runs[seq]

    def _read_day(self, stream: str, day: str) -> tuple[Held, list[bytes]]:
        """A day's lines, and what the log says of them. The log is read again where a writer has moved them."""
        while True:
            try:
                return self.log.day(stream, day), DayReader(self._storage, self.log).lines(stream, day)
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

    def statuses(self, stream: str, today: date | None = None) -> dict[str, Status]:
        """The status of each day, see `coverage`; `today` is the day that is not over."""
        return Coverage(self.log, today).statuses(stream)

    def gaps(self, stream: str, today: date | None = None) -> list[Stretch]:
        """The stretches of days that are not known to be whole, and why."""
        return Coverage(self.log, today).gaps(stream)

    def verify(self) -> Iterator[Finding]:
        """Everything that is not as it was written; see `integrity.verify`."""
        yield from integrity.verify(self._storage, layout.safe_name(self.source))


def _parsed(text: str) -> datetime | date | int:
    if _DIGITS.fullmatch(text):
        return int(text)
    return date.fromisoformat(text) if len(text) == len("2024-05-01") else datetime.fromisoformat(text.upper())


def _text(moment: datetime | date) -> str:
    """A time as commits have it; a day's is its end."""
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time.max)
    moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _not_held(day: str, at: str) -> NotHeld:
    return NotHeld(
        "how it stood then is not known any longer",
        where=day,
        hint=f"lines of it were lost and the day was repaired at {at}; it is known since then",
    )
