"""What is compressed, inflated under a cap: streams on the wire piece by piece, and whole bodies that are archives."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from gzip import GzipFile
from typing import IO, Any

from isal import igzip, isal_zlib

from tap_rest.errors import UnexpectedPage
from tap_rest.formats.spool import WINDOW, Body, as_file, gathered, size_of, start

SIP = 1 << 14
"""Compressed bytes to feed at once: they make 16 MiB at most."""
NESTED = 3
"""Archives inside one another that are opened; `export.zip` of `.json.gz` files has two."""


class NotCompressed(Exception):
    """The bytes are not what the announced compression makes."""


@dataclass(frozen=True)
class Caps:
    """The largest answer that is taken: bytes on the wire, bytes after inflating, and their ratio above 16 MiB."""

    wire: int = 8 << 30
    inflated: int = 16 << 30
    ratio: int = 250

    def room(self, wire: int) -> int:
        """How many bytes may come out of `wire` compressed bytes."""
        return min(self.inflated, max(16 << 20, wire * self.ratio))


class Inflate:
    """Inflates a body piece by piece and knows whether it reached its end, checksum included, and nothing behind it."""

    def __init__(self, wbits: int) -> None:
        self._wbits, self._head = wbits, b""
        self._decoder: Any = None
        self.complete = False

    def feed(self, data: bytes) -> bytes:
        """What comes out. Raises NotCompressed."""
        out = b""
        while data:
            if self._decoder is None or self.complete:
                self._head, data = b"", self._head + data
                if self._wbits == zlib.MAX_WBITS and len(data) < 2:
                    self._head, self.complete = data, False
                    break
                self._start(data)
            try:
                out += self._decoder.decompress(data)
            except isal_zlib.error:  # type: ignore[misc]  # its stub calls the class an instance
                raise NotCompressed from None
            self.complete, data = self._decoder.eof, self._decoder.unused_data
        return out

    def _start(self, data: bytes) -> None:
        wbits = self._wbits
        if wbits == zlib.MAX_WBITS and (data[0] & 15 != 8 or int.from_bytes(data[:2]) % 31):
            wbits = -zlib.MAX_WBITS  # "deflate" means zlib, yet some servers leave out its wrapper
        self._decoder, self.complete = isal_zlib.decompressobj(wbits), False


def unpacked(body: Body, member: str = "*", caps: Caps = Caps()) -> list[Body]:
    """The files in a body that is gzip or zip, by its first bytes and to any order of the two; else the body alone.

    Of a zip they are those whose names `member` matches, in its order; `caps` are on all that comes out together.
    Raises UnexpectedPage where it is damaged, cut, encrypted, too large or without such a member, and SpoolFailed.
    """
    room, size = caps.room(size_of(body)), 0
    found: list[Body] = []
    for file in _files(body, member, room, NESTED):
        size += size_of(file)
        if file is not body and size > room:
            raise UnexpectedPage(f"the archive inflates to more than is taken (over {room:,} bytes)")
        found.append(file)
    return found


def _files(body: Body, member: str, room: int, depth: int) -> Iterator[Body]:
    if depth and start(body, 2) == b"\x1f\x8b":
        yield from _files(_gunzipped(body, room), member, room, depth - 1)
    elif depth and start(body, 4) in (b"PK\x03\x04", b"PK\x05\x06"):
        for file in _unzipped(body, member, room):
            yield from _files(file, "*", room, depth - 1)
    else:
        yield body


def _gunzipped(body: Body, room: int) -> Body:
    try:
        with igzip.IGzipFile(fileobj=as_file(body)) as file:  # type: ignore[no-untyped-call]
            return gathered(_pieces(file, room))
    except EOFError:
        raise UnexpectedPage("the gzip body stops in the middle") from None
    except (OSError, isal_zlib.error):  # type: ignore[misc]  # its stub calls the class an instance
        raise UnexpectedPage("the gzip body is damaged") from None


def _unzipped(body: Body, member: str, room: int) -> Iterator[Body]:
    try:
        with zipfile.ZipFile(as_file(body)) as archive:
            names = [info for info in archive.infolist() if not info.is_dir()]
            wanted = [info for info in names if fnmatchcase(info.filename, member)]
            if not wanted:
                listed = ", ".join(info.filename for info in names[:12])
                raise UnexpectedPage(f"the zip has no member {member}", hint=listed and f"it has {listed}")
            for info in wanted:
                if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UnexpectedPage(f"{info.filename} in the zip is encrypted or compressed in an unusual way")
                with archive.open(info) as file:
                    yield gathered(_pieces(file, room))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError) as fault:
        raise UnexpectedPage(f"the zip is damaged: {fault}") from None


def _pieces(file: IO[bytes] | GzipFile, room: int) -> Iterator[bytes]:
    left = room
    while piece := file.read(WINDOW):
        left -= len(piece)
        if left < 0:
            raise UnexpectedPage(f"the archive inflates to more than is taken (over {room:,} bytes)")
        yield piece
