"""Records selectors: where the records are in a body, and how they are sliced out without being parsed.

A slice is the API's own bytes. The only change ever made to it is to white space between the tokens of a record that
spans several lines, since a record must fit on one. Where an API has no object for a record (a list of bare values, a
table), one is composed: member by member, each value the API's own bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tap_rest.component import Component
from tap_rest.errors import UnexpectedPage
from tap_rest.formats.fields import include
from tap_rest.formats.json_text import (
    BOM,
    check_utf8,
    check_whole,
    compiled,
    composed,
    decoded,
    elements,
    entries,
    members,
    on_one_line,
    quoted,
    slice_at,
)

_KINDS = {b"{": "an object", b"[": "a list", b'"': "a text", b"n": "null", b"t": "a boolean", b"f": "a boolean"}


class RecordsKind(Component, frozen=True, kw_only=True):
    """What every selector can do."""

    def slices(self, body: bytes) -> Sequence[bytes]:
        """The records of a body, in order, each an object on one line.

        Raises:
            UnexpectedPage: The body is not whole UTF-8 JSON, or is not shaped as declared.
        """
        text = body.removeprefix(BOM)
        check_utf8(text)
        found = self._found(text)
        for index, record in enumerate(found):
            if memoryview(record)[0] != 0x7B:
                raise UnexpectedPage(f"record {index} is {_kind(bytes(record))}, not an object", hint=self._remedy)
        if b"\n" in text or b"\r" in text:
            return [on_one_line(bytes(record)) for record in found]
        return found

    @property
    def composes(self) -> bool:
        """Whether a record is an object that the API itself does not have."""
        return False

    @property
    def _remedy(self) -> str:
        return ""

    def _found(self, text: bytes) -> Sequence[bytes]:
        raise NotImplementedError


class EntriesKind(RecordsKind, frozen=True, kw_only=True):
    """Each entry of a list or an object is a record.

    Attributes:
        value_as: For entries that are no objects: each entry becomes an object whose one member has this name, `7` →
            `{"value":7}`; empty: an entry must be an object.
    """

    value_as: str = ""

    @property
    def composes(self) -> bool:
        return bool(self.value_as)

    @property
    def _remedy(self) -> str:
        return "`value_as` makes records of bare values"

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
        if (found := _straight(text, ())) is None:
            check_whole(text)
            found = _listed(text, text, "$")
        return self._records(found, {})


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
        keys = tuple(self.path.split("."))
        if (found := _straight(text, keys)) is not None:
            return self._records(found, {})
        check_whole(text)
        records: list[bytes] = []
        for way, names, value in _places(text, keys):
            if value is None and self.missing_ok:
                continue
            try:
                values = elements(value or b"")
            except ValueError:
                raise _not_there(text, ".".join(way), "a list") from None
            records += self._records(values, dict(zip(self.key_as, names, strict=False)))
        return records


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
        for way, _, value in _places(text, _steps(self.path)):
            if value is None and self.missing_ok:
                continue
            if value is None or bytes(value).lstrip()[:1] != b"{":
                raise _not_there(text, ".".join(way) or "$", "an object")
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
        rows = [_listed(text, row, _below(self.rows, index)) for index, row in enumerate(_list_at(text, self.rows))]
        if self.names:
            heads: Sequence[bytes] = [quoted(name) for name in self.names]
        elif not self.columns:
            if not rows:
                raise UnexpectedPage("the table has no row with the columns' names")
            heads = rows.pop(0)
        elif "*" in self.columns:
            heads = [value or b"" for _, _, value in _places(text, _steps(self.columns))]
        else:
            heads = _list_at(text, self.columns)
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
        ((way, _, value),) = list(_places(text, _steps(self.path)))
        if value is None or bytes(value).lstrip()[:1] != b"{":
            raise _not_there(text, ".".join(way) or "$", "an object")
        known = [pair for pair in entries(value) if not self.names or pair[0] in self.names]
        names = _checked_names([quoted(name) for name, _ in known])
        if absent := [name for name in self.names if quoted(name) not in names]:
            raise UnexpectedPage(f"{self.path} has no column {absent[0]}", hint=_names(value))
        columns = [_listed(text, column, _below(self.path, name)) for name, column in known]
        if len({len(column) for column in columns}) > 1:
            sizes = ", ".join(f"{name} {len(column)}" for (name, _), column in zip(known, columns, strict=True))
            raise UnexpectedPage(f"the columns at {self.path} are not of one length", hint=sizes)
        return [composed(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


Records = PathRecords | RootRecords | ObjectMapRecords | TableRecords | ColumnsRecords


def _steps(path: str) -> tuple[str, ...]:
    return () if path == "$" else tuple(path.split("."))


def _straight(text: bytes, keys: tuple[str, ...]) -> Sequence[bytes] | None:
    """The list at a path, read in one pass; None where it takes a closer look.

    That is where a name may stand twice on the way, which JSON readers answer by silently taking one of them.
    """
    if keys and (b"\\u" in text or not all(text.count(b'"%b"' % key.encode()) == 1 for key in keys)):
        return None
    try:
        found = compiled(keys, list[msgspec.Raw]).decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    for _ in keys:
        if found is None:
            return None
        found = found.v
    records: Sequence[bytes] | None = found
    return records


_Place = tuple[tuple[str, ...], tuple[str, ...], bytes | None]


def _places(
    text: bytes, steps: tuple[str, ...], way: tuple[str, ...] = (), names: tuple[str, ...] = ()
) -> Iterator[_Place]:
    """Every place that a path with `*` leads to: the way there, the names at the `*`, and what is there, None for null.

    Raises UnexpectedPage where a name on the way stands twice.
    """
    text = bytes(text)
    head = text.lstrip()[:1]
    if head == b"n" or (steps and head not in (b"{", b"[")):
        yield (*way, *steps), names, None
    elif not steps:
        yield way, names, text
    elif steps[0] == "*":
        for name, value in entries(text):
            yield from _places(value, steps[1:], (*way, name), (*names, name))
    else:
        values = [value for name, value in entries(text) if name == steps[0]]
        if len(values) > 1:
            raise UnexpectedPage(f"{steps[0]} stands {len(values)} times in {'.'.join(way) or 'the body'}")
        if values:
            yield from _places(values[0], steps[1:], (*way, steps[0]), names)
        else:
            yield (*way, *steps), names, None


def _list_at(text: bytes, path: str) -> Sequence[bytes]:
    ((way, _, value),) = list(_places(text, _steps(path)))
    return _listed(text, value or b"", ".".join(way) or "$")


def _listed(text: bytes, value: bytes, at: str) -> Sequence[bytes]:
    try:
        return elements(value)
    except ValueError:
        raise _not_there(text, at, "a list") from None


def _below(path: str, step: str | int) -> str:
    return str(step) if path == "$" else f"{path}.{step}"


def _checked_names(names: Sequence[bytes]) -> list[bytes]:
    """Columns' names, JSON texts. Raises UnexpectedPage where one is no text or stands twice."""
    for index, name in enumerate(found := [bytes(name) for name in names]):
        if name[:1] != b'"' or decoded(name) in (decoded(other) for other in found[:index]):
            problem = "stands twice" if name[:1] == b'"' else "is no name"
            raise UnexpectedPage(f"{name.decode(errors='replace') or 'nothing'} {problem} among the columns")
    return found


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


def _kind(text: bytes) -> str:
    return _KINDS.get(text.lstrip()[:1], "a number")
