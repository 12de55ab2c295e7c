"""Views of a day: which of its lines stand for it, every version of each record, what differs between two views."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Hashable, Iterator, Sequence
from typing import Any

import msgspec

from target_archive.dedupe import key_of
from target_archive.fields import ABSENT, field_reader
from target_archive.log import Held
from target_archive.shape import below


class Version(msgspec.Struct, frozen=True):
    """One archived line of a day.

    Attributes:
        line: Its number within the day, from 1, in the order of arrival.
        commit, at: The commit that brought it, and when. For lines that were there before a repair it is the repair.
        gone: When a complete read found it to be gone; None while it is not.
        record: The line.
    """

    line: int
    commit: int
    at: str
    gone: str | None
    record: msgspec.Raw


class Row(msgspec.Struct, frozen=True):
    """A record that one of two views lacks; `key` is {key property: value}, {} in a stream without keys."""

    key: dict[str, Any]
    record: msgspec.Raw


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """A field that differs. The values are JSON text as archived, UNSET (left out of JSON) where there is none."""

    path: str
    before: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    after: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Changed(msgspec.Struct, frozen=True):
    """A record that differs; without `fields` it says the same in other bytes, in another order say."""

    key: dict[str, Any]
    fields: tuple[Field, ...]


class Diff(msgspec.Struct, frozen=True):
    """What has become of a view; in a stream without keys a changed record is one removed and one added."""

    added: tuple[Row, ...] = ()
    removed: tuple[Row, ...] = ()
    changed: tuple[Changed, ...] = ()


def head(lines: Sequence[bytes], keys: Sequence[str], gone: Container[int] = ()) -> list[bytes]:
    """Of lines in the order in which they came, the latest version of each record, without those that are gone.

    Without `keys` each line is a record of its own.
    """
    if not keys:
        return [line for number, line in enumerate(lines, 1) if number not in gone]
    read, latest = field_reader(keys), dict[Hashable, bytes]()
    for number, line in enumerate(lines, 1):
        key = key_of(read, line)
        latest.pop(key, None)
        if number not in gone:
            latest[key] = line
    return list(latest.values())


def first(lines: Sequence[bytes], keys: Sequence[str]) -> list[bytes]:
    """The version of each record that came first."""
    if not keys:
        return list(lines)
    read, found = field_reader(keys), dict[Hashable, bytes]()
    for line in lines:
        found.setdefault(key_of(read, line), line)
    return list(found.values())


def versions(lines: Sequence[bytes], held: Held, times: Sequence[str], seq: int) -> Iterator[Version]:
    """The versions that the lines of a day until commit `seq` are; `times` are those of all commits."""
    gone = {line: times[at - 1] for at, found in held.gone if at <= seq for line in found}
    ends, commits = [end for _, end in held.grown], [commit for commit, _ in held.grown]
    for number, line in enumerate(lines, 1):
        commit = commits[bisect_left(ends, number)]
        yield Version(number, commit, times[commit - 1], gone.get(number), msgspec.Raw(line))


def diff(before: Sequence[bytes], after: Sequence[bytes], keys: Sequence[str]) -> Diff:
    """What differs between two views, each a list of records."""
    if not keys:
        had, has = Counter(before), Counter(after)
        added, removed = ([Row({}, msgspec.Raw(one)) for one in left.elements()] for left in (has - had, had - has))
        return Diff(tuple(added), tuple(removed))
    read = field_reader(keys)
    old, new = ({key_of(read, line): line for line in lines} for lines in (before, after))

    def named(line: bytes) -> dict[str, Any]:
        try:
            values = zip(keys, read(line), strict=True)
        except (msgspec.DecodeError, RecursionError):
            return {}
        return {key: value for key, value in values if value is not ABSENT}

    return Diff(
        tuple(Row(named(line), msgspec.Raw(line)) for key, line in new.items() if key not in old),
        tuple(Row(named(line), msgspec.Raw(line)) for key, line in old.items() if key not in new),
        tuple(
            Changed(named(line), tuple(_fields(old[key], line)))
            for key, line in new.items()
            if key in old and old[key] != line
        ),
    )


def _fields(before: bytes | msgspec.Raw, after: bytes | msgspec.Raw, path: str = "") -> Iterator[Field]:
    try:
        old, new = _members(before), _members(after)
    except (msgspec.DecodeError, RecursionError):  # one of them is no object
        if bytes(before) != bytes(after):
            yield Field(path, msgspec.Raw(before), msgspec.Raw(after))
        return
    for key in {**old, **new}:
        one, other, place = old.get(key, msgspec.UNSET), new.get(key, msgspec.UNSET), below(path, key)
        if isinstance(one, msgspec.Raw) and isinstance(other, msgspec.Raw):
            yield from _fields(one, other, place)
        else:
            yield Field(place, one, other)


_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
