"""The sample data as records: each CSV row becomes one line of compact JSON, serialised once and served from there."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files

NAMES = ("weather", "planes", "airports", "airlines")

_ORDER = {"weather": ("time_hour", "origin")}  # the other files are in the order of their first column already
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Table:
    """One table: `lines` are its records' bytes in the order served, `times` their `time_hour` if they have one."""

    lines: Sequence[bytes]
    times: Sequence[datetime]


def tables() -> Mapping[str, Table]:
    """All four tables by name."""
    return {name: table(name) for name in NAMES}


@cache
def table(name: str) -> Table:
    """One table, read from the package at its first use."""
    packed = files("tap_sample").joinpath("data", f"{name}.csv.gz").read_bytes()
    header, *rows = csv.reader(io.StringIO(gzip.decompress(packed).decode()))
    keys = [header.index(column) for column in _ORDER.get(name, ())]
    if keys:
        rows.sort(key=lambda row: [row[key] for key in keys])
    columns = list(zip(*rows, strict=True))
    members = [_members(name, column) for name, column in zip(header, columns, strict=True)]
    lines = [f"{{{','.join(record)}}}".encode() for record in zip(*members, strict=True)]
    times = columns[header.index("time_hour")] if "time_hour" in header else ()
    return Table(lines, [datetime.fromisoformat(time) for time in times])


def _members(name: str, column: Sequence[str]) -> Iterable[str]:
    """The column as JSON members, `"temp":39.02`: a number keeps the text that it has in the file, `NA` is null.

    A column is numeric as a whole or not at all: the airport `369` and the aircraft model `150` are names.
    """
    values = set(column) - {"NA"}
    numeric = all(_NUMBER.fullmatch(value) for value in values)
    member = {value: f'"{name}":{value if numeric else json.dumps(value)}' for value in values}
    member["NA"] = f'"{name}":null'
    return (member[value] for value in column)
