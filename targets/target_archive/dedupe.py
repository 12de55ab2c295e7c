"""Which incoming records are repeats of archived ones: dropped, so that a run after a kill adds nothing twice.

A record is dropped only when that loses nothing. With a key, it must equal the *latest* archived version of that key:
a return to an older version is news. Without a key, identical records can be genuine, so copies are counted: a run
that reads a stretch again may only use up the copies archived from that stretch. Both rules look at one day, since
identical records fall on the same day. Content is compared by Python's own 64-bit keyed hash: two different versions
of one key are taken for equal once in 1.8e19 comparisons.

Both rules see every record of a read, so after a complete one they also know which archived lines did not come again.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Container, Hashable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from target_archive.fields import ABSENT, FieldReader, field_reader

FRESH_ENTRIES = 300_000  # in dictionaries, about 110 bytes each
FROZEN_ENTRIES = 4_000_000  # in arrays, 16 bytes each


ReadDay = Callable[[str], tuple[Sequence[bytes], Container[int]]]
"""Gives the archived lines of a day, oldest first, and the numbers, from 1, of those that are gone."""


class Dedupe(Protocol):
    changed: int

    def is_repeat(self, day: str, key: Hashable, line: bytes) -> bool:
        """Whether to drop the line; if not, it counts as archived from now on."""

    def trim(self, busy: Collection[str]) -> None:
        """Forget days that can be read from the archive again: all but those with lines not yet committed."""

    def missed(self, day: str) -> list[int]:
        """The numbers of the committed lines of a day that did not come again, though they are the latest there are."""


class LatestVersion:
    """The rule for streams with a key.

    Args:
        read_day: Gives the archived lines of a day.
        keys: Paths of the key's fields.
        content: What two equal records have in common, see `content_of`.
        remembers: Whether `missed` will be asked: then each key that comes is remembered, in 8 bytes.

    A stream may be scattered over thousands of days, so what is known of a day is frozen into arrays now and then, and
    the days that were loaded first are forgotten when there is too much of that.

    Attributes:
        changed: How many records were new versions of archived ones.
    """

    def __init__(
        self,
        read_day: ReadDay,
        keys: Sequence[str],
        content: Callable[[bytes], int] = hash,
        *,
        remembers: bool = False,
    ) -> None:
        self._read_day, self._read_key, self._content = read_day, field_reader(keys), content
        self._days: dict[str, _Versions] = {}
        self._came: defaultdict[str, array[int]] = defaultdict(partial(array, "q"))
        self._remembers = remembers
        self.changed = 0

    def is_repeat(self, day: str, key: Hashable, line: bytes) -> bool:
        versions = self._days.get(day)
        if versions is None:
            lines, gone = self._read_day(day)
            known: dict[int, int] = {}
            for number, old in enumerate(lines, 1):
                slot = hash(key_of(self._read_key, old))
                if number in gone:
                    known.pop(slot, None)
                else:
                    known[slot] = self._content(old)
            versions = self._days[day] = _Versions(known)
        slot, content = hash(identity(key, line)), self._content(line)
        if self._remembers:
            self._came[day].append(slot)
        latest = versions.latest(slot)
        if latest == content:
            return True
        self.changed += latest is not None
        versions.fresh[slot] = content
        return False

    def missed(self, day: str) -> list[int]:
        lines, gone = self._read_day(day)
        latest: dict[int, int] = {}
        for number, line in enumerate(lines, 1):
            slot = hash(key_of(self._read_key, line))
            if number in gone:
                latest.pop(slot, None)
            else:
                latest[slot] = number
        for slot in self._came.get(day, ()):
            latest.pop(slot, None)
        return sorted(latest.values())

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
        read_day: Gives the archived lines of a day.
        since_state: Gives how many of them, at the end, came after the STATE that the run starts from.
        resumes_exactly: The run goes on at a page, so nothing before that STATE is read again.
        position: The replication key; "" for a stream that is always read whole.
        start: Its value where the run starts, which is read again (inclusive), or None for the beginning.
        content: What two equal records have in common, see `content_of`.
    """

    changed = 0

    def __init__(
        self,
        read_day: ReadDay,
        since_state: Callable[[str], int],
        *,
        resumes_exactly: bool,
        position: str,
        start: Any,
        content: Callable[[bytes], int] = hash,
    ) -> None:
        self._read_day, self._since_state, self._content = read_day, since_state, content
        self._resumes_exactly, self._start = resumes_exactly, start
        self._read_position = field_reader([position]) if position else None
        self._copies: dict[str, Counter[int]] = {}
        self._known: dict[str, int] = {}

    def is_repeat(self, day: str, key: Hashable, line: bytes) -> bool:  # noqa: ARG002 - one interface for both rules
        copies = self._copies.get(day)
        if copies is None:
            copies = self._copies[day] = self._load(day)
        content = self._content(line)
        if copies.get(content, 0) > 0:
            copies[content] -= 1
            return True
        return False

    def trim(self, busy: Collection[str]) -> None:
        """Nothing to forget: copies that are used up must stay used up for the whole run."""

    def missed(self, day: str) -> list[int]:
        copies = self._copies.get(day)
        copies = Counter(copies if copies is not None else self._load(day))
        found = []
        for number, content in reversed(list(self._read_again(day, self._known[day]))):
            if copies[content] > 0:
                copies[content] -= 1
                found.append(number)
        return sorted(found)

    def _load(self, day: str) -> Counter[int]:
        self._known[day] = len(self._read_day(day)[0])
        return Counter(content for _, content in self._read_again(day, self._known[day]))

    def _read_again(self, day: str, known: int) -> Iterable[tuple[int, int]]:
        """Number and content of those of the first `known` lines of a day that the run reads again."""
        lines, gone = self._read_day(day)
        before = known - self._since_state(day)
        for number, line in enumerate(lines[:known], 1):
            if number not in gone and (number > before or self._is_read_again(line)):
                yield number, self._content(line)

    def _is_read_again(self, line: bytes) -> bool:
        if self._resumes_exactly:
            return False
        if self._read_position is None or self._start is None:
            return True
        try:
            return bool(self._read_position(line)[0] >= self._start)
        except (TypeError, msgspec.DecodeError, RecursionError):
            return False  # its place is unknown: a possible repeat is kept rather than a record lost


def content_of(volatile: Sequence[str]) -> Callable[[bytes], int]:
    """What tells a record's content from another's: its bytes, or, without the `volatile` fields, its values.

    A path is `stats.views`, `items[].seen` for a field of an array's elements.
    """
    if not volatile:
        return hash
    paths = [path.replace("[]", ".[]").split(".") for path in volatile]

    def content(line: bytes) -> int:
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            return hash(line)
        for path in paths:
            _drop(record, path)
        return hash(msgspec.json.encode(record, order="deterministic"))

    return content


def _drop(value: Any, path: Sequence[str]) -> None:
    step, *rest = path
    if step == "[]" and isinstance(value, list):
        for element in value if rest else ():
            _drop(element, rest)
    elif isinstance(value, dict) and step in value:
        if rest:
            _drop(value[step], rest)
        else:
            del value[step]


def key_of(read_key: FieldReader, line: bytes) -> Hashable:
    """What identifies a record; see `identity`."""
    try:
        return identity(hashable(read_key(line)), line)
    except (msgspec.DecodeError, RecursionError):
        return line


def identity(key: Hashable, line: bytes) -> Hashable:
    """The key of a record, or its bytes where all of that is null or absent: then nothing else tells it from others."""
    if isinstance(key, tuple) and (not key or key[0] is None or key[0] is ABSENT):
        return key if any(part is not None and part is not ABSENT for part in key) else line
    return key


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
