"""Makes the files of finished days as small as they get: one gzip member at the highest level, the same text.

A day that grew by small commits is made of many members, which cost a multiple of their text in one. The files change
places in a `publish` commit like any other, so a kill at any point leaves a whole archive.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import msgspec

from target_archive import commit as records
from target_archive import dayfile, layout
from target_archive.commit import DayFile
from target_archive.errors import CorruptArchive
from target_archive.log import Log
from target_archive.storage import Storage
from target_archive.writer import Writer

STAGED_BYTES = 256 << 20
"""So much is laid beside the day files before it takes their places."""

_HIGHEST = 2
"""The byte of a gzip header (XFL) that says: made at the highest level."""


class Sealed(msgspec.Struct, frozen=True):
    """A day file that takes less room now: its path below the root, bytes before and after."""

    path: str
    before: int
    after: int


def seal(storage: Storage, writer: Writer, *, until: str, stream: str | None = None) -> Iterator[Sealed]:
    """Seal the files of the days before `until`, `YYYY-MM-DD`, of one stream or all; gives those that got smaller.

    A file that is not as it was written is left alone and stands in `writer.problems`. What was given takes its place
    at the latest when the iterator ends.
    """
    staged: list[DayFile] = []
    for file in _finished(writer.log, until, stream):
        path = writer.log.path(file)
        try:
            content = _sealed(storage.read(path) or b"", file)
        except CorruptArchive as error:
            writer.problems.append(f"{path} {error.problem}")
            continue
        if content is None:
            continue
        staged.append(
            writer.stage(file.stream, file.day, file.part, file.name, content, lines=file.lines, through=file.through)
        )
        yield Sealed(path, file.size, len(content))
        if sum(one.size for one in staged) > STAGED_BYTES:
            writer.place("publish", staged)
            staged = []
    if staged:
        writer.place("publish", staged)


def _finished(log: Log, until: str, stream: str | None) -> list[DayFile]:
    return [
        file
        for file in log.files
        if stream in {None, file.stream} and file.day < until and layout.is_compressed(file.name)
    ]


def _sealed(data: bytes, file: DayFile) -> bytes | None:
    """The file's text in fewer bytes; None where it is sealed, or gains nothing."""
    if records.digest(data) != file.sha256:
        raise CorruptArchive("is not as it was written: it is left alone")
    reader = zlib.decompressobj(wbits=31)
    text = reader.decompress(data)
    if data[8] == _HIGHEST and not reader.unused_data:
        return None
    packer = zlib.compressobj(9, zlib.DEFLATED, 31, 9)
    if reader.unused_data:
        text = dayfile.decompress(data)
    content = packer.compress(text) + packer.flush()
    return content if len(content) < len(data) else None
