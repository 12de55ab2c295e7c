"""Which incoming records are repeats of archived ones: dropped, so that a run after a kill adds nothing twice.

A record is dropped only when that loses nothing. With a key, it must equal the *latest* archived version of that key:
a return to an older version is news. Without a key, identical records can be genuine, so copies are counted: a run
that reads a stretch again may only use up the copies archived from that stretch. Both rules look at one day, since
identical records fall on the same day. Content is compared by Python's own 64-bit keyed hash: two different versions
of one key are taken for equal once in 1.8e19 comparisons.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from typing import Any, Protocol

import msgspec

from target_archive.fields import FieldReader, field_reader

FRESH_ENTRIES = 300_000  # in dictionaries, about 110 bytes each
FROZEN_ENTRIES = 4_000_000  # in arrays, 16 bytes each


class Dedupe(Protocol):
    def is_repeat(self, day: str, key: Hashable, line: bytes) -> bool:
        """Whether to drop the line; if not, it counts as archived from now on."""

    def trim(self, busy: Collection[str]) -> None:
        """Forget days that can be read from the archive again: all but those with lines not yet committed."""


class LatestVersion:
    """The rule for streams with a key. `read_day` gives the archived lines of a day, oldest first.

    A stream may be scattered over thousands of days, so what is known of a day is frozen into arrays now and then, and
    the days that were loaded first are forgotten when there is too much of that.
    """

    def __init__(self, read_day: Callable[[str], list[bytes]], keys: tuple[str, ...]) -> None:
        self._read_day, self._read_key = read_day, field_reader(keys)
        self._days: dict[str, _Versions] = {}

    def is_repeat(self, day: str, key: Hashable, line: bytes) -> bool:
        versions = self._days.get(day)
        if versions is None:
            known = {hash(key_of(self._read_key, line)): hash(line) for line in self._read_day(day)}
            versions = self._days[day] = _Versions(known)
        slot, content = hash(key), hash(line)
        if versions.latest(slot) == content:
            return True
        versions.fresh[slot] = content
        return False

    def trim(self, busy: Collection[str]) -> None:
        if sum(len(versions.fresh) for versions in self._days.values()) > FRESH_ENTRIES:
            for versions in self._days.values():
                versions.freeze()
        frozen = sum(len(versions.slots) for versions in self._days.values())
        for day in [day for day in self._days if day not in busy]:
            if frozen <= FROZEN_ENTRIES:
                break
            frozen -= len(self._days.pop(day).slots)


class _Versions:
    """The hash of the latest version for the hash of each key of a day: two sorted arrays, and what came since."""

    __slots__ = ("contents", "fresh", "slots")

    def __init__(self, known: dict[int, int]) -> None:
        self.fresh = known
        self.slots, self.contents = array("q"), array("q")
        self.freeze()

    def latest(self, slot: int) -> int | None:
        content = self.fresh.get(slot)
        if content is None and self.slots:
            place = bisect_left(self.slots, slot)
            if place < len(self.slots) and self.slots[place] == slot:
                return self.contents[place]
        return content

    def freeze(self) -> None:
        if self.fresh:
            whole = dict(zip(self.slots, self.contents, strict=True)) | self.fresh
            self.slots = array("q", sorted(whole))
            self.contents = array("q", [whole[slot] for slot in self.slots])
            self.fresh = {}


class CopiesReadAgain:
    """The rule for streams without a key.

    Args:
        read_day: Gives the archived lines of a day, oldest first.
        since_state: Gives how many of them, at the end, came after the STATE that the run starts from.
        resumes_exactly: The run goes on at a page, so nothing before that STATE is read again.
        position: The replication key; "" for a stream that is always read whole.
        start: Its value where the run starts, which is read again (inclusive), or None for the beginning.
    """

    def __init__(
        self,
        read_day: Callable[[str], list[bytes]],
        since_state: Callable[[str], int],
        *,
        resumes_exactly: bool,
        position: str,
        start: Any,
    ) -> None:
        self._read_day, self._since_state = read_day, since_state
        self._resumes_exactly, self._start = resumes_exactly, start
        self._read_position = field_reader([position]) if position else None
        self._copies: dict[str, Counter[int]] = {}

    def is_repeat(self, day: str, key: Hashable, line: bytes) -> bool:  # noqa: ARG002 - one interface for both rules
        copies = self._copies.get(day)
        if copies is None:
            copies = self._copies[day] = self._load(day)
        content = hash(line)
        if copies.get(content, 0) > 0:
            copies[content] -= 1
            return True
        return False

    def trim(self, busy: Collection[str]) -> None:
        """Nothing to forget: copies that are used up must stay used up for the whole run."""

    def _load(self, day: str) -> Counter[int]:
        lines = self._read_day(day)
        before = len(lines) - self._since_state(day)
        return Counter(hash(line) for number, line in enumerate(lines) if number >= before or self._is_read_again(line))

    def _is_read_again(self, line: bytes) -> bool:
        if self._resumes_exactly:
            return False
        if self._read_position is None or self._start is None:
            return True
        try:
            return bool(self._read_position(line)[0] >= self._start)
        except (TypeError, msgspec.DecodeError, RecursionError):
            return False  # its place is unknown: a possible repeat is kept rather than a record lost


def key_of(read_key: FieldReader, line: bytes) -> Hashable:
    """What identifies a record's key; all records that cannot be read share one."""
    try:
        return hashable(read_key(line))
    except (msgspec.DecodeError, RecursionError):
        return ()


def hashable(values: tuple[Any, ...]) -> tuple[Hashable, ...]:
    """The same values in a form that can be hashed: objects and arrays become their JSON text."""
    try:
        hash(values)
    except TypeError:
        return tuple(
            msgspec.json.encode(value, order="deterministic") if isinstance(value, (dict, list)) else value
            for value in values
        )
    return values
