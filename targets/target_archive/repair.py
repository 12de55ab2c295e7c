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
from contextlib import ExitStack
from datetime import UTC, datetime

import msgspec

from target_archive import commit as records
from target_archive import dayfile, integrity, layout
from target_archive.commit import DayFile
from target_archive.errors import BadSettings, CorruptArchive
from target_archive.integrity import Finding
from target_archive.log import Held
from target_archive.reading import read_commits
from target_archive.storage import Storage
from target_archive.writer import Writer, write_format

_CHUNK = 1 << 20
_SECTOR = 512
"""A file that ends in as many zero bytes was cut: disks fill up with them what was never written."""


class Mended(msgspec.Struct, frozen=True):
    """What was done about a file, by paths below the root.

    Attributes:
        path, done: The file, and what has become of it.
        lost: How many lines of it the archive does not have any more.
        saved: Where the file lies as it was found; "" for nowhere.
    """

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
    with ExitStack() as lock:
        if not dry_run:
            lock.enter_context(storage.lock(layout.meta(source, "lock")))
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
        self._clear()
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

    def _clear(self) -> None:
        """Remove checkpoints that say something else than the commits; keep what a writer removes at its start."""
        for stale in self._stale:
            self._done(stale.path, f"{stale.problem}: removed, as it can be made again")
            if not self._dry:
                self._storage.remove(stale.path)
        for path, problem in list(integrity.strangers(self._storage, self._log)):
            if self._is_cleared(path):
                self._done(path, f"{problem}: removed", saved=self._save(path))

    def _is_cleared(self, path: str) -> bool:
        """Whether a writer at its start takes a stranger for what a killed one has left, and removes it."""
        folder, _, name = path.rpartition("/")
        packs, commits = layout.packs(self._source), layout.commits(self._source)
        return folder == packs or (
            name.endswith(".tmp") and folder in {commits, *map(self._log.folder, self._log.streams)}
        )

    def _mend_files(self) -> None:
        problems = {file: integrity.file_problem(self._storage, self._log, file) for file in list(self._log.files)}
        damaged = {_part(file): list[DayFile]() for file, problem in problems.items() if problem}
        for commit, _ in read_commits(self._storage, self._source) if damaged else ():
            for file in commit.files:
                known = damaged.get(_part(file), [])
                if commit.kind == "repair":
                    known.clear()  # its lines were others
                known.append(file)
        for file, problem in problems.items():
            if problem:
                self._mend_file(file, problem, damaged[_part(file)])

    def _commit(self) -> None:
        if self._writer and self._files:
            gone = {
                stream: {day: lines for day in days if (lines := self._still_gone(stream, day))}
                for stream, days in self._lost.items()
            }
            self._writer.place("repair", self._files, lost=dict(self._lost), gone=gone)
            self._writer.remove_used_packs()
        self._files, self._lost = [], defaultdict(dict)

    def left(self, *, move: bool) -> Iterator[Finding]:
        """Strangers, unless they are moved aside."""
        for path, problem in list(integrity.strangers(self._storage, self._log)):
            if self._is_cleared(path) and self._dry:
                continue  # it is told already
            if not move:
                yield Finding(path, problem)
                continue
            self._done(path, f"{problem}: moved aside", saved=self._save(path))
            if not self._dry:
                self._storage.remove(path)

    def _mend_format(self) -> None:
        problem = integrity.format_problem(self._storage, self._source)
        if not problem:
            return
        path, name = layout.meta(self._source, "format.json"), integrity.name_of(self._source)
        if name is None:
            raise BadSettings(f"{problem}, and the folder does not tell the source's name", where=path)
        self._done(path, f"{problem}: written anew", saved=self._save(path))
        if not self._dry:
            write_format(self._storage, name)

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

    def _mend_file(self, file: DayFile, problem: str, former: list[DayFile]) -> None:
        path = self._log.path(file)
        data = self._storage.read(path)
        saved = self._save(path)
        if data is not None and records.digest(data[: file.size]) == file.sha256:
            self._done(path, f"{problem}: put back as it was", saved=saved)
            if self._writer:
                self._writer.stage(
                    file.stream,
                    file.day,
                    file.part,
                    file.name,
                    data[: file.size],
                    lines=file.lines,
                    through=file.through,
                )
                self._storage.rename(self._log.staged_path(file, self._log.seq + 1), path)
                self._storage.sync(self._log.folder(file.stream))
            return
        text = _whole(data or b"", file, former)
        lines = text.count(b"\n")
        self._stage(file.stream, file.day, file.part, file.name, text, lost=file.lines - lines, through=file.through)
        self._done(path, f"{problem}: {_left(lines)}", lost=file.lines - lines, saved=saved)

    def _mend_first_segment(self, stream: str, day: str) -> bool:
        """Put the pending lines of a day, up to and with the first damaged segment, into a file; whether there was one.

        The segments behind it stay in their packs.
        """
        held = self._log.day(stream, day)
        text = b""
        for seq, segment in held.pending:
            path = layout.pack(self._source, seq)
            data = self._storage.read(path, segment.offset, segment.size) or b""
            problem = integrity.segment_problem(self._storage, self._log, seq, segment)
            if not problem:
                text += dayfile.decompress(data)
                continue
            whole = _members(data, cut=len(data) < segment.size)
            lost = segment.lines - whole.count(b"\n")
            if lost < 0:
                whole, lost = b"", segment.lines
            part, name = _next_part(held, day)
            self._done(path, f"{problem}: {_left(segment.lines - lost)}", lost=lost, saved=self._save(path))
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

    def _save(self, path: str) -> str:
        """Keep what stands at a path, once, durably; where, "" where there is nothing."""
        if path not in self._saved:
            data = self._storage.read(path)
            kept = layout.damaged(self._source, self._at, path)
            while self._storage.size(kept) is not None:
                kept += "~"
            self._saved[path] = kept if data is not None else ""
            if data is not None and not self._dry:
                folder = kept.rpartition("/")[0]
                self._storage.make_folder(folder)
                self._storage.write(kept, data)
                self._storage.sync(folder)
        return self._saved[path]

    def _done(self, path: str, done: str, *, lost: int = 0, saved: str = "") -> None:
        self.mended.append(Mended(path, done, lost, saved))


def _part(file: DayFile) -> tuple[str, str, int]:
    return file.stream, file.day, file.part


def _next_part(held: Held, day: str) -> tuple[int, str]:
    last = max(held.files, key=lambda file: file.part, default=None)
    compression = "gzip" if last is None or layout.is_compressed(last.name) else "none"
    part = last.part + 1 if last else 1
    return part, layout.day_file(day, part, compression)


def _left(lines: int) -> str:
    return f"the {lines:,} lines before the damage stay" if lines else "no line of it is left"


# What is proved -----------------------------------------------------------------------------------------------------


def _whole(data: bytes, file: DayFile, former: list[DayFile]) -> bytes:
    """The text of the lines of a damaged file that are as they were written; `former` are the contents that it had.

    A file only ever grew, so the digest of an earlier content can prove the beginning of a later one. Behind that a
    gzip member proves itself, and what a cut file still has is right. One that contradicts itself nowhere was edited.
    """
    proved = _proved(data, former)
    compressed = layout.is_compressed(file.name)
    text = dayfile.decompress(data[:proved]) if compressed and proved else data[:proved]
    rest = data[proved:].rstrip(b"\0")
    if len(data) - proved - len(rest) < _SECTOR:
        rest = data[proved:]
    cut = proved + len(rest) < file.size
    more = _members(rest, cut=cut) if compressed else _plain_lines(rest, cut=cut)
    return text + more if (text + more).count(b"\n") <= file.lines else text


def _proved(data: bytes, former: list[DayFile]) -> int:
    so_far, place, proved = hashlib.sha256(), 0, 0
    for file in sorted(former, key=lambda file: file.size):
        so_far.update(memoryview(data)[place : file.size])
        place = file.size
        if place <= len(data) and so_far.hexdigest() == file.sha256:
            proved = place
    return proved


def _members(data: bytes, *, cut: bool) -> bytes:
    found, place = list[bytes](), 0
    while place < len(data):
        reader, pieces = zlib.decompressobj(wbits=31), list[bytes]()
        try:
            while place < len(data) and not reader.eof:
                pieces.append(reader.decompress(data[place : place + _CHUNK]))
                place += _CHUNK
        except zlib.error:
            return b"".join(found)
        if not reader.eof:
            return b"".join([*found, _whole_lines(b"".join(pieces))]) if cut else b"".join(found)
        found += pieces
        place = min(place, len(data)) - len(reader.unused_data)
    return b""


def _plain_lines(text: bytes, *, cut: bool) -> bytes:
    return _whole_lines(text) if cut and not text.endswith(b"\n") else b""  # a line end there is an editor's


def _whole_lines(text: bytes) -> bytes:
    return text[: text.rfind(b"\n") + 1]
