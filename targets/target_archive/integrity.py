"""Whether the files of an archive are as the commit log says, and the log as it was written.

Every commit is read, also those that a checkpoint sums up, and every file that the log names. `repair.py` mends what is
found here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import unquote

import msgspec

from target_archive import commit as records
from target_archive import layout
from target_archive.commit import DayFile, Segment
from target_archive.errors import ArchiveError, CorruptArchive, FormatError, StorageFailed
from target_archive.log import Log
from target_archive.reading import decode_checkpoint, open_log
from target_archive.storage import Storage

_UNPROVED = ("drift", "lock", "runs", "damaged")
"""What stands in `_meta` and is no part of the truth."""
_IN_THE_MAKING = re.compile(r"\.(?:.+\.)?(\d{8})(?:\.(?:json|pack)\.\d+)?\.tmp|checkpoint-(\d{8})\.json\.tmp")


class Finding(msgspec.Struct, frozen=True):
    """What `verify` found wrong: a path below the root, and the problem."""

    path: str
    problem: str


class Facts(msgspec.Struct, frozen=True):
    """What `format.json` says."""

    format: int
    source: str


def folders(storage: Storage) -> list[str]:
    """Folder names of the sources below a root, sorted, those whose `format.json` is missing or damaged included."""
    return [
        name
        for name in storage.names("")
        if storage.read(layout.meta(name, "format.json")) is not None or _names(storage, layout.commits(name))
    ]


def verify(storage: Storage, source: str) -> Iterator[Finding]:
    """Everything in the folder of a source that is not as it was written. Raises FormatError for a newer format.

    A run may be writing meanwhile: what its commits explain is no finding.
    """
    if problem := format_problem(storage, source):
        yield Finding(layout.meta(source, "format.json"), problem)
    log, broken, checkpoints = fold(storage, source)
    yield from [*broken, *checkpoints]
    if broken:
        try:
            log = open_log(storage, source)  # a checkpoint may know what the damaged record said
        except (ArchiveError, msgspec.DecodeError):
            return
    for stream in list(log.held):
        for day in list(log.held[stream]):
            while found := list(_wrong_in_day(storage, log, stream, day)):
                former, log = log, _newer(storage, log)
                if log is former:
                    yield from found
                    break
    for path, problem in strangers(storage, log):
        yield Finding(path, problem)


def _newer(storage: Storage, log: Log) -> Log:
    """The log as it is now; the same one where nothing was committed since."""
    now = open_log(storage, log.source)
    return log if now.prev == log.prev else now


def format_problem(storage: Storage, source: str) -> str:
    """What is wrong with a source's `format.json`; "" for nothing. Raises FormatError for a newer format."""
    data = storage.read(layout.meta(source, "format.json"))
    if data is None:
        return "is missing"
    try:
        facts = msgspec.json.decode(data, type=Facts)
    except msgspec.DecodeError:
        return "is damaged"
    if facts.format > records.FORMAT:
        raise FormatError(f"the archive has format {facts.format}", where=source, hint="upgrade daykeep")
    written = msgspec.json.encode({"archive": "daykeep", "format": facts.format, "source": facts.source}) + b"\n"
    return "" if data == written and facts.format > 0 and layout.safe_name(facts.source) == source else "is damaged"


def name_of(source: str) -> str | None:
    """The name of a source by that of its folder; None where the folder's is too short to tell."""
    name = unquote(source)
    return name if layout.safe_name(name) == source else None


def fold(storage: Storage, source: str) -> tuple[Log, list[Finding], list[Finding]]:
    """The log by its commits alone, as far as they are whole; what is wrong with them, and with checkpoints."""
    log, broken, stale = Log(source), list[Finding](), list[Finding]()
    folder = layout.commits(source)
    names = storage.names(folder)
    checkpoints = {number: name for name in names if (number := layout.checkpoint_number(name))}
    last = max([*filter(None, map(layout.number, names)), *checkpoints], default=0)
    for seq in range(1, last + 1):
        path = layout.commit(source, seq)
        if problem := _take(log, path, storage.read(path), whole=not broken):
            broken.append(Finding(path, problem))
        elif seq in checkpoints and not broken:
            stale += _wrong_checkpoint(storage, f"{folder}/{checkpoints[seq]}", log)
    return log, broken, stale


def _take(log: Log, path: str, data: bytes | None, *, whole: bool) -> str:
    """Take a commit into the log, if that is `whole` so far; what is wrong with the commit, "" for nothing."""
    if data is None:
        return "a commit record is missing"
    try:
        commit, checksum = records.decode(data, path)
        if whole:
            log.apply(commit, checksum)
    except (CorruptArchive, msgspec.DecodeError) as error:
        return error.problem if isinstance(error, CorruptArchive) else "a commit record is damaged"
    return ""


def _wrong_checkpoint(storage: Storage, path: str, log: Log) -> Iterator[Finding]:
    data = storage.read(path)
    if data is None:
        return  # the writer has made a newer one meanwhile
    try:
        told = decode_checkpoint(data, path)
        if told is not None and msgspec.json.encode(told) != msgspec.json.encode(log):
            yield Finding(path, "does not say what the commits say")
    except (CorruptArchive, msgspec.DecodeError):
        yield Finding(path, "is damaged")


def _wrong_in_day(storage: Storage, log: Log, stream: str, day: str) -> Iterator[Finding]:
    held = log.day(stream, day)
    for file in held.files:
        if problem := file_problem(storage, log, file):
            yield Finding(log.path(file), problem)
    for seq, segment in held.pending:
        if problem := segment_problem(storage, log, seq, segment):
            yield Finding(layout.pack(log.source, seq), problem)


def file_problem(storage: Storage, log: Log, file: DayFile) -> str:
    """What is wrong with a day file; "" for nothing."""
    data, last = storage.read(log.path(file)), log.last_publish
    if data is not None and len(data) == file.size and records.digest(data) == file.sha256:
        return ""
    if last and file in last.files:
        beside = storage.read(log.staged_path(file, last.seq))
        if beside is not None and records.digest(beside) == file.sha256:
            return ""  # its rename is still to come
    if data is None:
        return "is missing"
    if len(data) > file.size and records.digest(data[: file.size]) == file.sha256:
        return "has grown since it was written"
    return "is cut" if len(data) < file.size else "is not as it was written"


def segment_problem(storage: Storage, log: Log, seq: int, segment: Segment) -> str:
    """What is wrong with the part of a pack that holds a segment; "" for nothing."""
    data = storage.read(layout.pack(log.source, seq), segment.offset, segment.size)
    if data is None:
        return "is missing"
    if records.digest(data) == segment.sha256:
        return ""
    return f"does not hold the lines of {segment.stream} {segment.day} as they were written"


def strangers(storage: Storage, log: Log) -> Iterator[tuple[str, str]]:
    """Files that the log does not name, each with what it is. Those of a writer at work are none."""
    source = log.source
    folders = (source, layout.meta(source), layout.commits(source), layout.packs(source), *map(log.folder, log.streams))
    seen = {folder: _names(storage, folder) for folder in folders}
    log = _newer(storage, log)  # what was made before it was read is named in it
    needed = {seq for segments in log.pending.values() for seq, _ in segments}
    known: dict[str, set[str]] = {
        source: {"_meta"},
        layout.meta(source): {"format.json", "format.json.tmp", "commits", "packs", *_UNPROVED},
        layout.commits(source): {
            name for name in seen[layout.commits(source)] if layout.number(name) or layout.checkpoint_number(name)
        },
        layout.packs(source): {f"{seq:08d}.pack" for seq in needed},
    }
    for folder in map(log.folder, log.streams):
        parent, _, name = folder.rpartition("/")
        known[parent].add(name)
        known[folder] = set()
    for file in log.files:
        known[log.folder(file.stream)].add(file.name)
    for folder, names in seen.items():
        for name in names:
            if name in known[folder] or _is_at_work(name, log.seq):
                continue
            problem = "is not in the commit log"
            if folder == layout.packs(source) and (number := layout.number(name)):
                problem = "is needed no longer" if number <= log.seq else "belongs to a commit that is not there"
            for path in files_below(storage, f"{folder}/{name}"):
                yield path, problem


def _is_at_work(name: str, seq: int) -> bool:
    """Whether a name is that of a file in the making: the next run puts it in its place, or removes it."""
    found = _IN_THE_MAKING.fullmatch(name)
    return found is not None and int(found[1] or found[2]) in {seq, seq + 1}


def files_below(storage: Storage, path: str) -> Iterator[str]:
    """The file at a path, or those below it."""
    if names := _names(storage, path):
        for name in names:
            yield from files_below(storage, f"{path}/{name}")
        return
    with suppress(StorageFailed):  # an empty folder
        if storage.read(path, 0, 0) is not None:
            yield path


def _names(storage: Storage, folder: str) -> list[str]:
    try:
        return storage.names(folder)
    except StorageFailed:
        return []  # it is a file
