"""Views of a day: which of its lines stand for it, at the latest or as of some commit."""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence

import msgspec

from target_archive.dedupe import key_of
from target_archive.fields import field_reader
from target_archive.log import Held


class Revision(msgspec.Struct, frozen=True):
    """A commit that changed what is held of a day.

    Attributes:
        number: Counted from 1 for each day.
        seq: The commit.
        at: When it was made.
        added: How many lines it added.
        gone: How many lines it found to be gone.
    """

    number: int
    seq: int
    at: str
    added: int = 0
    gone: int = 0


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


def revisions(held: Held, times: Sequence[str]) -> list[Revision]:
    """What has changed in a day, oldest first; `times` are those of all commits."""
    added, before = dict[int, int](), 0
    for seq, lines in held.grown:
        added[seq], before = lines - before, lines
    gone: dict[int, int] = {}
    for seq, numbers in held.gone:
        gone[seq] = gone.get(seq, 0) + len(numbers)
    return [
        Revision(number, seq, times[seq - 1], added.get(seq, 0), gone.get(seq, 0))
        for number, seq in enumerate(sorted(added.keys() | gone.keys()), 1)
    ]
