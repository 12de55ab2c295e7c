"""Export files: what the config says of them, and the way from a file to its records.

    path → files → unpacked (zip, gzip) → behind the prefix → format → records selector → slices

A large file is read where it is; what is unpacked or composed goes through TMPDIR, one member of a zip at a time.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path
from typing import IO, Literal, NamedTuple

import msgspec

from tap_rest.component import Component
from tap_rest.errors import TapError, UnexpectedPage
from tap_rest.formats.formats import Format, JsonFormat
from tap_rest.formats.inflate import Caps, unpacked
from tap_rest.formats.records import PathRecords, Records, RootRecords
from tap_rest.formats.spool import HELD, WINDOW, Body, Spool, as_file, gathered, start, whole
from tap_rest.language.replication import moment
from tap_rest.language.vocabulary import Day, Name

CAPS = Caps(inflated=1 << 40, ratio=1100)  # a file of the user's own; deflate makes no more than that of a byte


class File(NamedTuple):
    """A file that is there; how STATE names it; 16 hex digits that change when it does, or the way it is read."""

    path: Path
    name: str
    mark: str


class Covers(Component, frozen=True, kw_only=True):
    """A time of which files hold every record, `to` exclusive; without `from` since the first there ever was."""

    to: str
    start: str | None = msgspec.field(default=None, name="from")

    def __post_init__(self) -> None:
        if None in (moment(self.to), moment(self.start or self.to)):
            raise ValueError("`covers` is from a time to a time: 2015-01-01, 2024-05-01T12:00:00Z")


class Export(Component, frozen=True, kw_only=True):
    """Files of one kind: an entry of the setting `files`. docs/takeout.md says what its keys mean."""

    path: str
    stream: Name
    member: str | None = None
    prefix: str = ""
    format: Format = JsonFormat()
    records: Records | str = "$"
    primary_keys: list[str] | None = None
    day: Day | None = None
    mode: Literal["event", "entity", "changelog", "metric", "snapshot"] | None = None
    covers: Covers | None = None

    @property
    def selector(self) -> Records:
        short = RootRecords() if self.records == "$" else PathRecords(path=str(self.records))
        return short if isinstance(self.records, str) else self.records

    def files(self) -> list[File]:
        """The files there are, always in the same order. Raises TapError where there is none."""
        path = str(Path(self.path).expanduser().absolute())
        names = [path] if os.path.lexists(path) else glob.glob(path, recursive=True)  # noqa: PTH207 - Path's takes hidden files, too
        if not (found := sorted(Path(name) for name in names if os.path.isfile(name))):  # noqa: PTH113 - Path's may raise
            raise TapError("there is no such file", where=self.path, hint="see `path` in the config")
        return [File(file, f"{file}#{self.member}" if self.member else str(file), self._mark(file)) for file in found]

    def _mark(self, path: Path) -> str:
        how = hashlib.blake2b(msgspec.json.encode([self.format, self.selector, self.prefix, self.member])).digest()
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, lambda: hashlib.blake2b(key=how, digest_size=8)).hexdigest()
        except OSError:
            return "unreadable"  # to read it will say why

    def slices(self, path: Path) -> Iterator[Sequence[bytes]]:
        """The records of a file, text by text, each proved to be whole before it is given. Raises TapError."""
        where = str(path)
        try:
            with path.open("rb") as file:
                body = Part(file) if os.fstat(file.fileno()).st_size > HELD else file.read()
                for name, packed in _members(body, self.member or self.format.member):
                    where = f"{path}: {name}" if name else where
                    bodies = map(self._behind_prefix, unpacked(packed, caps=CAPS))
                    for text in chain.from_iterable(map(self.format.texts, bodies)):
                        large = self.selector.streamed(text) if isinstance(text, Spool) else None
                        yield self.selector.slices(whole(text)) if large is None else large
        except OSError as error:
            raise TapError(error.strerror or str(error), where=where, hint="can it be read?") from None
        except UnexpectedPage as error:
            hint = error.hint or "is it whole, and are `format` and `records` right?"
            raise UnexpectedPage(error.problem.replace("the body", "the file"), where=where, hint=hint) from None

    def _behind_prefix(self, body: Body) -> Body:
        if not self.prefix:
            return body
        words, head = map(re.escape, self.prefix.strip().encode().split(b"*")), start(body, WINDOW)
        found = re.match(rb"(?:\xef\xbb\xbf)?\s*" + rb"[^\n]*?".join(words), head)
        if found is None:
            raise UnexpectedPage("the file does not begin with its `prefix`", hint=f"but with {head[:60]!r}")
        return body[found.end() :] if isinstance(body, bytes) else Part(body.file, found.end(), body)


class Part(Spool):
    """What stands in a file from some byte on, read where it is; `owner` is what closes the file, if not the caller."""

    def __init__(self, file: IO[bytes], skipped: int = 0, owner: Spool | None = None) -> None:
        self.file, self.window = file, WINDOW  # type: ignore[assignment]  # any file will do that is only read
        self.size = os.fstat(file.fileno()).st_size - skipped
        self._skipped, self._owner = skipped, owner

    def read(self, at: int, size: int) -> bytes:
        return os.pread(self.file.fileno(), size, self._skipped + at)


def _members(body: Body, pattern: str) -> Iterator[tuple[str, Body]]:
    """The files of a zip that are wanted, one after another; of anything else all of it, without a name."""
    if start(body, 4) not in (b"PK\x03\x04", b"PK\x05\x06"):
        yield "", body
        return
    try:
        with zipfile.ZipFile(as_file(body)) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            wanted = [info for info in members if fnmatchcase(info.filename, pattern)]
            if not wanted:
                names = ", ".join(info.filename for info in members[:12])
                raise UnexpectedPage(f"the zip has no member {pattern}", hint=f"it has {names or 'none'}")
            for info in wanted:
                with archive.open(info) as file:
                    yield info.filename, gathered(iter(lambda: file.read(WINDOW), b""))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as fault:
        raise UnexpectedPage(f"the zip can't be unpacked: {fault}") from None
