"""Reading a few fields out of a record's bytes without building the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

ABSENT = msgspec.UNSET
"""Stands for a field that a record does not have; not the same as null."""

FieldReader = Callable[[bytes | msgspec.Raw], tuple[Any, ...]]


def field_reader(paths: Sequence[str]) -> FieldReader:
    """A function from a record's JSON bytes to the values at dotted `paths`, ABSENT where there is none.

    It raises msgspec.DecodeError for what is not a JSON object, and costs about 1 µs for a record of 760 bytes.
    """
    names = list(dict.fromkeys(path.split(".")[0] for path in paths))
    attributes = [f"f{names.index(path.split('.')[0])}" for path in paths]
    decode = msgspec.json.Decoder(
        msgspec.defstruct(
            "Fields",
            [(f"f{position}", Any, ABSENT) for position in range(len(names))],
            rename={f"f{position}": name for position, name in enumerate(names)},
            gc=False,
        )
    ).decode
    if len(paths) > 1 and not any("." in path for path in paths):
        get = attrgetter(*attributes)
        return lambda record: get(decode(record))
    steps = [path.split(".")[1:] for path in paths]

    def read(record: bytes | msgspec.Raw) -> tuple[Any, ...]:
        found = decode(record)
        return tuple(
            _below(getattr(found, attribute), below) for attribute, below in zip(attributes, steps, strict=True)
        )

    return read


def _below(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        value = value.get(step, ABSENT) if isinstance(value, dict) else ABSENT
    return value
