"""The commit protocol: how lines become durable, and when the STATE that covers them may be told.

    data → fsync → commit record → fsync → link → fsync folder = committed → STATE may go out → publish day files

A commit costs the same few fsyncs whatever number of days it touches: its segments are one pack. Day files are brought
up to date from packs in bulk, in a commit of their own: the new files lie durable beside the old ones before the
record that names them is linked, and are renamed after. A kill or a power cut between any two steps leaves what
`_recover` puts right at the next start. FORMAT.md says the same for readers.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from target_archive import commit as records
from target_archive import dayfile, layout
from target_archive.commit import Change, Commit, DayFile, Drift, Segment, StreamFacts
from target_archive.errors import ArchiveLocked, CorruptArchive, FormatError
from target_archive.log import StreamDay
from target_archive.reading import DayReader, encode_checkpoint, open_log
from target_archive.shape import Shape, merge
from target_archive.storage import Storage
from target_archive.views import head

CHECKPOINT_EVERY = 1_000
"""Commits between two checkpoints of the log."""
PART_SIZE = 64 << 20
"""A day file that has grown past this many bytes gets a next part, which bounds what one publish rewrites."""


class Lines:
    """The lines of one stream that are not yet committed, in the order in which they came, each with its day."""

    def __init__(self) -> None:
        self.days: list[str] = []
        self.lines: list[bytes] = []
        self.cut = 0
        self._noted: list[tuple[int, Drift]] = []

    def note(self, drift: Drift, *, in_last: bool = False) -> None:
        """Drift that goes into the commit of the lines so far; `in_last`: it was first seen in the last of them."""
        if drift != Drift():
            changes = drift.changes
            if in_last:
                changes = tuple(msgspec.structs.replace(one, line=len(self.lines)) for one in changes)
            self._noted.append((len(self.lines), Drift(drift.shape, changes)))

    def note_of_schema(self, changes: Sequence[Change]) -> None:
        """Changes that go into the next commit, as the SCHEMA does that shows them."""
        if changes:
            self._noted.append((0, Drift(None, tuple(changes))))

    def drift(self, count: int, held: Callable[[str], int]) -> Drift:
        """What was noted of the first `count` lines; `held` is how many lines of a day stand before them."""
        shape: Shape | None = None
        changes: list[Change] = []
        for after, drift in self._noted:
            if after <= count:
                if drift.shape is not None:
                    shape = drift.shape if shape is None else merge(shape, drift.shape)
                changes += [self._located(change, held) for change in drift.changes]
        return Drift(shape, tuple(changes))

    def _located(self, change: Change, held: Callable[[str], int]) -> Change:
        if not change.line:
            return change
        day = self.days[change.line - 1]
        return msgspec.structs.replace(change, day=day, line=held(day) + self.days[: change.line].count(day))

    def take(self, count: int) -> dict[str, list[bytes]]:
        by_day: dict[str, list[bytes]] = defaultdict(list)
        for day, line in zip(self.days[:count], self.lines[:count], strict=True):
            by_day[day].append(line)
        return by_day

    def forget(self, count: int) -> None:
        del self.days[:count], self.lines[:count]
        self.cut = max(0, self.cut - count)
        self._noted = [(after - count, _moved(drift, count)) for after, drift in self._noted if after > count]


def _moved(drift: Drift, count: int) -> Drift:
    changes = (msgspec.structs.replace(one, line=max(0, one.line - count)) for one in drift.changes)
    return Drift(drift.shape, tuple(changes))


class Found(msgspec.Struct):
    """What a complete read has found out about lines that are already archived.

    Attributes:
        gone: Numbers of lines that the API has no longer, per stream and day.
        same: Days whose snapshot equals that of an earlier day, per stream: that earlier day.
    """

    gone: dict[str, dict[str, tuple[int, ...]]] = {}
    same: dict[str, dict[str, str]] = {}


class Writer:
    """The one writer of a source, made by `open_writer`, which holds its lock.

    Attributes:
        run: Name of the run that writes.
        log: What is committed.
        days: Reads it.
        lines: Per stream, what is not.
        problems: What could not be published and why; the data is safe in its pack.
    """

    def __init__(
        self, storage: Storage, source: str, *, run: str, compression: str, now: Callable[[], datetime]
    ) -> None:
        self._storage, self._source, self.run, self._now = storage, source, run, now
        self._compression = compression
        self._new_facts: dict[str, StreamFacts] = {}
        self.lines: dict[str, Lines] = defaultdict(Lines)
        self.problems: list[str] = []
        self.log = open_log(storage, source)
        self.days = DayReader(storage, self.log)
        self.unpublished = 0
        self._recover()

    def declare(self, stream: str, facts: StreamFacts) -> StreamFacts:
        """Note what a SCHEMA said; it stands in the next commit if it is news. A new stream is given its folder."""
        known = self.log.streams | self._new_facts
        if stream in known:
            folder = known[stream].folder
        else:
            folder = facts.folder or layout.folder_for(stream, [other.folder for other in known.values()])
        facts = msgspec.structs.replace(facts, folder=folder)
        if facts != known.get(stream):
            self._new_facts[stream] = facts
        return facts

    def facts(self, stream: str) -> StreamFacts | None:
        """What is known of a stream, its last SCHEMA included."""
        return self._new_facts.get(stream) or self.log.streams.get(stream)

    def acknowledge(self, streams: Sequence[str]) -> None:
        """Commit that a person has seen every change of these streams so far."""
        self._append("acknowledge", acknowledged=tuple(streams))

    def pin(self, stream: str, day: str, seq: int) -> None:
        """Commit that a day is to be shown as it stood after commit `seq`, or, for 0, as it stands."""
        self._append("pin", pins={stream: {day: seq}})

    def read_sample(self, stream: str) -> bytes:
        """What `write_samples` has kept; empty where there is nothing."""
        return self._storage.read(layout.sample(self._source, self._folder_name(stream))) or b""

    def write_samples(self, samples: Mapping[str, Mapping[str, msgspec.Struct]]) -> None:
        """Keep what was counted of each stream's records. It can be counted again, so no commit names it."""
        if not samples:
            return
        folder = layout.samples(self._source)
        self._storage.make_folder(folder)
        for stream, sample in samples.items():
            path = layout.sample(self._source, self._folder_name(stream))
            self._storage.write(f"{path}.tmp", msgspec.json.encode(sample) + b"\n")
            self._storage.rename(f"{path}.tmp", path)
        self._storage.sync(folder)

    def _folder_name(self, stream: str) -> str:
        facts = self.facts(stream)
        return facts.folder if facts else layout.safe_name(stream)

    def mark_state(self) -> None:
        """A STATE has come: it covers every line up to here."""
        for lines in self.lines.values():
            lines.cut = len(lines.lines)

    def commit(self, state: bytes | None, *, dropped: int = 0, found: Found | None = None) -> int:
        """Make durable the lines that `state` covers, or every line where it is None; return how many.

        `found` is what complete reads have found out about what is already archived. When this returns, the STATE may
        be told. When it raises, nothing may be assumed and the process must end.
        """
        seq = self.log.seq + 1
        counts = {stream: len(lines.lines) if state is None else lines.cut for stream, lines in self.lines.items()}
        segments, members, offset = [], [], 0
        found = found or Found()
        for stream, count in sorted(counts.items()):
            by_day = self.lines[stream].take(count)
            for day in found.gone.get(stream, ()):
                by_day.setdefault(day, [])
            for day, news in sorted(by_day.items()):
                lines = self.shared(stream, day) + news
                if day in found.same.get(stream, ()) or not lines:
                    continue
                member = dayfile.compress(dayfile.join(lines))
                members.append(member)
                segments.append(Segment(stream, day, offset, len(member), len(lines), records.digest(member)))
                offset += len(member)
        drift = {
            stream: self.lines[stream].drift(count, partial(self._lines_before, stream))
            for stream, count in counts.items()
        }
        drift = {stream: noted for stream, noted in drift.items() if noted != Drift()}
        if not segments and state is None and not self._new_facts and not drift and found == Found():
            return 0
        pack = b"".join(members)
        if pack:
            self._create(layout.pack(self._source, seq), pack)
        self._append(
            "data",
            streams=dict(self._new_facts),
            pack_sha256=records.digest(pack) if pack else "",
            segments=tuple(segments),
            state=msgspec.Raw(state or b"null"),
            dropped=dropped,
            drift=drift,
            gone=found.gone,
            same=found.same,
        )
        self._new_facts.clear()
        for stream, count in counts.items():
            self.lines[stream].forget(count)
        self.unpublished += offset
        return sum(counts.values())

    def shared(self, stream: str, day: str) -> list[bytes]:
        """What an earlier day keeps for a snapshot that equalled it: the first lines of the day, once it has others."""
        since, earlier = self.log.same.get(stream, {}).get(day, (0, ""))
        if not earlier or self.log.lines_of(stream, day):
            return []
        held = self.log.day(stream, earlier)
        seq = max(since, held.lost)
        try:
            lines = self.days.lines(stream, earlier)[: held.lines(seq)]
        except CorruptArchive:  # publishing tells it
            return []
        return head(lines, self.log.streams[stream].key_properties, held.gone_lines(seq))

    def _lines_before(self, stream: str, day: str) -> int:
        return self.log.lines_of(stream, day) or len(self.shared(stream, day))

    def publish(self) -> None:
        """Bring the day files up to date with everything committed."""
        pending = self.log.pending
        files = [file for key in sorted(pending) if (file := self._stage(key, pending[key])) is not None]
        self.unpublished = 0
        if files:
            self.place("publish", files)
        self.remove_used_packs()

    def _stage(self, key: StreamDay, pending: list[tuple[int, Segment]]) -> DayFile | None:
        """Write the new content of a day beside its file; None where the file is not the one that we wrote."""
        stream, day = key
        folder = self.log.folder(stream)
        head = max(self.log.day(stream, day).files, key=lambda file: file.part, default=None)
        part, old, lines = (head.part + 1 if head else 1), b"", 0
        name = layout.day_file(day, part, self._compression)
        path = f"{folder}/{name}"
        problem = ""
        if head is not None and head.size < PART_SIZE:
            part, name, lines, path = head.part, head.name, head.lines, self.log.path(head)
            old = self._storage.read(path) or b""
            if records.digest(old) != head.sha256:
                problem = "is not as it was written"
        elif self._storage.size(path) is not None:
            problem = "was not written by daykeep"
        if problem:
            self.problems.append(f"{path} {problem}: it is left alone, and what is new for that day stays in its pack")
            return None
        members = [self.days.segment(number, segment) for number, segment in pending]
        if len(members) > 1 or not layout.is_compressed(name):
            text = b"".join(dayfile.decompress(member) for member in members)
            members = [dayfile.compress(text) if layout.is_compressed(name) else text]
        lines += sum(segment.lines for _, segment in pending)
        return self.stage(stream, day, part, name, old + members[0], lines=lines, through=pending[-1][0])

    def stage(
        self, stream: str, day: str, part: int, name: str, content: bytes, *, lines: int, through: int
    ) -> DayFile:
        """Lay a day file's new content beside it, durable, for the next commit to name; see `place`."""
        folder = self.log.folder(stream)
        self._storage.make_folder(folder)
        self._storage.write(f"{folder}/{layout.temporary(name, self.log.seq + 1)}", content)
        return DayFile(stream, day, part, name, len(content), lines, records.digest(content), through)

    def place(self, kind: str, files: Sequence[DayFile], **fields: Any) -> None:
        """Commit files that were staged, and let them take their places."""
        self._sync_folders(files)
        self._append(kind, files=tuple(files), **fields)
        self._rename(files, self.log.seq)
        self._sync_folders(files)

    def _append(self, kind: str, **fields: Any) -> None:
        """Make the record under its number: the commit point."""
        commit = Commit(
            format=records.FORMAT,
            seq=self.log.seq + 1,
            kind=kind,
            at=self._timestamp(),
            run=self.run,
            prev=self.log.prev,
            **fields,
        )
        data, checksum = records.encode(commit)
        self._create(layout.commit(self._source, commit.seq), data)
        self.log.apply(commit, checksum)
        if commit.seq % CHECKPOINT_EVERY == 0:
            self._write_checkpoint()

    def _create(self, path: str, content: bytes) -> None:
        try:
            self._storage.create(path, content)
        except FileExistsError:
            raise ArchiveLocked("another writer has been at work meanwhile", where=path, hint="run again") from None

    def _write_checkpoint(self) -> None:
        """Sum the log up, so that opening it need not read every commit; without it nothing would be lost."""
        path, folder = layout.checkpoint(self._source, self.log.seq), layout.commits(self._source)
        self._storage.write(f"{path}.tmp", encode_checkpoint(self.log))
        self._storage.rename(f"{path}.tmp", path)
        for name in self._storage.names(folder):
            if (layout.checkpoint_number(name) or self.log.seq) < self.log.seq:
                self._storage.remove(f"{folder}/{name}")

    def _rename(self, files: Sequence[DayFile], seq: int) -> None:
        for file in files:
            self._storage.rename(self.log.staged_path(file, seq), self.log.path(file))

    def _sync_folders(self, files: Sequence[DayFile]) -> None:
        for folder in sorted({self.log.folder(file.stream) for file in files}):
            self._storage.sync(folder)

    def remove_used_packs(self) -> None:
        """Remove the packs whose lines all stand in day files."""
        needed = {seq for segments in self.log.pending.values() for seq, _ in segments}
        for name in self._storage.names(layout.packs(self._source)):
            number = layout.number(name) or 0
            if number <= self.log.seq and number not in needed:  # a later one is another writer's
                self._storage.remove(f"{layout.packs(self._source)}/{name}")

    def _recover(self) -> None:
        """Finish or undo what the last writer was doing. Safe to be killed in, at any point, and run again.

        That writer may only be paused. So before what a next commit of its might name is removed, its number is taken.
        """
        commits = layout.commits(self._source)
        folders = {commits, *map(self.log.folder, self.log.streams)}
        temporaries = {
            f"{folder}/{name}" for folder in folders for name in self._storage.names(folder) if name.endswith(".tmp")
        }
        last = self.log.last_publish
        if last is not None:
            staged = [
                file
                for file in last.files
                if (path := self.log.staged_path(file, last.seq)) in temporaries
                and records.digest(self._storage.read(path) or b"") == file.sha256
            ]
            self._rename(staged, last.seq)
            self._sync_folders(last.files)  # also of those that a killed run has put in their places
            temporaries -= {self.log.staged_path(file, last.seq) for file in staged}
        packs = map(layout.number, self._storage.names(layout.packs(self._source)))
        if any((number or 0) > self.log.seq for number in packs) or any(commits not in path for path in temporaries):
            self._append("data")
        for path in sorted(temporaries):
            self._storage.remove(path)
        self.remove_used_packs()
        self.unpublished = sum(one.size for segments in self.log.pending.values() for _, one in segments)

    def check_packs(self) -> None:
        """Raise CorruptArchive where a pack that is still needed is missing or cut."""
        for segments in self.log.pending.values():
            for seq, segment in segments:
                path = layout.pack(self._source, seq)
                if (self._storage.size(path) or 0) < segment.offset + segment.size:
                    raise CorruptArchive("a pack is missing or cut", where=path, hint="run `daykeep repair`")

    def _timestamp(self) -> str:
        return self._now().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextmanager
def open_writer(
    storage: Storage,
    source: str,
    *,
    run: str,
    compression: str = "gzip",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Writer]:
    """Take the source's lock, recover, and give its writer. Raises ArchiveLocked where another one is at work."""
    folder = layout.safe_name(source)
    storage.make_folder(layout.packs(folder))
    storage.make_folder(layout.commits(folder))
    with storage.lock(layout.meta(folder, "lock")):
        for name in ("", folder, layout.meta(folder), layout.commits(folder)):
            storage.sync(name)  # what a killed run has left may be acted upon, so no power cut may take it back
        _check_format(storage, source)
        writer = Writer(storage, folder, run=run, compression=compression, now=now)
        writer.check_packs()
        try:
            yield writer
        except CorruptArchive as error:
            if storage.size(layout.commit(folder, writer.log.seq + 1)) is None:
                raise
            raise ArchiveLocked(
                "another writer has taken over meanwhile", where=error.where, hint="run again"
            ) from None


def new_run_id() -> str:
    """A name for a run that sorts by time and does not collide when the clock goes back."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{uuid.uuid4().hex[:8]}"


def _check_format(storage: Storage, source: str) -> None:
    folder = layout.safe_name(source)
    path = layout.meta(folder, "format.json")
    known = storage.read(path)
    if known is None:
        write_format(storage, source)
        return
    try:
        written = msgspec.json.decode(known, type=dict[str, int | str])["format"]
    except (msgspec.DecodeError, KeyError) as error:
        raise FormatError("not an archive of daykeep", where=path, hint="choose another root") from error
    if not isinstance(written, int) or written > records.FORMAT:
        raise FormatError(f"the archive has format {written}", where=path, hint="upgrade daykeep")
    if written < records.FORMAT:
        write_format(storage, source)


def write_format(storage: Storage, source: str) -> None:
    """Say which format the archive of a source has."""
    path = layout.meta(layout.safe_name(source), "format.json")
    facts = {"archive": "daykeep", "format": records.FORMAT, "source": source}
    storage.write(f"{path}.tmp", msgspec.json.encode(facts) + b"\n")
    storage.rename(f"{path}.tmp", path)
    storage.sync(layout.meta(layout.safe_name(source)))
