"""Single fields of records: read exactly by compiled readers, or spliced in front, while the record stays text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from tap_rest.formats.json_text import REFUSED, decoded, entries, quoted

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class KeyReader:
    """Reads a few fields of every record of a page in one pass, at about half a microsecond a record.

    Values are str, int, Decimal (a number with a point or an exponent keeps its digits), bool, list, dict, or None
    for null and absent fields; the record as a whole is never decoded. `fields` may be dotted paths.
    """

    def __init__(self, fields: Sequence[str]) -> None:
        self._paths = [tuple(field.split(".")) for field in fields]
        self._roots = list(dict.fromkeys(path[0] for path in self._paths))
        names = {f"f{index}": root for index, root in enumerate(self._roots)}
        self._page: msgspec.json.Decoder[Any] | None = None
        if not any(char in '"\\' or char < " " for root in self._roots for char in root):  # msgspec has no such names
            keys = msgspec.defstruct("Keys", [(name, Any, None) for name in names], rename=names)
            self._page = msgspec.json.Decoder(list[keys], float_hook=Decimal)  # type: ignore[valid-type]

    def read(self, records: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """One tuple for each record, one value for each field, in order."""
        try:
            page = self._page.decode(b"[" + b",".join(records) + b"]") if self._page else None
        except REFUSED:
            page = None
        found = [self._slowly(one) for one in records] if page is None else list(map(msgspec.structs.astuple, page))
        if len(self._roots) == len(self._paths) == sum(map(len, self._paths)):
            return found
        where = [(self._roots.index(path[0]), path[1:]) for path in self._paths]
        return [tuple(_walked(values[index], rest) for index, rest in where) for values in found]

    def _slowly(self, record: bytes) -> tuple[Any, ...]:
        try:
            known = dict(entries(record))
        except ValueError:
            known = {}
        return tuple(decoded(known[root], exact=True) if root in known else None for root in self._roots)


def include(record: bytes, extra: Mapping[str, bytes]) -> bytes:
    """The record with these members (JSON text) spliced in front, where it has no member of that name."""
    try:
        known: Iterable[str] = _MEMBERS.decode(record)
    except REFUSED:
        known = {name for name, _ in entries(record)}
    absent = [name for name in extra if name not in known]
    if not absent:
        return record
    spliced = b",".join(quoted(name) + b":" + extra[name] for name in absent)
    rest = record[1:].lstrip()
    return b"{" + spliced + (b"" if rest.startswith(b"}") else b",") + rest


def _walked(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
