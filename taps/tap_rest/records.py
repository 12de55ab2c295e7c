"""Records selectors: where the records are in a body, and how they are sliced out without being parsed.

A slice is the API's own bytes. The only change ever made is to white space between the tokens of a record that spans
several lines, since a record must fit on one. What is decoded are single fields, by compiled readers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from tap_rest.component import Component
from tap_rest.errors import UnexpectedPage
from tap_rest.page import BOM, compiled, decoded, members, slice_at

_RAW = msgspec.json.Decoder(msgspec.Raw)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_MAP = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SPACE = re.compile(rb'("(?:[^"\\]|\\.)*+")|[ \t\r\n]+', re.DOTALL)
_KINDS = {b"{": "an object", b"[": "a list", b'"': "a text", b"n": "null", b"t": "a boolean", b"f": "a boolean"}


class RecordsKind(Component, frozen=True, kw_only=True):
    """What every selector can do."""

    def slices(self, body: bytes) -> Sequence[bytes]:
        """The records of a body, in order, each an object on one line.

        Raises:
            UnexpectedPage: The body is not whole UTF-8 JSON, or is not shaped as declared.
        """
        text = body.removeprefix(BOM)
        if not text.isascii():
            _check_utf8(text)
        try:
            found = self._sliced(text)
        except msgspec.ValidationError:
            raise self._mismatch(text) from None
        except (msgspec.DecodeError, RecursionError):
            found = self._scanned(text)
        for index, record in enumerate(found):
            if memoryview(record)[0] != 0x7B:
                raise UnexpectedPage(f"record {index} is {_kind(bytes(record))}, not an object")
        if b"\n" in text or b"\r" in text:
            return [_on_one_line(bytes(record)) for record in found]
        return found

    def _sliced(self, text: bytes) -> Sequence[bytes]:
        raise NotImplementedError

    def _scanned(self, text: bytes) -> Sequence[bytes]:
        raise NotImplementedError

    def _mismatch(self, text: bytes) -> UnexpectedPage:
        raise NotImplementedError


class RootRecords(RecordsKind, tag="root", frozen=True, kw_only=True):
    """The body itself is the list of records; short form `$`."""

    def _sliced(self, text: bytes) -> Sequence[bytes]:
        return _LIST.decode(text)

    def _scanned(self, text: bytes) -> Sequence[bytes]:
        _check_json(text)
        if text.lstrip()[:1] != b"[":
            raise self._mismatch(text)
        return [value for _, value in members(text)]

    def _mismatch(self, text: bytes) -> UnexpectedPage:
        return _not_there(text, "$", "a list")


class PathRecords(RecordsKind, tag="path", frozen=True, kw_only=True):
    """A list somewhere in the body; short form: the path itself.

    Attributes:
        path: Dotted path to the list, `data.items`.
        missing_ok: Whether null or nothing at that path means no records; otherwise it is an error.
    """

    path: str
    missing_ok: bool = False

    def _sliced(self, text: bytes) -> Sequence[bytes]:
        keys = tuple(self.path.split("."))
        found = compiled(keys, list[msgspec.Raw]).decode(text)
        for _ in keys:
            if found is None:
                break
            found = found.v
        if found is None:
            return self._absent(text)
        records: Sequence[bytes] = found
        return records

    def _scanned(self, text: bytes) -> Sequence[bytes]:
        _check_json(text)
        found = slice_at(text, self.path)
        if found in (None, b"null"):
            return self._absent(text)
        if not found or found[:1] != b"[":
            raise self._mismatch(text)
        return [value for _, value in members(found)]

    def _absent(self, text: bytes) -> Sequence[bytes]:
        if self.missing_ok:
            return ()
        raise self._mismatch(text)

    def _mismatch(self, text: bytes) -> UnexpectedPage:
        return _not_there(text, self.path, "a list")


class ObjectMapRecords(RecordsKind, tag="object_map", frozen=True, kw_only=True):
    """An object whose values are the records: `{"id1": {…}, "id2": {…}}`.

    Attributes:
        path: Dotted path to the object; `$` is the body itself.
        key_as: Member that takes the name of each entry, where the record has none of that name; empty: dropped.
        missing_ok: Whether null or nothing at that path means no records; otherwise it is an error.
    """

    path: str = "$"
    key_as: str = ""
    missing_ok: bool = False

    def _sliced(self, text: bytes) -> Sequence[bytes]:
        _RAW.decode(text)
        found = slice_at(text, self.path)
        if found in (None, b"null"):
            return self._absent(text)
        return self._keyed(_MAP.decode(found or b"").items())

    def _scanned(self, text: bytes) -> Sequence[bytes]:
        _check_json(text)
        found = slice_at(text, self.path)
        if found in (None, b"null"):
            return self._absent(text)
        if not found or found.lstrip()[:1] != b"{":
            raise self._mismatch(text)
        return self._keyed(members(found))

    def _keyed(self, entries: Any) -> Sequence[bytes]:
        if not self.key_as:
            return [value for _, value in entries]
        return [
            include(record, {self.key_as: json.dumps(name, ensure_ascii=False).encode()})
            if (record := bytes(value))[:1] == b"{"
            else record
            for name, value in entries
        ]

    def _absent(self, text: bytes) -> Sequence[bytes]:
        if self.missing_ok:
            return ()
        raise self._mismatch(text)

    def _mismatch(self, text: bytes) -> UnexpectedPage:
        return _not_there(text, self.path, "an object")


Records = PathRecords | RootRecords | ObjectMapRecords


class KeyReader:
    """Reads a few fields of every record of a page in one pass, at about half a microsecond a record.

    Values are str, int, Decimal (a number with a point or an exponent keeps its digits), bool, list, dict, or None
    for null and absent fields; the record as a whole is never decoded. `fields` may be dotted paths.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._paths = [tuple(field.split(".")) for field in fields]
        self._roots = list(dict.fromkeys(path[0] for path in self._paths))
        names = {f"f{index}": root for index, root in enumerate(self._roots)}
        keys = msgspec.defstruct("Keys", [(name, Any, None) for name in names], rename=names)
        self._page = msgspec.json.Decoder(list[keys], float_hook=Decimal)  # type: ignore[valid-type]

    def read(self, records: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """One tuple for each record, one value for each field, in order."""
        try:
            found = [msgspec.structs.astuple(keys) for keys in self._page.decode(b"[" + b",".join(records) + b"]")]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            found = [self._slowly(bytes(record)) for record in records]
        if all(len(path) == 1 for path in self._paths) and len(self._roots) == len(self._paths):
            return found
        where = [(self._roots.index(path[0]), path[1:]) for path in self._paths]
        return [tuple(_walked(values[index], rest) for index, rest in where) for values in found]

    def _slowly(self, record: bytes) -> tuple[Any, ...]:
        try:
            known = dict(members(record))
        except ValueError:
            known = {}
        return tuple(decoded(known[root], exact=True) if root in known else None for root in self._roots)


def include(record: bytes, extra: Mapping[str, bytes]) -> bytes:
    """The record with these members (JSON text) spliced in front, where it has no member of that name."""
    try:
        present = _presence(tuple(extra)).decode(record)
        absent = [name for index, name in enumerate(extra) if getattr(present, f"f{index}") is msgspec.UNSET]
    except (msgspec.DecodeError, RecursionError):
        known = {name for name, _ in members(record)}
        absent = [name for name in extra if name not in known]
    if not absent:
        return record
    spliced = b",".join(json.dumps(name, ensure_ascii=False).encode() + b":" + extra[name] for name in absent)
    rest = record[1:].lstrip()
    return b"{" + spliced + (b"" if rest.startswith(b"}") else b",") + rest


@lru_cache(maxsize=64)
def _presence(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    fields = [(f"f{index}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for index in range(len(names))]
    rename = {f"f{index}": name for index, name in enumerate(names)}
    return msgspec.json.Decoder(msgspec.defstruct("Presence", fields, rename=rename))


def _walked(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _check_utf8(text: bytes) -> None:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        hint = "it looks like UTF-16" if text[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise UnexpectedPage(
            f"the body is not UTF-8 (byte {error.start} is 0x{text[error.start]:02x})", hint=hint
        ) from None


def _check_json(text: bytes) -> None:
    """Refuses what is not whole; half surrogate pairs, NaN and great depth are whole, though msgspec refuses them."""
    try:
        for _ in members(text):
            pass
        json.loads(text, parse_int=str, parse_float=str)
    except RecursionError:
        pass
    except ValueError as error:
        raise UnexpectedPage(f"the body is not whole JSON: {error}") from None


def _on_one_line(record: bytes) -> bytes:
    if b"\n" not in record and b"\r" not in record:
        return record
    try:
        compact = msgspec.json.format(record, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        compact = _SPACE.sub(rb"\1", record)
    if b"\n" in compact or b"\r" in compact:
        raise UnexpectedPage("a text in a record holds a bare line break, which JSON does not allow")
    return compact


def _kind(text: bytes) -> str:
    return _KINDS.get(text.lstrip()[:1], "a number")


def _not_there(text: bytes, path: str, wanted: str) -> UnexpectedPage:
    """Says what is there instead: the deepest step that exists, and the names to choose from."""
    steps = [] if path == "$" else path.split(".")
    for depth in range(len(steps), -1, -1):
        found = slice_at(text, ".".join(steps[:depth]))
        if found is None:
            continue
        at = ".".join(steps[:depth]) or "the body"
        if depth == len(steps):
            return UnexpectedPage(f"{at} is {_kind(found)}, not {wanted}", hint=_names(found))
        return UnexpectedPage(f"the body has no {path}: {at} is {_kind(found)}", hint=_names(found))
    return UnexpectedPage(f"the body has no {path}")


def _names(text: bytes) -> str:
    try:
        names = [name for name, _ in members(text)] if text.lstrip()[:1] == b"{" else []
    except ValueError:
        names = []
    return f"its members are {', '.join(names[:12])}" if names else ""
