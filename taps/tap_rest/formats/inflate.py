"""What is compressed, inflated under a cap: streams on the wire piece by piece, and whole bodies that are archives."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import BytesIO
from typing import Any

from isal import isal_zlib

from tap_rest.errors import UnexpectedPage
from tap_rest.formats.spool import WINDOW, Body, gathered, pieces, start

SIP = 1 << 14
"""Compressed bytes inflated at once: they make 16 MiB at most."""
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

    def room(self, wire: int, inflated: int) -> int:
        """How many more bytes may come out of `wire` compressed bytes that gave `inflated` so far."""
        return min(self.inflated, max(16 << 20, wire * self.ratio)) - inflated


class Inflate:
    """Inflates a body piece by piece and knows whether it reached its end, checksum included, and nothing behind it."""

    def __init__(self, wbits: int) -> None:
        self._wbits, self._head = wbits, b""
        self._decoder: Any = None
        self.complete = False

    def feed(self, data: bytes, room: int) -> bytes:
        """What comes out, at most one byte more than `room`. Raises NotCompressed."""
        out = b""
        while data and len(out) <= room:
            if self._decoder is None or self.complete:
                self._head, data = b"", self._head + data
                if self._wbits == zlib.MAX_WBITS and len(data) < 2:
                    self._head, self.complete = data, False
                    break
                self._start(data)
            try:
                out += self._decoder.decompress(data, room - len(out) + 1)
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

    Args:
        body: Whole, as the server meant it.
        member: Pattern of the names in a zip that are wanted; they come in the order of the archive.
        caps: On all that comes out together.

    Raises:
        UnexpectedPage: It is damaged, cut, encrypted or too large, or has no such member.
        SpoolFailed: There is no room for what comes out.
    """
    found: list[Body] = []
    wire, size = _size(body), 0
    for file in _files(body, member, caps.room(wire, 0), NESTED):
        size += _size(file)
        if file is not body and size > caps.room(wire, 0):
            raise UnexpectedPage(f"the archive inflates to more than is taken (over {size:,} bytes)")
        found.append(file)
    return found


def _files(body: Body, member: str, room: int, depth: int) -> Iterator[Body]:
    if depth and start(body, 2) == b"\x1f\x8b":
        yield from _files(gathered(_gunzipped(body, room)), member, room, depth - 1)
    elif depth and start(body, 4) in (b"PK\x03\x04", b"PK\x05\x06"):
        for file in _unzipped(body, member, room):
            yield from _files(file, "*", room, depth - 1)
    else:
        yield body


def _gunzipped(body: Body, room: int) -> Iterator[bytes]:
    inflate, size = Inflate(31), 0
    for piece in pieces(body):
        for at in range(0, len(piece), SIP):
            try:
                text = inflate.feed(piece[at : at + SIP], room - size)
            except NotCompressed:
                raise UnexpectedPage("the gzip body is damaged") from None
            size += len(text)
            if size > room:
                raise UnexpectedPage(f"the gzip body inflates to more than is taken (over {room:,} bytes)")
            yield text
    if not inflate.complete:
        raise UnexpectedPage("the gzip body stops in the middle")


def _unzipped(body: Body, member: str, room: int) -> Iterator[Body]:
    try:
        with zipfile.ZipFile(BytesIO(body) if isinstance(body, bytes) else body.file) as archive:
            names = [info for info in archive.infolist() if not info.is_dir()]
            wanted = [info for info in names if fnmatchcase(info.filename, member)]
            if not wanted:
                listed = ", ".join(info.filename for info in names[:12])
                raise UnexpectedPage(f"the zip has no member {member}", hint=listed and f"it has {listed}")
            for info in wanted:
                if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise UnexpectedPage(f"{info.filename} in the zip is encrypted or compressed in an unusual way")
                with archive.open(info) as file:
                    yield gathered(_capped(iter(lambda: file.read(WINDOW), b""), room))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, ValueError) as fault:
        raise UnexpectedPage(f"the zip is damaged: {fault}") from None


def _capped(pieces: Iterable[bytes], room: int) -> Iterator[bytes]:
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            raise UnexpectedPage("the zip inflates to more than is taken")
        yield piece


def _size(body: Body) -> int:
    return len(body) if isinstance(body, bytes) else body.size
