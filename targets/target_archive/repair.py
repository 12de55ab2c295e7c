"""Mends what `integrity.py` finds, as the one writer of the source, and deletes nothing that holds data.

Of a damaged file the lines stay that are proved to be as they were written; what was found there is kept below
`_meta/damaged`. A `repair` commit names what is left, by the same protocol as a publish: a kill at any point leaves
what the next repair finishes.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime

import msgspec

from target_archive import commit as records
from target_archive import dayfile, integrity, layout
from target_archive.commit import DayFile
from target_archive.errors import BadSettings, CorruptArchive
from target_archive.integrity import Finding
from target_archive.reading import read_commits
from target_archive.storage import Storage
from target_archive.writer import Writer, write_format

_CHUNK = 1 << 20
_SECTOR = 512
"""A file that ends in as many zero bytes was cut: disks fill up with them what was never written."""


class Mended(msgspec.Struct, frozen=True):
    """What has become of a file, how many lines of it are lost, and where it lies as it was found, "" for nowhere."""

    path: str
    done: str
    lost: int = 0
    saved: str = ""


class Repaired(msgspec.Struct, frozen=True):
    """What a repair has done, and what it has left as it is."""

    mended: list[Mended]
    left: list[Finding]


def repair(
    storage: Storage,
    source: str,
    *,
    run: str,
    strangers: bool = False,
    dry_run: bool = False,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Repaired:
    """Mend the source in a folder, or with `dry_run` say what would be done.

    `strangers` has files moved aside that the log does not name. Raises CorruptArchive, before anything is touched, for
    a commit record that is missing or damaged; ArchiveLocked.
    """
    with nullcontext() if dry_run else storage.lock(layout.meta(source, "lock")):
        work = _Repair(storage, source, run, now, dry_run=dry_run)
        work.mend()
        return Repaired(work.mended, list(work.left(move=strangers)))


class _Repair:
    def __init__(self, storage: Storage, source: str, run: str, now: Callable[[], datetime], *, dry_run: bool) -> None:
        self._storage, self._source, self._run, self._now, self._dry = storage, source, run, now, dry_run
        self._at = now().astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._log, broken, self._stale = integrity.fold(storage, source)
        if broken:
            hint = "restore it from a copy of the archive: nothing else tells what it said, and nothing was touched"
            raise CorruptArchive(broken[0].problem, where=broken[0].path, hint=hint)
        self._writer: Writer | None = None
        self._files: list[DayFile] = []
        self._lost: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._saved: dict[str, str] = {}
        self.mended: list[Mended] = []

    def mend(self) -> None:
        self._mend_format()
        for stale in self._stale:
            self.mended.append(Mended(stale.path, f"{stale.problem}: removed, as it can be made again"))
            if not self._dry:
                self._storage.remove(stale.path)
        for path, problem in list(integrity.strangers(self._storage, self._log)):
            if self._is_cleared(path):
                self._done(path, f"{problem}: removed")
        if not self._dry:
            for folder in sorted({self._log.folder(file.stream) for file in self._log.files}):
                self._storage.make_folder(folder)
            self._writer = Writer(self._storage, self._source, run=self._run, compression="gzip", now=self._now)
            self._log = self._writer.log
        self._mend_files()
        days = [(stream, day) for stream, held in self._log.held.items() for day in held]
        while days:
            days = [key for key in days if self._mend_first_segment(*key)]
            self._commit()

    def left(self, *, move: bool) -> Iterator[Finding]:
        """Strangers, unless they are moved aside."""
        for path, problem in list(integrity.strangers(self._storage, self._log)):
            if self._is_cleared(path) and self._dry:
                continue  # it is told already
            if not move:
                yield Finding(path, problem)
                continue
            self._done(path, f"{problem}: moved aside")
            if not self._dry:
                self._storage.remove(path)

    def _is_cleared(self, path: str) -> bool:
        """Whether a writer at its start takes a stranger for what a killed one has left, and removes it."""
        folder, _, name = path.rpartition("/")
        at_work = {layout.commits(self._source), *map(self._log.folder, self._log.streams)}
        return folder == layout.packs(self._source) or (name.endswith(".tmp") and folder in at_work)

    def _mend_format(self) -> None:
        if problem := integrity.format_problem(self._storage, self._source):
            path, name = layout.meta(self._source, "format.json"), integrity.name_of(self._source)
            if name is None:
                raise BadSettings(f"{problem}, and the folder does not tell the source's name", where=path)
            self._done(path, f"{problem}: written anew")
            if not self._dry:
                write_format(self._storage, name)

    def _mend_files(self) -> None:
        problems = {file: integrity.file_problem(self._storage, self._log, file) for file in self._log.files}
        damaged = {file: problem for file, problem in problems.items() if problem}
        former = {(file.stream, file.day, file.part): list[DayFile]() for file in damaged}
        for commit, _ in read_commits(self._storage, self._source) if damaged else ():
            for file in commit.files:
                known = former.get((file.stream, file.day, file.part), [])
                if commit.kind == "repair":
                    known.clear()  # its lines were others
                known.append(file)
        for file, problem in damaged.items():
            self._mend_file(file, problem, former[file.stream, file.day, file.part])

    def _mend_file(self, file: DayFile, problem: str, former: list[DayFile]) -> None:
        path = self._log.path(file)
        data = self._storage.read(path)
        if data is None or records.digest(data[: file.size]) != file.sha256:
            text = _whole(data or b"", file, former)
            lost = file.lines - text.count(b"\n")
            self._done(path, f"{problem}: {_left(file.lines - lost)}", lost=lost)
            self._stage(file.stream, file.day, file.part, file.name, text, lost=lost, through=file.through)
            return
        self._done(path, f"{problem}: put back as it was")
        if not self._dry:
            beside = self._log.staged_path(file, self._log.seq + 1)
            self._storage.write(beside, data[: file.size])
            self._storage.rename(beside, path)
            self._storage.sync(self._log.folder(file.stream))

    def _mend_first_segment(self, stream: str, day: str) -> bool:
        """Put the pending lines of a day, up to and with the first damaged segment, into a file; whether there was one.

        The segments behind it stay in their packs.
        """
        held, text = self._log.day(stream, day), b""
        for seq, segment in held.pending:
            path = layout.pack(self._source, seq)
            data = self._storage.read(path, segment.offset, segment.size) or b""
            problem = integrity.segment_problem(self._storage, self._log, seq, segment)
            if not problem:
                text += dayfile.decompress(data)
                continue
            whole = _members(data, cut=len(data) < segment.size)
            if whole.count(b"\n") > segment.lines:
                whole = b""
            lost = segment.lines - whole.count(b"\n")
            part = held.files[-1].part + 1 if held.files else 1
            plain = held.files and not layout.is_compressed(held.files[-1].name)
            name = layout.day_file(day, part, "none" if plain else "gzip")
            self._done(path, f"{problem}: {_left(segment.lines - lost)}", lost=lost)
            self._save(f"{self._log.folder(stream)}/{name}")
            self._stage(stream, day, part, name, text + whole, lost=lost, through=seq)
            return not self._dry
        return False

    def _stage(self, stream: str, day: str, part: int, name: str, text: bytes, *, lost: int, through: int) -> None:
        if self._writer:
            content = dayfile.compress(text) if layout.is_compressed(name) else text
            lines = text.count(b"\n")
            self._files.append(self._writer.stage(stream, day, part, name, content, lines=lines, through=through))
            if lost:
                self._lost[stream][day] = self._lost[stream].get(day, 0) + lost

    def _commit(self) -> None:
        if self._writer and self._files:
            gone = {
                stream: {day: lines for day in days if (lines := self._still_gone(stream, day))}
                for stream, days in self._lost.items()
            }
            self._writer.place("repair", self._files, lost=dict(self._lost), gone=gone)
            self._writer.remove_used_packs()
        self._files, self._lost = [], defaultdict(dict)

    def _still_gone(self, stream: str, day: str) -> tuple[int, ...]:
        """The lines of a day that are gone, by the numbers that they will have."""
        held = self._log.day(stream, day)
        mended = {file.part: file for file in self._files if (file.stream, file.day) == (stream, day)}
        pieces = [(file.lines, mended.pop(file.part, file).lines) for file in held.files]
        pieces += [  # those left are new ones, of segments
            (sum(one.lines for seq, one in held.pending if seq <= file.through), file.lines) for file in mended.values()
        ]
        found, end, lost = list[int](), 0, 0
        for before, after in [*pieces, (held.lines(), held.lines())]:
            found += [line - lost for line in held.gone_lines() if end < line <= end + after]
            end, lost = end + before, lost + before - after
        return tuple(sorted(found))

    def _done(self, path: str, done: str, *, lost: int = 0) -> None:
        self.mended.append(Mended(path, done, lost, self._save(path)))

    def _save(self, path: str) -> str:
        """Keep what stands at a path, once, durably; where, "" where there is nothing."""
        if path not in self._saved:
            data, kept = self._storage.read(path), layout.damaged(self._source, self._at, path)
            if data is None:
                return ""
            while self._storage.size(kept) is not None:
                kept += "~"
            if not self._dry:
                folder = kept.rpartition("/")[0]
                self._storage.make_folder(folder)
                self._storage.write(kept, data)
                self._storage.sync(folder)
            self._saved[path] = kept
        return self._saved[path]


def _left(lines: int) -> str:
    return f"the {lines:,} lines before the damage stay" if lines else "no line of it is left"


# What is proved -----------------------------------------------------------------------------------------------------


def _whole(data: bytes, file: DayFile, former: list[DayFile]) -> bytes:
    """The text of the lines of a damaged file that are as they were written; `former` are the contents that it had.

    A file only ever grew, so the digest of an earlier content can prove the beginning of a later one. Behind that a
    gzip member proves itself, and what a cut file still has is right. One that contradicts itself nowhere was edited.
    """
    hashed, place, proved = hashlib.sha256(), 0, 0
    for one in sorted(former, key=lambda one: one.size):
        hashed.update(memoryview(data)[place : one.size])
        place = one.size
        if place <= len(data) and hashed.hexdigest() == one.sha256:
            proved = place
    compressed = layout.is_compressed(file.name)
    text = dayfile.decompress(data[:proved]) if compressed and proved else data[:proved]
    rest = data[proved:].rstrip(b"\0")
    if len(data) - proved - len(rest) < _SECTOR:
        rest = data[proved:]
    cut = proved + len(rest) < file.size
    more = _members(rest, cut=cut) if compressed else _plain_lines(rest, cut=cut)
    return text + more if (text + more).count(b"\n") <= file.lines else text


def _members(data: bytes, *, cut: bool) -> bytes:
    found, place = list[bytes](), 0
    while place < len(data):
        reader, whole = zlib.decompressobj(wbits=31), len(found)
        try:
            while place < len(data) and not reader.eof:
                found.append(reader.decompress(data[place : place + _CHUNK]))
                place += _CHUNK
        except zlib.error:
            return b"".join(found[:whole])
        if not reader.eof:
            return b"".join(found[:whole]) + (_whole_lines(b"".join(found[whole:])) if cut else b"")
        place = min(place, len(data)) - len(reader.unused_data)
    return b""


def _plain_lines(text: bytes, *, cut: bool) -> bytes:
    return _whole_lines(text) if cut and not text.endswith(b"\n") else b""  # a line end there is an editor's


def _whole_lines(text: bytes) -> bytes:
    return text[: text.rfind(b"\n") + 1]
