"""Bodies too large to be held: kept in a file without a name, filled and read piece by piece.

The transport gathers a body from what it reads, a format one of JSON text from another; records are sliced out of both.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import chain
from typing import IO

from tap_rest.errors import TapError, UnexpectedPage

HELD = 8 << 20
"""Bytes of a body that are held in memory; a larger one goes to a file."""
WHOLE = 1 << 30
"""The same where records can be found in no other way."""
WINDOW = 1 << 20


class SpoolFailed(TapError):
    """A large answer can't be kept in the folder of temporary files."""


class Spool:
    """A body in a file, which is gone with the last reference to it, also when the process is killed.

    Attributes:
        size: In bytes.
        window: Bytes to look at at once.
        file: To be read only.
    """

    def __init__(self, pieces: Iterable[bytes], window: int = WINDOW) -> None:
        """Raises SpoolFailed."""
        self.size, self.window, where = 0, window, "TMPDIR"
        try:
            where = tempfile.gettempdir()
            self.file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it is closed with the spool
        except OSError as fault:
            raise _failed(fault, where) from None
        weakref.finalize(self, self.file.close)
        for piece in pieces:
            rest = memoryview(piece)
            self.size += len(rest)
            try:
                while rest:
                    rest = rest[self.file.write(rest) :]
            except OSError as fault:
                raise _failed(fault, where) from None

    def __iter__(self) -> Iterator[bytes]:
        return (self.read(at, self.window) for at in range(0, self.size, self.window))

    def read(self, at: int, size: int) -> bytes:
        return os.pread(self.file.fileno(), size, at)

    def contains(self, text: bytes) -> bool:
        return any(text in self.read(at, self.window + len(text)) for at in range(0, self.size, self.window))


Body = bytes | Spool


def gathered(pieces: Iterable[bytes]) -> Body:
    """The pieces as one body. Raises SpoolFailed, and what the pieces raise."""
    held: list[bytes] = []
    size, rest = 0, iter(pieces)
    for piece in rest:
        held.append(piece)
        size += len(piece)
        if size > HELD:
            return Spool(chain(held, rest))
    return held[0] if len(held) == 1 else b"".join(held)


def size_of(body: Body) -> int:
    return len(body) if isinstance(body, bytes) else body.size


def whole(body: Body) -> bytes:
    """All of it. Raises UnexpectedPage where that is more than memory should take."""
    if size_of(body) > WHOLE:
        problem = f"the body has {size_of(body):,} bytes, too many to be held, and can't be read in parts"
        raise UnexpectedPage(problem, hint="one list with little around it can; else ask for smaller pages")
    return start(body, size_of(body))


def as_file(body: Body) -> IO[bytes]:
    """The body to be read by a library, from its beginning."""
    file = BytesIO(body) if isinstance(body, bytes) else body.file
    file.seek(0)
    return file


def start(body: Body, size: int) -> bytes:
    return body[:size] if isinstance(body, bytes) else body.read(0, size)


def pieces(body: Body) -> Iterable[bytes]:
    return (body,) if isinstance(body, bytes) else body


def whole_lines(body: Body) -> Iterator[bytes]:
    """The body in pieces that end where a line does."""
    rest = b""
    for piece in pieces(body):
        end = piece.rfind(b"\n") + 1 if isinstance(body, Spool) else len(piece)
        if end:
            yield rest + piece[:end]
            rest = b""
        rest += piece[end:]
    if rest:
        yield rest


def _failed(fault: OSError, where: str) -> SpoolFailed:
    problem = f"a large answer can't be kept in {where}: {fault.strerror or fault}"
    return SpoolFailed(problem, hint="free space there, or set TMPDIR to a folder on a larger disk")
