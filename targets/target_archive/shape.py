"""The shape of records: which fields they have and of which types, learned from the records themselves.

A shape is a value: `merge` of two is the shape that both fit, whatever their order. `decoder_type` turns a shape into a
type that `msgspec` checks while it decodes, so that a record is compared with all that came before it at C speed. An
object whose keys are data rather than names (ids, dates, or simply too many) becomes a map: one shape for all its
values. So a shape stays small, whatever comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import Any

import msgspec

WIDTH = 300
"""An object with more different keys than this is a map."""
DATA_WIDTH = 30
"""So is one with more keys than this that look like data: ids, dates, addresses."""
SIZE = 5_000
"""A shape with more parts than this turns its widest objects into maps until it has fewer."""
DEPTH = 16
"""What lies deeper is not looked into."""

_DATA = re.compile(r"\d|.*(\d{4}|[@/])")
_UNNAMEABLE = re.compile(r'[\\"\x00-\x1f]')
_PLAIN = re.compile(r"[^\W\d][\w-]*")
_SCALARS = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}
_PYTHON: dict[str, Any] = {"null": None, "boolean": bool, "integer": int, "number": int | float, "string": str}


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What has been seen at one place of a record.

    Attributes:
        types: Words of JSON Schema, sorted; `number` stands for `integer` too. None for what is not looked into.
        fields: The keys of an object and the shape of their values.
        items: The shape of an array's elements; None where there was never one.
        values: The shape of an object's values where it is a map; `fields` is empty then.
    """

    types: tuple[str, ...] = ()
    fields: dict[str, Shape] = {}
    items: Shape | None = None
    values: Shape | None = None


UNKNOWN = Shape()


def shape_of(value: Any, depth: int = DEPTH) -> Shape:
    """The shape of one decoded JSON value."""
    if depth == 0:
        return UNKNOWN
    if isinstance(value, dict):
        return _settled({key: shape_of(one, depth - 1) for key, one in value.items()}, ("object",), None)
    if isinstance(value, list):
        items: Shape | None = None
        for one in value:
            items = _joined(items, shape_of(one, depth - 1))
        return Shape(("array",), items=items)
    return Shape((_SCALARS[type(value)],))


def merge(one: Shape, other: Shape) -> Shape:
    """The least shape that fits whatever fits either."""
    whole, width = _merge(one, other), WIDTH
    while sum(1 for _ in places(whole)) > SIZE:
        width //= 2
        whole = _narrowed(whole, width)
    return whole


def _merge(one: Shape, other: Shape) -> Shape:
    if one is other or other == UNKNOWN:
        return one
    types = {*one.types, *other.types}
    if "number" in types:
        types.discard("integer")
    fields, items, values = one.fields, _joined(one.items, other.items), _joined(one.values, other.values)
    if other.fields:
        fields = {**fields, **{key: _joined(fields.get(key), shape) for key, shape in other.fields.items()}}
    return _settled(fields, tuple(sorted(types)), items, values)


def _joined(one: Shape | None, other: Shape | None) -> Any:
    return _merge(one, other) if one is not None and other is not None else other if one is None else one


def _settled(
    fields: dict[str, Shape],
    types: tuple[str, ...],
    items: Shape | None,
    values: Shape | None = None,
    width: int = WIDTH,
) -> Shape:
    """A shape in its one form: an object is a map as soon as its keys say so."""
    if fields and (values is not None or _is_map(fields, width)):
        for shape in fields.values():
            values = _joined(values, shape)
        fields = {}
    return Shape(types, fields, items, values)


def _is_map(fields: dict[str, Shape], width: int) -> bool:
    if len(fields) > width:
        return True
    return len(fields) > DATA_WIDTH and sum(1 for key in fields if _DATA.match(key)) > DATA_WIDTH


def _narrowed(shape: Shape, width: int) -> Shape:
    return _settled(
        {key: _narrowed(one, width) for key, one in shape.fields.items()},
        shape.types,
        shape.items and _narrowed(shape.items, width),
        shape.values and _narrowed(shape.values, width),
        width,
    )


def news(shape: Shape, known: Shape) -> Shape | None:
    """The part of `shape` that `known` lacks: merging it gives what merging the whole gives. None for nothing."""
    types = tuple(
        one for one in shape.types if one not in known.types and not (one == "integer" and "number" in known.types)
    )
    fields, values = shape.fields, shape.values
    if known.values is not None:
        for one in fields.values():
            values = _joined(values, one)
        fields = {}
    elif known.fields:
        fields = {key: new for key, one in fields.items() if (new := _news(one, known.fields.get(key))) is not None}
    found = Shape(types, fields, _news(shape.items, known.items), _news(values, known.values))
    return None if found == UNKNOWN else found


def _news(shape: Shape | None, known: Shape | None) -> Shape | None:
    return news(shape, known) if shape is not None and known is not None else shape


def places(shape: Shape, path: str = "") -> Iterator[tuple[str, Shape]]:
    """Every place of a shape with its path: `payload.commits[].sha`, `labels.*` in a map, "" for the record itself."""
    yield path, shape
    for key, one in shape.fields.items():
        yield from places(one, below(path, key))
    if shape.values is not None:
        yield from places(shape.values, below(path, None))
    if shape.items is not None:
        yield from places(shape.items, f"{path}[]")


def below(path: str, key: str | None) -> str:
    """The path of a key, which is quoted where it could be taken for something else, or of any key of a map."""
    name = "*" if key is None else key if _PLAIN.fullmatch(key) else msgspec.json.encode(key).decode()
    return f"{path}.{name}" if path else name


def decoder_type(shape: Shape) -> Any:
    """The type whose msgspec decoder takes what fits the shape and nothing else: structs with fields f0, f1, f2."""
    if shape == UNKNOWN:
        return Any
    choices = [_PYTHON[one] for one in shape.types if one in _PYTHON]
    if shape.values is not None:
        choices.append(dict[str, decoder_type(shape.values)])  # type: ignore[misc]  # made while running
    elif "object" in shape.types:
        # msgspec has no fields of other names; a record with such a key does not fit, and is looked at by itself
        names = {f"f{number}": key for number, key in enumerate(shape.fields) if not _UNNAMEABLE.search(key)}
        fields = [(name, decoder_type(shape.fields[key]), msgspec.UNSET) for name, key in names.items()]
        choices.append(msgspec.defstruct("Object", fields, rename=names, forbid_unknown_fields=True, gc=False))
    if "array" in shape.types:
        items = shape.items
        choices.append(tuple[()] if items is None else list[decoder_type(items)])  # type: ignore[misc]
    return reduce(or_, choices)
