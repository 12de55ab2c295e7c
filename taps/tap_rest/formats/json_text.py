"""JSON as text: what stands directly in an object or list, and whether a text is whole, without writing it anew.

Two readers stand behind this: compiled msgspec decoders, and a scanner that goes by tokens alone, for the texts that
msgspec refuses although nothing of them is missing (lone surrogates, NaN, very deep nesting).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from tap_rest.errors import UnexpectedPage

BOM = b"\xef\xbb\xbf"
RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])
"""Its elements as they stand in the text, which is proved to be whole JSON by that."""
REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises, also for some texts that are whole."""

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[{}\[\]:,]|[^\s"{}\[\]:,]+|"', re.DOTALL)
_PLAIN = msgspec.json.Decoder()
_EXACT = msgspec.json.Decoder(float_hook=Decimal)
_CLOSER = {b"{": b"}", b"[": b"]"}
_SPACE = re.compile(rb'("(?:[^"\\]|\\.)*+")|[ \t\r\n]+', re.DOTALL)


class _Name(str):
    """A member's name that equals no other, so that a dict of members keeps those whose name stands twice."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


_RAW = msgspec.json.Decoder(msgspec.Raw)
_NAMED = msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=lambda kind, name: kind(name))


def decoded(text: bytes, *, exact: bool = False) -> Any:
    """The value of JSON text; None when it is not JSON. Also reads what msgspec refuses: NaN and lone surrogates.

    Numbers with a point or an exponent become floats, or with `exact` Decimals, which keep their digits.
    """
    try:
        return (_EXACT if exact else _PLAIN).decode(text)
    except REFUSED:
        try:
            return json.loads(bytes(text).decode(), parse_float=Decimal if exact else None)
        except (ValueError, RecursionError):
            return None


def entries(text: bytes) -> list[tuple[str, bytes]]:
    """The members of an object, or the elements of a list with their index as name, each as its own bytes, in order.

    A name that stands twice is there twice. Raises ValueError where the text is neither.
    """
    text = bytes(text)
    if text.lstrip()[:1] == b"[":
        return [(str(index), value) for index, value in enumerate(elements(text))]
    try:
        return [(str(name), value) for name, value in _NAMED.decode(text).items()]
    except REFUSED:
        return members(text)


def elements(text: bytes) -> Sequence[bytes]:
    """The elements of a list. Raises ValueError where the text is none."""
    text = bytes(text)
    if text.lstrip()[:1] != b"[":
        raise ValueError("not a list")
    try:
        return RAW_LIST.decode(text)
    except REFUSED:
        return [value for _, value in members(text)]


def members(text: bytes) -> list[tuple[str, bytes]]:
    """What `entries` gives, found by tokens and without recursion. Raises ValueError where the text is cut short."""
    keyed = text.lstrip()[:1] == b"{"
    step = ("name", ":", "value", ",") if keyed else ("value", ",")
    found: list[tuple[str, bytes]] = []
    name = wanted = ""
    for at, unit in enumerate(_units(text)):
        wanted = step[at % len(step)]
        kind = unit.decode() if unit in (b":", b",") else "name" if wanted == "name" and unit[:1] == b'"' else "value"
        if kind != wanted:
            raise ValueError(f"a {wanted} is missing before {unit[:20]!r}")
        if kind == "name":
            name = str(decoded(unit))
        elif kind == "value":
            found.append((name if keyed else str(len(found)), unit))
    if wanted not in ("", "value"):
        raise ValueError("a value is missing at the end")
    return found


@lru_cache(maxsize=256)
def quoted(text: str) -> bytes:
    """A text as JSON; half of a surrogate pair, which UTF-8 can't hold, stays the escape that it was."""
    try:
        return json.dumps(text, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(text).encode()


def composed(parts: Iterable[tuple[bytes, bytes]]) -> bytes:
    """An object of names and values that are JSON text already."""
    return b"{" + b",".join(name + b":" + value for name, value in parts) + b"}"


def _units(text: bytes) -> Iterator[bytes]:
    """What stands directly inside the outer brackets: scalars and punctuation as tokens, a group as one piece."""
    expected: list[bytes] = []
    start = 0
    closed = False
    for match in _TOKEN.finditer(text):
        token = match[0]
        if closed or token == b'"':
            raise ValueError("text after the end" if closed else "cut inside a string")
        if token in _CLOSER:
            start = match.start() if len(expected) == 1 else start
            expected.append(_CLOSER[token])
        elif not expected:
            raise ValueError("not an object or list")
        elif token in (b"}", b"]"):
            if expected.pop() != token:
                raise ValueError(f"{token.decode()!r} closes nothing")
            closed = not expected
            if len(expected) == 1:
                yield text[start : match.end()]
        elif len(expected) == 1:
            yield token
    if not closed:
        raise ValueError("cut short" if expected else "nothing there")


def check_whole(text: bytes) -> None:
    """Raises UnexpectedPage unless the text is one whole JSON value in UTF-8."""
    check_utf8(text)
    try:
        _RAW.decode(text)
    except REFUSED:  # half surrogate pairs, NaN and great depth, too, which are whole
        try:
            members(text)
            with suppress(RecursionError):
                json.loads(text, parse_int=str, parse_float=str)
        except ValueError as error:
            raise UnexpectedPage(f"the body is not whole JSON: {error}") from None


def check_utf8(text: bytes, at: int = 0) -> None:
    """Raises UnexpectedPage where it is not; `at` is where the text stands in the body."""
    if text.isascii():
        return
    try:
        text.decode()
    except UnicodeDecodeError as error:
        hint = "it looks like UTF-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        problem = f"the body is not UTF-8 (byte {at + error.start} is 0x{text[error.start]:02x})"
        raise UnexpectedPage(problem, hint=hint) from None


def on_one_line(record: bytes) -> bytes:
    """The record without the white space between its tokens, if it spans several lines."""
    if b"\n" not in record and b"\r" not in record:
        return record
    try:
        compact = msgspec.json.format(record, indent=-1)
    except REFUSED:
        compact = _SPACE.sub(rb"\1", record)
    if b"\n" in compact or b"\r" in compact:
        raise UnexpectedPage("a text in a record holds a bare line break, which JSON does not allow")
    return compact
