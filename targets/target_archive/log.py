"""The commit log, read once and kept up to date: what the archive of one source holds, and where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from target_archive import commit as records
from target_archive import dayfile, layout
from target_archive.commit import Change, Commit, DayFile, Segment, StreamFacts
from target_archive.errors import CorruptArchive
from target_archive.shape import Shape, merge
from target_archive.storage import LocalStorage

StreamDay = tuple[str, str]


class Claim(msgspec.Struct, frozen=True):
    """A tap's statement that it has read a stretch of a stream, with its evidence; see FORMAT.md."""

    status: str
    partition: dict[str, Any] | None = None
    start: str | None = msgspec.field(name="from", default=None)
    end: str | None = msgspec.field(name="to", default=None)
    evidence: dict[str, Any] = {}


class Noted(msgspec.Struct, frozen=True):
    """A change, and the commit that tells it; `acknowledged` by a person."""

    stream: str
    change: Change
    seq: int
    at: str
    run: str
    acknowledged: bool = False


class _State(msgspec.Struct):
    claims: dict[str, list[Claim]] = {}


class Log:
    """Every commit of one source, folded.

    Attributes:
        seq: Number of the last commit, 0 for none.
        state: The last STATE that was committed, or None.
        streams: The facts of each stream.
        files: The published files of each (stream, day), by part.
        pending: The segments of each (stream, day) that no published file holds yet, with their commit's number.
        claims: What the taps said about completeness, per stream, oldest first.
        shapes: What the records of each stream have shown so far.
        changes: Every change in shape or SCHEMA, oldest first.
        last_run: Run id and time of the last commit.
    """

    def __init__(self, storage: LocalStorage, source: str) -> None:
        self._storage, self.source = storage, source
        self.seq, self.prev = 0, ""
        self.state: msgspec.Raw | None = None
        self.streams: dict[str, StreamFacts] = {}
        self.files: dict[StreamDay, list[DayFile]] = {}
        self.pending: dict[StreamDay, list[tuple[int, Segment]]] = {}
        self.claims: dict[str, dict[str, Claim]] = {}
        self.shapes: dict[str, Shape] = {}
        self.changes: list[Noted] = []
        self.last_run, self.last_at = "", ""
        self.last_publish: Commit | None = None
        self.pack_digests: dict[int, str] = {}
        for commit, checksum in self.read_commits():
            self.apply(commit, checksum)

    def read_commits(self, after: int = 0) -> Iterator[tuple[Commit, str]]:
        """Commits in order. Raises CorruptArchive for one that is missing, damaged or out of its chain."""
        folder = layout.commits(self.source)
        numbers = filter(None, map(layout.number, self._storage.names(folder)))
        for position, number in enumerate(sorted(number for number in numbers if number > after), start=after + 1):
            path = layout.commit(self.source, position)
            if number != position:
                raise CorruptArchive("a commit record is missing", where=path, hint="restore it from a copy")
            commit, checksum = records.decode(self._storage.read(path) or b"", path)
            if commit.seq != position:
                raise CorruptArchive(
                    "a commit record carries another number", where=path, hint="restore it from a copy"
                )
            yield commit, checksum

    def apply(self, commit: Commit, checksum: str) -> None:
        """Take in the next commit."""
        if commit.seq != self.seq + 1 or commit.prev != self.prev:
            raise CorruptArchive(
                "the chain of commit records is broken",
                where=layout.commit(self.source, commit.seq),
                hint="restore the records from a copy",
            )
        self.seq, self.prev, self.last_run, self.last_at = commit.seq, checksum, commit.run, commit.at
        self.streams |= commit.streams
        if commit.segments:
            self.pack_digests[commit.seq] = commit.pack_sha256
        for segment in commit.segments:
            key = segment.stream, segment.day
            self.pending.setdefault(key, []).append((commit.seq, segment))
        self._apply_drift(commit)
        if bytes(commit.state) != b"null":
            self.state = commit.state
            for stream, claims in msgspec.json.decode(commit.state, type=_State).claims.items():
                for claim in claims:
                    identity = msgspec.json.encode([claim.partition, claim.start, claim.end, claim.status]).decode()
                    self.claims.setdefault(stream, {})[identity] = claim
        if commit.kind == "publish":
            self.last_publish = commit
        for file in commit.files:
            self._publish(file)

    def _apply_drift(self, commit: Commit) -> None:
        for stream, drift in commit.drift.items():
            if drift.shape is not None:
                known = self.shapes.get(stream)
                self.shapes[stream] = drift.shape if known is None else merge(known, drift.shape)
            self.changes += [Noted(stream, change, commit.seq, commit.at, commit.run) for change in drift.changes]
        if commit.acknowledged:
            self.changes = [
                msgspec.structs.replace(one, acknowledged=True) if one.stream in commit.acknowledged else one
                for one in self.changes
            ]

    def _publish(self, file: DayFile) -> None:
        key = file.stream, file.day
        parts = [other for other in self.files.get(key, []) if other.part != file.part]
        self.files[key] = [*parts, file]
        left = [(seq, segment) for seq, segment in self.pending.get(key, []) if seq > file.through]
        if left:
            self.pending[key] = left
        else:
            self.pending.pop(key, None)

    def gone(self, stream: str) -> set[str]:
        """Paths of the fields that were told to be gone and have not returned."""
        gone: set[str] = set()
        for change in (one.change for one in self.changes if one.stream == stream):
            if change.kind == "gone":
                gone.add(change.path)
            elif change.kind == "returned":
                gone.discard(change.path)
        return gone

    def path(self, file: DayFile) -> str:
        return f"{self.folder(file.stream)}/{file.name}"

    def staged_path(self, file: DayFile, seq: int) -> str:
        """Where the publish commit `seq` has laid a file's new content before it takes its place."""
        return f"{self.folder(file.stream)}/{layout.temporary(file.name, seq)}"

    def folder(self, stream: str) -> str:
        facts = self.streams.get(stream)
        return layout.stream_folder(self.source, facts.folder if facts else stream)

    def days(self, stream: str) -> list[str]:
        """The days that hold at least one line, sorted; `undated` is not one of them."""
        keys = self.files.keys() | self.pending.keys()
        return sorted(day for name, day in keys if name == stream and day != layout.UNDATED)

    def lines_of(self, stream: str, day: str) -> int:
        """How many lines a day has, published and pending."""
        key = stream, day
        published = sum(file.lines for file in self.files.get(key, []))
        return published + sum(segment.lines for _, segment in self.pending.get(key, []))

    def read_day(self, stream: str, day: str) -> list[bytes]:
        """The lines of a day in the order in which they came. Raises CorruptArchive where they are not as committed."""
        published = b"".join(self.read_file(file) for file in self.files.get((stream, day), []))
        return dayfile.split(published) + self.read_pending(stream, day)

    def read_pending(self, stream: str, day: str) -> list[bytes]:
        """The lines of a day that no published file holds yet."""
        segments = self.pending.get((stream, day), [])
        return dayfile.split(b"".join(dayfile.decompress(self.read_segment(*one)) for one in segments))

    def read_file(self, file: DayFile) -> bytes:
        """A day file's text. Until a publish has put its files in their places, they are read from beside them."""
        path = self.path(file)
        data = self._storage.read(path, 0, file.size)
        if self.last_publish and file in self.last_publish.files and (not data or records.digest(data) != file.sha256):
            data = self._storage.read(self.staged_path(file, self.last_publish.seq)) or self._storage.read(path)
        data = self.checked(path, file.sha256, data)
        return dayfile.decompress(data, where=path) if layout.is_compressed(file.name) else data

    def read_segment(self, seq: int, segment: Segment) -> bytes:
        """A segment's compressed member, checked."""
        path = layout.pack(self.source, seq)
        return self.checked(path, segment.sha256, self._storage.read(path, segment.offset, segment.size))

    @staticmethod
    def checked(path: str, sha256: str, data: bytes | None) -> bytes:
        if data is None:
            raise CorruptArchive("a file of the archive is missing", where=path, hint="restore it from a copy")
        if records.digest(data) != sha256:
            raise CorruptArchive(
                "a file of the archive is not as it was written", where=path, hint="run `daykeep verify`"
            )
        return data
