"""From records to typed rows: the columns that follow from the shape of a stream, and values that stay what they were.

A value that a column's type would alter makes the column one of JSON text; a record that its columns cannot tell whole
stands in the column `_record` as it came.
"""

from __future__ import annotations

import glob
import json
import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Literal

import msgspec

from target_archive.shape import Shape

Kind = Literal["BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR", "JSON"]
RECORD = "_record"
"""The column of what the others cannot tell: the record's own text, `base64:` before it where it is not UTF-8."""
_KINDS: dict[str, Kind] = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "string": "VARCHAR"}
_INTEGER = re.compile(rb"-?[1-9]\d*|0")


class Column(msgspec.Struct, frozen=True):
    """A column, and of which DuckDB type it is."""

    name: str
    kind: Kind


Columns = dict[str, Column]
"""By the key of the record's field."""


def columns_of(shape: Shape, unfit: Collection[str] = ()) -> Columns:
    """The columns of a shape of records; of JSON text are those of several types, of objects and lists, and `unfit`.

    Names are told apart whatever their case, as databases do: where one is taken, `_` is added to it.
    """
    columns, taken = Columns(), {"source", "stream", "day", RECORD}
    for key, one in shape.fields.items():
        name = key.replace("\x00", "_") or "_"
        while name.casefold() in taken:
            name += "_"
        taken.add(name.casefold())
        kinds = [_KINDS.get(kind, "JSON") for kind in one.types if kind != "null"]
        columns[key] = Column(name, kinds[0] if len(kinds) == 1 and key not in unfit else "JSON")
    return columns


class Rows:
    """Records as lines of JSON with a member for each column, every value spliced as it came, or as text.

    Attributes:
        lines: One for each record.
        misfits: Keys of fields with a value that their column's type would alter.
        not_in_columns: How many records have something that no column tells.
    """

    def __init__(self, found: Iterable[bytes], columns: Columns) -> None:
        self._columns = columns
        self._places = {key: (b'"c%d":' % n, _FITS.get(one.kind)) for n, (key, one) in enumerate(columns.items())}
        self.misfits: set[str] = set()
        self.not_in_columns = 0
        self.lines = [self._line(record) for record in found]

    def _line(self, record: bytes) -> bytes:
        cells, members, text, whole = list[bytes](), dict[str, msgspec.Raw](), "", False
        try:
            text = record.decode()
            members = _members(record)
            whole = members.keys() <= self._places.keys() and not _repeats_a_key(record, members)
        except (ValueError, msgspec.DecodeError, RecursionError):  # what cannot be told is shown as it came
            text = text or "base64:" + b64encode(record).decode()
        for key, raw in members.items():
            if key in self._places and (value := bytes(raw)) != b"null":
                name, fits = self._places[key]
                if fits is None:
                    value = msgspec.json.encode(value.decode())
                elif not fits(value):
                    self.misfits.add(key)
                cells.append(name + value)
        if not whole:
            self.not_in_columns += 1
            cells.append(b'"r":' + msgspec.json.encode(text))
        return b"{" + b",".join(cells) + b"}"

    def query(self, path: Path) -> str:
        """SQL for the rows of the file to which the lines were written."""
        read, told = [], []
        for n, column in enumerate(self._columns.values()):
            read.append(f"c{n}: '{'VARCHAR' if column.kind == 'JSON' else column.kind}'")
            told.append(f"c{n}::{column.kind} AS {sql_name(column.name)}")
        shown, types = ", ".join([*told, f"r AS {sql_name(RECORD)}"]), ", ".join([*read, "r: 'VARCHAR'"])
        return (
            f"SELECT {shown} FROM read_json({sql_text(glob.escape(str(path)))}, columns = {{{types}}}, "  # noqa: S608 - all quoted
            "format = 'newline_delimited', records = true, auto_detect = false, "
            f"maximum_object_size = {max(max(map(len, self.lines)) + 1024, 1 << 24)})"
        )


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _repeats_a_key(record: bytes, members: Mapping[str, msgspec.Raw]) -> bool:
    """Whether an object has a key twice: nearly always its length tells that it has not."""
    if len(record) == _compact_size(members):
        return False
    compact = msgspec.json.format(record, indent=-1)
    if len(compact) == _compact_size(_members(compact)):
        return False
    return len(json.loads(record, object_pairs_hook=list)) != len(members)


def _compact_size(members: Mapping[str, msgspec.Raw]) -> int:
    """Of the JSON text of an object without spaces and escapes in its keys."""
    return sum(map(len, members)) + sum(map(len, members.values())) + 4 * len(members) + 1


def _fits_bigint(value: bytes) -> bool:
    if _INTEGER.fullmatch(value) is None or len(value) > len(str(-1 << 63)):
        return False
    return len(value) < 19 or -(1 << 63) <= int(value) < 1 << 63


def _fits_double(value: bytes) -> bool:
    if value[0] not in b"-0123456789":
        return False
    if len(value) <= 15 and b"e" not in value and b"E" not in value:
        return True  # so many digits a double holds
    text = value.decode()
    return Decimal(text) == Decimal(repr(float(text)))


_FITS: dict[Kind, Callable[[bytes], bool]] = {
    "BIGINT": _fits_bigint,
    "DOUBLE": _fits_double,
    "BOOLEAN": (b"true", b"false").__contains__,
    "VARCHAR": lambda value: value.startswith(b'"'),
}
"""Whether a type holds a JSON value without altering it."""


def sql_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def sql_text(text: str | Path) -> str:
    return "'" + str(text).replace("'", "''") + "'"
