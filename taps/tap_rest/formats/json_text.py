"""JSON as text: where values are in it and whether it is whole, without ever writing it anew.

Two readers stand behind every look-up: compiled msgspec decoders that read only the way to a value, and a scanner that
finds the slices of members by their tokens alone, for the bodies that msgspec refuses although nothing of them is
missing (lone surrogates, NaN, very deep nesting).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from tap_rest.errors import UnexpectedPage

BOM = b"\xef\xbb\xbf"

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
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_NAMED = msgspec.json.Decoder(dict[_Name, msgspec.Raw], dec_hook=lambda kind, name: kind(name))


def slice_at(text: bytes, path: str) -> bytes | None:
    """The bytes of the value at a dotted path (numbers also index lists) in JSON text; None when there is none."""
    for run in _runs(path):
        try:
            found = _compiled_slice(text, run)
        except msgspec.ValidationError:
            return None
        except (msgspec.DecodeError, RecursionError):
            found = _scanned_slice(text, run)
        if found is None:
            return None
        text = found
    return text


def decoded(text: bytes, *, exact: bool = False) -> Any:
    """The value of JSON text; None when it is not JSON. Also reads what msgspec refuses: NaN and lone surrogates.

    Numbers with a point or an exponent become floats, or with `exact` Decimals, which keep their digits.
    """
    try:
        return (_EXACT if exact else _PLAIN).decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        try:
            return json.loads(text.decode(), parse_float=Decimal if exact else None)
        except (ValueError, RecursionError):
            return None


def members(text: bytes) -> Iterator[tuple[str, bytes]]:
    """The members of an object, or the elements of a list with their index as name, each as its own bytes.

    Found by tokens, without recursion. Raises ValueError where the text is not an object or list, or is cut short.
    """
    keyed = text.lstrip()[:1] == b"{"
    step = ("name", ":", "value", ",") if keyed else ("value", ",")
    at, name, index = 0, "", 0
    for unit in _units(text):
        wanted = step[at % len(step)]
        if wanted in (":", ",") and unit != wanted.encode():
            raise ValueError(f"{wanted!r} is missing before {unit[:20]!r}")
        if wanted == "name":
            name = str(decoded(unit)) if unit.startswith(b'"') else ""
        if wanted in ("name", "value") and (unit in (b",", b":") or (wanted == "name" and not unit.startswith(b'"'))):
            raise ValueError(f"a {wanted} is missing before {unit[:20]!r}")
        if wanted == "value":
            yield (name if keyed else str(index)), unit
            index += 1
        at += 1
    if at and step[at % len(step)] != ",":
        raise ValueError("a value is missing at the end")


def entries(text: bytes) -> list[tuple[str, bytes]]:
    """All members of an object or elements of a list, in order, as `members` gives them, but at once and faster.

    Raises ValueError where the text is neither.
    """
    text = bytes(text)
    try:
        if text.lstrip()[:1] == b"[":
            return [(str(index), value) for index, value in enumerate(_LIST.decode(text))]
        return [(str(name), value) for name, value in _NAMED.decode(text).items()]
    except (msgspec.DecodeError, RecursionError):
        return list(members(text))


def elements(text: bytes) -> Sequence[bytes]:
    """The elements of a list. Raises ValueError where the text is none."""
    try:
        return _LIST.decode(text)
    except msgspec.ValidationError:
        raise ValueError("not a list") from None
    except (msgspec.DecodeError, RecursionError):
        if bytes(text).lstrip()[:1] != b"[":
            raise ValueError("not a list") from None
        return [value for _, value in members(bytes(text))]


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


@lru_cache(maxsize=256)
def _runs(path: str) -> tuple[tuple[str, ...], ...]:
    """The steps of a path in runs: names in a row are one compiled look-up, a number (an index or a name) its own."""
    runs: list[tuple[str, ...]] = []
    for key in path.split(".") if path not in ("", "$") else ():
        if runs and not key.isdigit() and not runs[-1][0].isdigit():
            runs[-1] = (*runs[-1], key)
        else:
            runs.append((key,))
    return tuple(runs)


def _compiled_slice(text: bytes, run: tuple[str, ...]) -> bytes | None:
    if run[0].isdigit() and text.lstrip()[:1] == b"[":
        items = _LIST.decode(text)
        return bytes(items[int(run[0])]) if int(run[0]) < len(items) else None
    found: Any = compiled(run, msgspec.Raw).decode(text)
    for _ in run:
        if found is None:
            return None
        found = found.v
    return None if found is None else bytes(found)


def _scanned_slice(text: bytes, run: tuple[str, ...]) -> bytes | None:
    found: bytes | None = text
    for key in run:
        try:
            found = dict(members(found or b"")).get(key)
        except ValueError:
            return None
    return found


@lru_cache(maxsize=256)
def compiled(keys: tuple[str, ...], leaf: Any) -> msgspec.json.Decoder[Any]:
    """A decoder of nested one-field structs: `.v.v` is the value below two keys, or None."""
    kind: Any = leaf
    for key in reversed(keys):
        kind = msgspec.defstruct("Step", [("v", kind if kind is msgspec.Raw else kind | None, None)], rename={"v": key})
    return msgspec.json.Decoder(kind)


def check_whole(text: bytes) -> None:
    """Raises UnexpectedPage unless the text is one whole JSON value in UTF-8."""
    check_utf8(text)
    try:
        _RAW.decode(text)
    except (msgspec.DecodeError, RecursionError):
        _check_tokens(text)


def check_utf8(text: bytes, at: int = 0) -> None:
    """Raises UnexpectedPage where it is not; `at` is where the text stands in the body."""
    if text.isascii():
        return
    try:
        text.decode()
    except UnicodeDecodeError as error:
        hint = "it looks like UTF-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise UnexpectedPage(
            f"the body is not UTF-8 (byte {at + error.start} is 0x{text[error.start]:02x})", hint=hint
        ) from None


def _check_tokens(text: bytes) -> None:
    """Refuses what is not whole; half surrogate pairs, NaN and great depth are whole, though msgspec refuses them."""
    try:
        for _ in members(text):
            pass
        json.loads(text, parse_int=str, parse_float=str)
    except RecursionError:
        pass
    except ValueError as error:
        raise UnexpectedPage(f"the body is not whole JSON: {error}") from None


def on_one_line(record: bytes) -> bytes:
    """The record without the white space between its tokens, if it spans several lines."""
    if b"\n" not in record and b"\r" not in record:
        return record
    try:
        compact = msgspec.json.format(record, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        compact = _SPACE.sub(rb"\1", record)
    if b"\n" in compact or b"\r" in compact:
        raise UnexpectedPage("a text in a record holds a bare line break, which JSON does not allow")
    return compact
