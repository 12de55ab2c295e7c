"""Records selectors: where the records are in a body, and how they are sliced out without being parsed.

A slice is the API's own bytes. The only change ever made to it is to white space between the tokens of a record that
spans several lines, since a record must fit on one. Where an API has no object for a record (a list of bare values, a
table), one is composed: member by member, each value the API's own bytes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tap_rest.component import Component
from tap_rest.errors import UnexpectedPage
from tap_rest.formats.fields import include
from tap_rest.formats.json_text import (
    BOM,
    RAW_LIST,
    REFUSED,
    check_utf8,
    check_whole,
    composed,
    decoded,
    elements,
    entries,
    on_one_line,
    quoted,
)
from tap_rest.formats.places import kind_of, list_at, names_in, places, steps_of, value_at, values_at
from tap_rest.formats.spool import Spool
from tap_rest.formats.streamed import Streamed, streamed_list


class RecordsKind(Component, frozen=True, kw_only=True):
    """What every selector can do."""

    remedy: ClassVar[str] = ""
    """What to do about records that are no objects."""

    def slices(self, body: bytes, *, at: int = 0, first: int = 0) -> Sequence[bytes]:
        """The records of a body, in order, each an object on one line.

        The body may be a part of a larger one, some elements of a list in brackets: `at` is where that stands in it,
        `first` the number of its first record. Raises UnexpectedPage where it is not whole UTF-8 JSON, or not shaped as
        declared.
        """
        text = body.removeprefix(BOM)
        check_utf8(text, at)
        found = self._found(text)
        for index, record in enumerate(found, first):
            if memoryview(record)[0] != 0x7B:
                raise UnexpectedPage(f"record {index} is {kind_of(bytes(record))}, not an object", hint=self.remedy)
        if b"\n" in text or b"\r" in text:
            return [on_one_line(bytes(record)) for record in found]
        return found

    def streamed(self, body: Spool) -> Streamed | None:  # noqa: ARG002 - only lists are found in parts
        """The records of a body in a file, as `slices`; None where it takes all of it at once to find them."""
        return None

    @property
    def composes(self) -> bool:
        """Whether a record is an object that the API itself does not have."""
        return False

    @abstractmethod
    def _found(self, text: bytes) -> Sequence[bytes]:
        """The records of UTF-8 text, once it is proved to be whole."""


class EntriesKind(RecordsKind, frozen=True, kw_only=True):
    """Each entry of a list or an object is a record.

    Attributes:
        value_as: For entries that are no objects: each entry becomes an object whose one member has this name, `7` →
            `{"value":7}`; empty: an entry must be an object.
    """

    remedy: ClassVar[str] = "`value_as` makes records of bare values"

    value_as: str = ""

    @property
    def composes(self) -> bool:
        return bool(self.value_as)

    def _records(self, values: Sequence[bytes], named: Mapping[str, str]) -> Sequence[bytes]:
        if self.value_as:
            name = quoted(self.value_as)
            values = [composed([(name, value)]) for value in values]
        if not named:
            return values
        extra = {name: quoted(text) for name, text in named.items()}
        return [include(bytes(value), extra) if memoryview(value)[0] == 0x7B else value for value in values]


class RootRecords(EntriesKind, tag="root", frozen=True, kw_only=True):
    """The body itself is the list of records; short form `$`."""

    def _found(self, text: bytes) -> Sequence[bytes]:
        try:
            found: Sequence[bytes] = RAW_LIST.decode(text)
        except REFUSED:
            check_whole(text)
            found = list_at(text, "$")
        return self._records(found, {})

    def streamed(self, body: Spool) -> Streamed | None:
        return streamed_list(body, "$", self.slices)


class PathRecords(EntriesKind, tag="path", frozen=True, kw_only=True):
    """A list somewhere in the body; short form: the path itself.

    Attributes:
        path: Dotted path to the list, `data.items`; `*` stands for every member of an object or element of a list:
            `data.*.items`, `near_earth_objects.*`.
        key_as: Members that take the names (in a list: the positions) found at each `*`, in order, where a record has
            none of that name; for maps whose names say something, such as dates.
        missing_ok: Whether null or nothing at that path means no records; otherwise it is an error.
    """

    path: str
    key_as: list[str] = []
    missing_ok: bool = False

    def __post_init__(self) -> None:
        if len(self.key_as) > (stars := self.path.split(".").count("*")):
            raise ValueError(f"`key_as` names {len(self.key_as)} members, but `path` has {stars} `*`")

    def _found(self, text: bytes) -> Sequence[bytes]:
        check_whole(text)
        records: list[bytes] = []
        for names, value in values_at(text, self.path, "a list", missing_ok=self.missing_ok):
            records += self._records(elements(value), dict(zip(self.key_as, names, strict=False)))
        return records

    def streamed(self, body: Spool) -> Streamed | None:
        inner = RootRecords(value_as=self.value_as)
        return None if "*" in self.path.split(".") else streamed_list(body, self.path, inner.slices)


class SingleRecords(RecordsKind, tag="single", frozen=True, kw_only=True):
    """One object is the only record.

    Attributes:
        path: Dotted path to the object; `$` is the body itself.
    """

    path: str = "$"

    def _found(self, text: bytes) -> Sequence[bytes]:
        check_whole(text)
        return [bytes(value_at(text, self.path, "an object")).strip()]


class ObjectMapRecords(EntriesKind, tag="object_map", frozen=True, kw_only=True):
    """An object whose values are the records: `{"id1": {…}, "id2": {…}}`.

    Attributes:
        path: Dotted path to the object, `*` as for lists; `$` is the body itself.
        key_as: Member that takes the name of each entry, where the record has none of that name; empty: dropped.
        missing_ok: Whether null or nothing at that path means no records; otherwise it is an error.
    """

    path: str = "$"
    key_as: str = ""
    missing_ok: bool = False

    def _found(self, text: bytes) -> Sequence[bytes]:
        check_whole(text)
        records: list[bytes] = []
        for _, value in values_at(text, self.path, "an object", missing_ok=self.missing_ok):
            for name, entry in entries(value):
                records += self._records([entry], {self.key_as: name} if self.key_as else {})
        return records


class TableRecords(RecordsKind, tag="table", frozen=True, kw_only=True):
    """Rows without names: `{"columns": ["id", "at"], "rows": [[1, "x"], …]}`; each record is composed.

    Attributes:
        rows: Dotted path to the list of rows; `$` is the body itself.
        columns: Dotted path to the columns' names, with `*` where they are objects (`fields.*.name`); empty: the first
            row holds them.
        names: The names, where the answer does not say them.
    """

    rows: str = "$"
    columns: str = ""
    names: list[str] = []

    def __post_init__(self) -> None:
        if self.columns and self.names:
            raise ValueError("the columns' names are either declared in `names` or found at `columns`")

    @property
    def composes(self) -> bool:
        return True

    def _found(self, text: bytes) -> Sequence[bytes]:
        check_whole(text)
        rows = [_inner_list(row, self.rows, index) for index, row in enumerate(list_at(text, self.rows))]
        if self.names:
            heads: Sequence[bytes] = [quoted(name) for name in self.names]
        elif not self.columns:
            if not rows:
                raise UnexpectedPage("the table has no row with the columns' names")
            heads = rows.pop(0)
        elif "*" in self.columns:
            heads = [value or b"" for _, _, value in places(text, steps_of(self.columns))]
        else:
            heads = list_at(text, self.columns)
        names = _checked_names(heads)
        for index, row in enumerate(rows):
            if len(row) != len(names):
                raise UnexpectedPage(f"row {index} has {len(row)} values for {len(names)} columns")
        return [composed(zip(names, row, strict=True)) for row in rows]


class ColumnsRecords(RecordsKind, tag="columns", frozen=True, kw_only=True):
    """Columns side by side: `{"time": ["a", "b"], "value": [1, 2]}`; each record is composed of one value of each.

    Attributes:
        path: Dotted path to the object whose members are the columns; `$` is the body itself.
        names: The members that are columns, where there are others as well; empty: all.
    """

    path: str = "$"
    names: list[str] = []

    @property
    def composes(self) -> bool:
        return True

    def _found(self, text: bytes) -> Sequence[bytes]:
        check_whole(text)
        value = value_at(text, self.path, "an object")
        known = [pair for pair in entries(value) if not self.names or pair[0] in self.names]
        names = _checked_names([quoted(name) for name, _ in known])
        if absent := [name for name in self.names if quoted(name) not in names]:
            raise UnexpectedPage(f"{self.path} has no column {absent[0]}", hint=names_in(value))
        columns = [_inner_list(column, self.path, name) for name, column in known]
        if len({len(column) for column in columns}) > 1:
            sizes = ", ".join(f"{name} {len(column)}" for (name, _), column in zip(known, columns, strict=True))
            raise UnexpectedPage(f"the columns at {self.path} are not of one length", hint=sizes)
        return [composed(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


Records = PathRecords | RootRecords | SingleRecords | ObjectMapRecords | TableRecords | ColumnsRecords


def _inner_list(value: bytes, path: str, name: str | int) -> Sequence[bytes]:
    try:
        return elements(value)
    except ValueError:
        raise UnexpectedPage(f"{path}.{name} is {kind_of(value)}, not a list", hint=names_in(value)) from None


def _checked_names(names: Sequence[bytes]) -> list[bytes]:
    """Columns' names, JSON texts. Raises UnexpectedPage where one is no text or stands twice."""
    for index, name in enumerate(found := [bytes(name) for name in names]):
        if name[:1] != b'"' or decoded(name) in (decoded(other) for other in found[:index]):
            problem = "stands twice" if name[:1] == b'"' else "is no name"
            raise UnexpectedPage(f"{name.decode(errors='replace') or 'nothing'} {problem} among the columns")
    return found
