"""Commit records: the numbered, immutable, checksummed facts that an archive consists of.

A file holds one line of JSON and one line with the SHA-256 of the first. `prev` names the digest of the record before,
so the log is a chain: nothing in it can be changed, left out or reordered unseen.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from target_archive.errors import CorruptArchive, FormatError
from target_archive.shape import Shape

FORMAT = 2

Severity = Literal["info", "warn", "breaking"]
Mode = Literal["event", "entity", "changelog", "metric", "snapshot"]


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The new lines of one stream and day, a compressed member inside the commit's pack.

    `offset` and `size` are bytes within the pack, `sha256` is that of these bytes.
    """

    stream: str
    day: str
    offset: int
    size: int
    lines: int
    sha256: str


class DayFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A published file: one part of one stream's day, holding every segment of the day up to commit `through`."""

    stream: str
    day: str
    part: int
    name: str
    size: int
    lines: int
    sha256: str
    through: int


class StreamFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a SCHEMA message said, and how the archive files the stream by it."""

    folder: str
    schema: dict[str, Any] = {}
    key_properties: tuple[str, ...] = ()
    bookmark_properties: tuple[str, ...] = ()
    day_field: str = ""
    timezone: str = "UTC"
    dedupe: str = "none"
    mode: Mode = "changelog"

    @property
    def volatile(self) -> tuple[str, ...]:
        """Paths of the fields that change without meaning."""
        declared = self.schema.get("x-daykeep-volatile")
        return tuple(map(str, declared)) if isinstance(declared, list) else ()


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A change in the shape of a stream's records, or in its SCHEMA; FORMAT.md has the kinds.

    `before` and `after` are types, or names of fields where it is about keys. `day` and `line`, counted from 1, are of
    the record that showed it first; of a field that is gone, `day` is the last that had it.
    """

    kind: str
    path: str
    severity: Severity
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    day: str = ""
    line: int = 0


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a commit's records of one stream add to what was known: the new part of their shape, and the changes."""

    shape: Shape | None = None
    changes: tuple[Change, ...] = ()


class Commit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One record of the log.

    A `data` commit names the segments of its pack, and the STATE that they cover, where one was received. A `publish`
    commit names the day files that were brought up to date from packs. `streams` holds facts that are new or changed.
    `gone` are the numbers of lines that a complete read did not find any more, `same` the days whose snapshot equals an
    earlier day's. An `acknowledge` commit names streams whose changes so far a person has seen. A `pin` commit says
    which commit's view of a day is to be shown, 0 for the latest. A `repair` commit names the day files that are left
    of damaged ones, and in `lost` how many lines are not.
    """

    format: int
    seq: int
    kind: str
    at: str
    run: str
    prev: str
    streams: dict[str, StreamFacts] = {}
    pack_sha256: str = ""
    segments: tuple[Segment, ...] = ()
    state: msgspec.Raw = msgspec.Raw(b"null")
    files: tuple[DayFile, ...] = ()
    dropped: int = 0
    drift: dict[str, Drift] = {}
    acknowledged: tuple[str, ...] = ()
    gone: dict[str, dict[str, tuple[int, ...]]] = {}
    same: dict[str, dict[str, str]] = {}
    pins: dict[str, dict[str, int]] = {}
    lost: dict[str, dict[str, int]] = {}


_decoder = msgspec.json.Decoder(Commit)


def encode(commit: Commit) -> tuple[bytes, str]:
    """The bytes of the record's file, and the record's digest."""
    return with_digest(msgspec.json.encode(commit))


def with_digest(body: bytes) -> tuple[bytes, str]:
    """A line with another line that has its digest, and that digest."""
    checksum = digest(body)
    return b"%s\n%s\n" % (body, checksum.encode()), checksum


def checked_body(data: bytes, where: str) -> bytes:
    """The line that `with_digest` was given. Raises CorruptArchive where it is another one."""
    body, _, checksum = data.rstrip(b"\n").rpartition(b"\n")
    if digest(body).encode() != checksum:
        raise CorruptArchive("a commit record is damaged", where=where, hint="restore it from a copy of the archive")
    return body


def decode(data: bytes, where: str) -> tuple[Commit, str]:
    """The record and its digest. Raises CorruptArchive, or FormatError for one that a newer version wrote."""
    body = checked_body(data, where)
    written = msgspec.json.decode(body, type=_Format).format
    if written > FORMAT:
        raise FormatError(f"the archive has format {written}, this version knows {FORMAT}", where=where, hint="upgrade")
    return _decoder.decode(body), digest(body)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Format(msgspec.Struct):
    format: int
