"""The records of a body in a file: where they stand is found in one pass that proves them, then they are read again.

What is kept of them in memory is where each run of about a mebibyte begins and ends.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

from isal import isal_zlib

from tap_rest.errors import UnexpectedPage
from tap_rest.formats.json_text import BOM, RAW_LIST, REFUSED, check_whole, quoted
from tap_rest.formats.places import list_at, steps_of
from tap_rest.formats.spool import HELD, Spool

TRIES = 8
NEAR = 1 << 16
"""Bytes at the end of a window in which a place to cut it is looked for."""

_MARK = b'{"mark":"%b"}' % secrets.token_hex(8).encode()
"""A record that no body has."""
_FIRST_NAME = re.compile(rb'[ \t\r\n]*+\{[ \t\r\n]*+("(?:[^"\\]|\\.)*+")')
_NEXT, _NEXT_OR_COMMA = (
    re.compile(rb'[^"%b]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"%b]*+)*+([%b]?)' % (marks, marks, marks), re.DOTALL)
    for marks in (rb"\[\]{}", rb"\[\]{},")
)


class Batch(NamedTuple):
    """So many records, the sum of the CRC-32 of each, and how to read them."""

    number: int
    checksum: int
    read: Callable[[], Sequence[bytes]]


def checksum(records: Sequence[bytes]) -> int:
    """The sum of the CRC-32 of each; what was proved is not read once more for it."""
    if isinstance(records, Streamed):
        return sum(batch.checksum for batch in records.batches)
    return sum(map(isal_zlib.crc32, records))


class Streamed(Sequence[bytes]):
    """Records that are read from their file each time they are asked for.

    Attributes:
        around: The body without them, JSON text.
        batches: In order.
    """

    def __init__(self, around: bytes, batches: Sequence[Batch]) -> None:
        self.around, self.batches = around, batches

    def __len__(self) -> int:
        return sum(batch.number for batch in self.batches)

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(batch.read() for batch in self.batches)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(islice(self, *index.indices(len(self))))
        return next(islice(self, range(len(self))[index], None))


def streamed_list(body: Spool, path: str, slices: Callable[..., Sequence[bytes]]) -> Streamed | None:
    """The list at a path without `*` as records; None where much stands before or behind it, or nothing in it.

    `slices` gives the records of a part of the list, as a selector does. Raises UnexpectedPage where the body is not
    whole UTF-8 JSON, or the elements are not as declared.

    What stands around it is put together with a mark in its place. That this is whole JSON, with the mark in the list
    at the path, proves both the place of the list and all that is not in it.
    """
    head, steps = body.read(0, body.window), steps_of(path)
    opening = rb"%b[ \t\r\n]*+:[ \t\r\n]*+\[" % re.escape(quoted(steps[-1])) if steps else rb"\["
    for match in islice(re.finditer(opening, head), TRIES):
        begin = match.end()
        with suppress(UnexpectedPage):
            if _marked(head[:begin] + _MARK + b"]" + b"}" * len(steps), path) == [_MARK]:
                break
    else:
        return None
    batches: list[Batch] = []
    count, end = 0, begin
    for at, end in _runs(body, begin):
        part = partial(_part, body, at, end, slices, count)
        if found := part():
            batches.append(Batch(len(found), checksum(found), part))
            count += len(found)
        elif batches or body.read(end, 1) == b",":
            raise UnexpectedPage(f"the body is not whole JSON: there is nothing where record {count} should be")
    tail = body.read(end, HELD)
    if not batches or end + len(tail) < body.size:
        return None
    _marked(head[:begin] + _MARK + tail, path)
    return Streamed(head[:begin] + tail, batches)


def _part(body: Spool, at: int, end: int, slices: Callable[..., Sequence[bytes]], first: int) -> Sequence[bytes]:
    return slices(b"[" + body.read(at, end - at) + b"]", at=at - 1, first=first)


def _marked(text: bytes, path: str) -> list[bytes]:
    """The list at the path of a whole body. Raises UnexpectedPage where a name on the way stands twice, too."""
    text = text.removeprefix(BOM)
    check_whole(text)
    return [bytes(element) for element in list_at(text, path)]


def _runs(body: Spool, at: int) -> Iterator[tuple[int, int]]:
    """Where runs of elements of a list begin and end, whose inside begins at `at`.

    That a run is whole JSON is not checked, only that it ends where it must if it is. Raises UnexpectedPage where the
    body ends before the list does.
    """
    size, last = body.window, False
    while not last:
        window = body.read(at, size)
        end, last = _cut(window)
        if end is not None:
            yield at, at + end
            at, size = at + end + 1, body.window
        elif len(window) < size:
            raise UnexpectedPage("the body is not whole JSON: it is cut short among the records")
        else:
            size *= 2


def _cut(text: bytes) -> tuple[int | None, bool]:
    """The place of the last comma between elements that can be found, or (True) of the bracket that closes the list.

    A text that is whole JSON when it is closed at a comma is proved to be cut between elements, since JSON is read from
    left to right. So a guess is tried first; counting brackets takes several times as long.
    """
    name = _FIRST_NAME.match(text)
    seam = rb"\}[ \t\r\n]*+(?=,[ \t\r\n]*+\{[ \t\r\n]*+%b)" % re.escape(name[1]) if name else rb"(?=,)"
    for match in list(re.finditer(seam, text[-NEAR:]))[: -TRIES - 1 : -1]:
        end = max(0, len(text) - NEAR) + match.end()
        try:
            RAW_LIST.decode(b"[" + text[:end] + b"]")
        except REFUSED:
            continue
        return end, False
    return _counted(text)


def _counted(text: bytes) -> tuple[int | None, bool]:
    found, depth, at = None, 0, 0
    while (match := (_NEXT if depth else _NEXT_OR_COMMA).match(text, at)) and match[1]:
        at = match.end()
        if match[1] == b",":
            found = at - 1
        elif match[1] in (b"{", b"["):
            depth += 1
        elif depth:
            depth -= 1
        else:
            return at - 1, True
    return found, False
