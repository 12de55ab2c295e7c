"""What a log names, read from storage: commits, checkpoints, day files and packs, each checked against its digest."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from target_archive import commit as records
from target_archive import dayfile, layout
from target_archive.commit import Commit, DayFile, Segment
from target_archive.errors import ArchiveError, CorruptArchive
from target_archive.log import Log
from target_archive.storage import Storage


def open_log(storage: Storage, source: str) -> Log:
    """The log of a source, from its last checkpoint on. Raises CorruptArchive for a log that cannot be trusted."""
    names = storage.names(layout.commits(source))
    log = _checkpoint(storage, source, names) or Log(source)
    for commit, checksum in read_commits(storage, source, after=log.seq, names=names):
        log.apply(commit, checksum)
    return log


def read_commits(
    storage: Storage, source: str, *, after: int = 0, names: list[str] | None = None
) -> Iterator[tuple[Commit, str]]:
    """Commits in order. Raises CorruptArchive for one that is missing or damaged."""
    numbers = filter(None, map(layout.number, storage.names(layout.commits(source)) if names is None else names))
    for position, number in enumerate(sorted(number for number in numbers if number > after), start=after + 1):
        path = layout.commit(source, position)
        if number != position:
            raise CorruptArchive("a commit record is missing", where=path, hint="restore it from a copy")
        commit, checksum = records.decode(storage.read(path) or b"", path)
        if commit.seq != position:
            raise CorruptArchive("a commit record carries another number", where=path, hint="restore it from a copy")
        yield commit, checksum


def read_commit(storage: Storage, source: str, seq: int) -> Commit:
    """One commit. Raises CorruptArchive where it is missing or damaged."""
    path = layout.commit(source, seq)
    return records.decode(storage.read(path) or b"", path)[0]


def _checkpoint(storage: Storage, source: str, names: list[str]) -> Log | None:
    """The newest checkpoint that is whole and stands in the chain of commits; any other one is as good as none."""
    for name in sorted((name for name in names if layout.checkpoint_number(name)), reverse=True):
        try:
            log = decode_checkpoint(storage.read(f"{layout.commits(source)}/{name}") or b"", name)
            if log and records.decode(storage.read(layout.commit(source, log.seq)) or b"", name)[1] == log.prev:
                return log
        except (ArchiveError, msgspec.DecodeError):
            continue
    return None


def encode_checkpoint(log: Log) -> bytes:
    return records.with_digest(msgspec.json.encode(_Checkpoint(records.FORMAT, log)))[0]


def decode_checkpoint(data: bytes, where: str) -> Log | None:
    """The log of a checkpoint; None where another format wrote it. Raises CorruptArchive or DecodeError."""
    told = msgspec.json.decode(records.checked_body(data, where), type=_Checkpoint)
    return told.log if told.format == records.FORMAT else None


class DayReader:
    """Reads the lines that a log names."""

    def __init__(self, storage: Storage, log: Log) -> None:
        self._storage, self._log = storage, log

    def lines(self, stream: str, day: str) -> list[bytes]:
        """The lines of a day in the order in which they came. Raises CorruptArchive where they are not as committed."""
        published = b"".join(self.file(file) for file in self._log.day(stream, day).files)
        return dayfile.split(published) + self.pending(stream, day)

    def pending(self, stream: str, day: str) -> list[bytes]:
        """The lines of a day that no published file holds yet."""
        members = (self.segment(*one) for one in self._log.day(stream, day).pending)
        return dayfile.split(b"".join(map(dayfile.decompress, members)))

    def file(self, file: DayFile) -> bytes:
        """A day file's text. Until a publish has put its files in their places, they are read from beside them."""
        path, publish = self._log.path(file), self._log.last_publish
        data = self._storage.read(path, 0, file.size)
        if publish and file in publish.files and (not data or records.digest(data) != file.sha256):
            data = self._storage.read(self._log.staged_path(file, publish.seq)) or self._storage.read(path)
        data = _checked(path, file.sha256, data)
        return dayfile.decompress(data, where=path) if layout.is_compressed(file.name) else data

    def segment(self, seq: int, segment: Segment) -> bytes:
        """A segment's compressed member, checked."""
        path = layout.pack(self._log.source, seq)
        return _checked(path, segment.sha256, self._storage.read(path, segment.offset, segment.size))


def _checked(path: str, sha256: str, data: bytes | None) -> bytes:
    if data is None:
        raise CorruptArchive("a file of the archive is missing", where=path, hint="run `daykeep repair`")
    if records.digest(data) != sha256:
        raise CorruptArchive("a file of the archive is not as it was written", where=path, hint="run `daykeep verify`")
    return data


class _Checkpoint(msgspec.Struct, frozen=True):
    format: int
    log: Log
