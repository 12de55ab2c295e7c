"""Drift: what changes in the shape of a stream's records and in its SCHEMA, told once, with where it was first seen.

Every record is decoded against all that its stream has shown before (`shape`), in the same pass that reads its key; one
that does not fit is looked at in full, and what is new in it goes into the commit that holds the record. Presence and
null shares are counted on a sample. Drift is a fact about data, never a reason to lose any.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

from target_archive.commit import Change, Drift, Severity, StreamFacts
from target_archive.fields import FieldReader, field_reader
from target_archive.shape import DEPTH, Shape, below, decoder_type, merge, news, places, shape_of

LEARNING = 1_000
"""So many records of a new stream's first run only show what is usual, without being changes."""
DENSE, STEP = 200, 250
"""Of a run's new records in a stream the first 200 are counted, then each 250th."""
ELEMENTS = 100
"""Of an array so many elements are counted."""
GONE = 100
"""A field is gone when it should have been there this often, and a whole day has passed without it."""
BEFORE = 20
"""It must have been there this often, for its absence to say anything."""
MISFITS = 8
"""As many records may be looked at in full before the decoder is made anew, which takes as long."""

UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)
"""What decoding a record may raise: it is no object, does not fit, has a broken text or too great a number."""

_place_of = lru_cache(10_000)(below)


class Presence(msgspec.Struct, omit_defaults=True):
    """How often a place was seen in the sample.

    Attributes:
        present, nulls, objects: How often it was there, was null, was an object.
        last: The day of the last record that had it.
        days: How often the day changed from one that had it to the next.
        parent: The path of the object that it is a named field of.
        parents, parent_days: `objects` and `days` of its parent when it was last there.
    """

    present: int = 0
    nulls: int = 0
    objects: int = 0
    last: str = ""
    days: int = 0
    parent: str | None = None
    parents: int = 0
    parent_days: int = 0


def load_sample(data: bytes) -> dict[str, Presence]:
    """How often each path was seen, from a sample's file; empty for what is none, after a power cut say."""
    try:
        return msgspec.json.decode(data, type=dict[str, Presence])
    except (msgspec.DecodeError, ValueError):
        return {}


class Watch:
    """Looks at every record of one stream.

    Attributes:
        read: A record's day and key fields, see `field_reader`. It raises UNREADABLE for a record that does not fit
            what is known; then `read_fields` may still read it, and `learn` wants to see it.
        shape: What is known; None before the first record.
        sample: How often each place was seen, by path.
    """

    def __init__(
        self,
        shape: Shape | None = None,
        sample: dict[str, Presence] | None = None,
        *,
        gone: Iterable[str] = (),
    ) -> None:
        self.shape, self.sample = shape, {} if sample is None else sample
        self._gone = set(gone)
        self._learning = 0 if shape else LEARNING
        self._misfits, self._stale = 0, False
        self._taken = self._next = 0
        self._pruned: Shape | None = None
        self.expect({}, ())

    @property
    def counted(self) -> int:
        """How many records this run has added to the sample."""
        return min(self._taken, DENSE) + max(0, self._taken - DENSE) // STEP

    def expect(self, schema: dict[str, Any], fields: Sequence[str]) -> None:
        """A SCHEMA has come: these are the fields to read, and what it declares as nullable or volatile is no news."""
        self._fields, self.read_fields = fields, field_reader(fields)
        self._declared = declared(schema)
        volatile = schema.get("x-daykeep-volatile")
        self._volatile = tuple(map(str, volatile)) if isinstance(volatile, list) else ()
        self._compile()

    def _compile(self) -> None:
        self._misfits, self._stale = 0, False
        self.read = _reader(self.shape, self._fields, self.read_fields)

    # Types ----------------------------------------------------------------------------------------------------------

    def learn(self, line: bytes, number: int) -> Drift:
        """What is new in a record that did not fit: the part of its shape, and the changes that are worth telling.

        `number` counts the records of the run: those of a new stream's beginning show what is usual there.
        """
        try:
            shape = shape_of(_value(line))
        except UNREADABLE:
            return Drift()  # its place is the archive all the same
        known, new = self.shape, shape if self.shape is None else news(shape, self.shape)
        changes: list[Change] = []
        if new is not None:
            self.shape, self._stale = new if known is None else merge(known, new), True
            if known is not None:
                changes = list(self._changes(known, new, self.shape, ""))
        self._misfits += 1
        if self._stale and self._misfits >= MISFITS:
            self._compile()
        if number < self._learning:
            changes = [change for change in changes if change.kind == "map"]
        return Drift(new, tuple(changes))

    def _changes(self, known: Shape, new: Shape, whole: Shape, path: str) -> Iterator[Change]:
        """`new` lies in `whole` but not in `known`; what lies below something new is not told by itself."""
        if new.types:
            yield self._change_of_type(known.types, new.types, whole.types, path)
        if whole.values is not None and known.values is None:
            if "object" in known.types:
                yield Change("map", path, "info", (f"{len(known.fields)} fields",), whole.values.types)
        elif known.values is not None:
            if new.values is not None and whole.values is not None:
                yield from self._changes(known.values, new.values, whole.values, below(path, None))
        elif "object" in known.types:
            for key, one in new.fields.items():
                yield from self._changes_below(known.fields.get(key), one, whole.fields[key], below(path, key))
        if new.items is not None and whole.items is not None and "array" in known.types:
            yield from self._changes_below(known.items, new.items, whole.items, f"{path}[]")

    def _changes_below(self, known: Shape | None, new: Shape, whole: Shape, path: str) -> Iterable[Change]:
        if known is None:
            return [Change("added", path, "info", (), new.types)]
        return self._changes(known, new, whole, path)

    def _change_of_type(
        self, before: tuple[str, ...], new: tuple[str, ...], after: tuple[str, ...], path: str
    ) -> Change:
        severity: Severity = "breaking"
        if before == ("null",) or self._is_volatile(path):
            severity = "info"
        elif new == ("null",):
            severity = "info" if "null" in self._declared.get(path, ()) else "warn"
        elif set(new) <= {"number", "null"} and "integer" in before:
            severity = "warn"
        return Change("null" if new == ("null",) else "type", path, severity, before, after)

    def _is_volatile(self, path: str) -> bool:
        return any(path == one or path.startswith((f"{one}.", f"{one}[")) for one in self._volatile)

    # Presence -------------------------------------------------------------------------------------------------------

    def recount(self, day: str, lines: list[bytes]) -> None:
        """Take the sample from lines that are archived already; nothing of it is news."""
        gone, self._gone = self._gone, set()
        for line in lines[:DENSE]:
            with suppress(*UNREADABLE):
                if self.shape is not None:
                    self._count(_value(line), self.shape, "", day, [])
        self._gone = gone

    def count(self, days: list[str], lines: list[bytes], start: int) -> Drift:
        """Count the lines from `start` on, a sample of them; return which fields are gone, or there again."""
        first, self._taken = self._taken, self._taken + len(lines) - start
        if self._next >= self._taken:
            return Drift()
        changes: list[Change] = []
        while self._next < self._taken:
            place = start + self._next - first
            self._next += 1 if self._next < DENSE else STEP
            try:
                value = _value(lines[place])
            except UNREADABLE:
                continue
            if self.shape is not None:
                self._count(value, self.shape, "", days[place], changes)
        return Drift(None, (*changes, *self._missing()))

    def _count(self, value: Any, shape: Shape, path: str, day: str, changes: list[Change]) -> Presence:
        place = self.sample.get(path) or self.sample.setdefault(path, Presence())
        if path in self._gone:
            self._gone.remove(path)
            changes.append(Change("returned", path, "info", after=shape.types, day=day))
        place.present += 1
        if day != place.last:
            place.days, place.last = place.days + 1, day
        if value is None:
            place.nulls += 1
        elif isinstance(value, dict):
            place.objects += 1
            for key, one in value.items():
                if shape.values is not None:
                    self._count(one, shape.values, _place_of(path, None), day, changes)
                elif key in shape.fields:
                    below_it = self._count(one, shape.fields[key], _place_of(path, key), day, changes)
                    below_it.parent, below_it.parents, below_it.parent_days = path, place.objects, place.days
        elif isinstance(value, list) and shape.items is not None:
            for one in value[:ELEMENTS]:
                self._count(one, shape.items, f"{path}[]", day, changes)
        return place

    def _missing(self) -> Iterator[Change]:
        if self.shape is not None and self._pruned is not self.shape:
            self._pruned = self.shape
            for path in self.sample.keys() - {path for path, _ in places(self.shape)}:
                del self.sample[path]  # below what has become a map
        for path, place in self.sample.items():
            parent = self.sample.get(place.parent) if place.parent is not None else None
            if parent is None or path in self._gone or place.present < BEFORE or place.parents == 0:
                continue
            expected = (parent.objects - place.parents) * place.present / place.parents
            if expected >= GONE and parent.days >= place.parent_days + 2:
                self._gone.add(path)
                yield Change("gone", path, "info" if self._is_volatile(path) else "warn", day=place.last)


def _reader(shape: Shape | None, fields: Sequence[str], read_fields: FieldReader) -> FieldReader:
    """Check and read in one pass, or in two where a field may be something else than a plain value of a record."""
    if shape is None:
        return _knows_nothing
    decode = msgspec.json.Decoder(decoder_type(shape)).decode
    names = {key: f"f{number}" for number, key in enumerate(shape.fields)}
    containers = {"object", "array"}
    if shape.types != ("object",) or any(
        one not in names or containers.intersection(shape.fields[one].types) for one in fields
    ):

        def read(record: bytes | msgspec.Raw) -> tuple[Any, ...]:
            decode(record)
            return read_fields(record)

        return read
    if len(fields) > 1:
        get = attrgetter(*(names[one] for one in fields))
        return lambda record: get(decode(record))
    if fields:
        get_one = attrgetter(names[fields[0]])
        return lambda record: (get_one(decode(record)),)
    return lambda record: (decode(record), ())[1]


def _knows_nothing(_record: bytes | msgspec.Raw) -> tuple[Any, ...]:
    raise msgspec.DecodeError


def _value(line: bytes) -> Any:
    """A record's value, for its shape alone: numbers of any size and bytes that are not UTF-8 are taken too."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, ValueError):
        text = line.decode(errors="replace")
        return json.loads(text, parse_int=lambda _: 0, parse_float=lambda _: 0.5)


def in_words(change: Change) -> str:
    """A change as a person reads it: `payload.size` was integer, is now also string."""
    name = f"`{change.path}`" if change.path else "the record"
    before, after = " or ".join(change.before) or "nothing", " or ".join(change.after) or "nothing"
    new = " and ".join(one for one in change.after if one not in change.before)
    words = {
        "added": f"{name} is new: {after}",
        "type": f"{name} was {before}, is now also {new}",
        "null": f"{name} was never null ({before}), now it is",
        "map": f"{name} has ever new keys ({before}): it is a map from now on",
        "gone": f"{name} has not been there since {change.day}",
        "returned": f"{name} is there again",
        "keys": f"key properties were {before}, are now {after}",
        "replication_key": f"the replication key was {before}, is now {after}",
        "declared": f"{name} was declared as {before}, is now {after}",
    }[change.kind]
    return words + (f" ({change.day}, line {change.line})" if change.line else "")


# Schemas ------------------------------------------------------------------------------------------------------------


def changes_of_schema(before: StreamFacts, after: StreamFacts) -> list[Change]:
    """What a SCHEMA says otherwise than the one before."""
    changes = []
    if before.key_properties != after.key_properties:
        changes.append(Change("keys", "", "breaking", before.key_properties, after.key_properties))
    if before.bookmark_properties != after.bookmark_properties:
        changes.append(Change("replication_key", "", "breaking", before.bookmark_properties, after.bookmark_properties))
    old, new = declared(before.schema), declared(after.schema)
    for path in sorted(old.keys() ^ new.keys()):
        added = path in new
        if not any(path.startswith((f"{other}.", f"{other}[")) for other in old.keys() ^ new.keys()):
            changes.append(Change("declared", path, "info" if added else "warn", old.get(path, ()), new.get(path, ())))
    for path in sorted(old.keys() & new.keys()):
        if old[path] != new[path]:
            severity: Severity = "warn" if set(old[path]) <= set(new[path]) else "breaking"
            changes.append(Change("declared", path, severity, old[path], new[path]))
    return changes


def declared(schema: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """What a JSON Schema says of each path below the record: types, formats and enums, in words."""
    found: dict[str, set[str]] = {}
    _declared(schema, "", DEPTH, found)
    found.pop("", None)
    return {path: tuple(sorted(words)) for path, words in found.items()}


def _declared(schema: Any, path: str, depth: int, found: dict[str, set[str]]) -> None:
    if not isinstance(schema, dict) or depth == 0:
        return
    words = found.setdefault(path, set())
    types = schema.get("type", [])
    words |= {str(one) for one in (types if isinstance(types, list) else [types])}
    words |= {f"{name} {json.dumps(schema[name])[:200]}" for name in ("format", "enum") if name in schema}
    for name in ("anyOf", "oneOf", "allOf"):
        for one in schema[name] if isinstance(schema.get(name), list) else ():
            _declared(one, path, depth - 1, found)
    properties = schema.get("properties")
    for key, one in properties.items() if isinstance(properties, dict) else ():
        _declared(one, below(path, key), depth - 1, found)
    _declared(schema.get("additionalProperties"), below(path, None), depth - 1, found)
    _declared(schema.get("items"), f"{path}[]", depth - 1, found)
