"""The way of one stream's records into the archive: which day, news or repeat, then into the writer's lines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, tzinfo
from typing import Any, get_args

import msgspec

from target_archive import layout
from target_archive.commit import Mode, StreamFacts
from target_archive.day import day_of
from target_archive.dedupe import Dedupe, hashable
from target_archive.drift import UNREADABLE, Watch
from target_archive.fields import ABSENT
from target_archive.settings import zone
from target_archive.writer import Lines


def facts_of(
    schema: dict[str, Any],
    key_properties: list[str],
    bookmark_properties: list[str],
    *,
    day_field: str,
    timezone: str,
    mode: Mode | None = None,
) -> StreamFacts:
    """How to file a stream, from its SCHEMA and the target's settings, which go first.

    The day field is the one that is set, the one that the tap declares (`x-daykeep-day`), or the replication key where
    the schema calls it a date; without any the stream is filed by the day on which it is read. The mode is the one
    that is set or declared (`x-daykeep-mode`); else a stream without a replication key is read whole each time: it is a
    `snapshot`, or an `entity` where it has a day field; any other is a `changelog`.
    """
    declared = schema.get("x-daykeep-day")
    declared = declared if isinstance(declared, dict) else {}
    field = day_field or str(declared.get("field", ""))
    if not field and bookmark_properties and _is_date(schema, bookmark_properties[0]):
        field = bookmark_properties[0]
    told = schema.get("x-daykeep-mode")
    if mode is None and told in get_args(Mode):
        mode = told
    return StreamFacts(
        folder="",
        schema=schema,
        key_properties=tuple(key_properties),
        bookmark_properties=tuple(bookmark_properties),
        day_field=field,
        timezone=timezone or str(declared.get("tz", "UTC")),
        dedupe="latest" if key_properties else "copies",
        mode=mode or ("changelog" if bookmark_properties else "entity" if field else "snapshot"),
    )


def _is_date(schema: dict[str, Any], field: str) -> bool:
    found = schema.get("properties", {}).get(field, {})
    choices = [found, *found.get("anyOf", []), *found.get("oneOf", [])] if isinstance(found, dict) else []
    return any(isinstance(one, dict) and one.get("format") in {"date-time", "date"} for one in choices)


Refuse = Callable[[bytes, str], None]
"""Is given a bad record, which is not archived then, and why, as in "a record without …". It may raise."""


class Sink:
    """Where the target puts the records of one stream.

    Bad records, which are no objects or lack their day or key, are archived too unless there is a `refuse`.

    Attributes:
        watch: What looks at the shape of every record.
        size: Bytes of the lines taken so far.
        received, repeats: Records taken, and how many of them were already archived.
        read_on: The day by which a stream without a day field is filed; "" for any other.
    """

    def __init__(
        self,
        facts: StreamFacts,
        lines: Lines,
        dedupe: Dedupe,
        watch: Watch,
        today: Callable[[tzinfo], str],
        *,
        previous: Sink | None,
        refuse: Refuse | None = None,
    ) -> None:
        self.facts, self.dedupe, self.watch = facts, dedupe, watch
        self._lines, self._refuse = lines, refuse
        self._zone = UTC if facts.timezone == "UTC" else zone(facts.timezone)
        watch.expect(facts.schema, [*([facts.day_field] if facts.day_field else []), *facts.key_properties])
        self.read_on: str = "" if facts.day_field else (previous.read_on if previous else "") or today(self._zone)
        self.size, self.received, self.repeats = 0, 0, 0
        if previous:
            self.size, self.received, self.repeats = previous.size, previous.received, previous.repeats

    def write(self, records: list[msgspec.Raw]) -> None:
        """Take records in the order in which they came. This loop is where an archive's CPU goes."""
        watch, lines, read = self.watch, self._lines, self.watch.read
        read_on, where, is_repeat, start = self.read_on, self._zone, self.dedupe.is_repeat, len(self._lines.lines)
        add_day, add_line = self._lines.days.append, self._lines.lines.append
        no_fields = () if read_on else (None,)  # no day, and no key, as `key_of` has it
        refuse, size, repeats = self._refuse, 0, 0
        try:
            for number, record in enumerate(records, self.received):
                line, fits = bytes(record), True
                try:
                    key = read(line)
                except UNREADABLE:
                    fits = False
                    try:
                        key = watch.read_fields(line)
                    except UNREADABLE:
                        # it is not an object, or too deep to look into
                        if refuse:
                            refuse(line, "that cannot be read as an object")
                            continue
                        key = no_fields
                if read_on:
                    day = read_on
                else:
                    day = day_of(key[0], where) or layout.UNDATED
                    key = key[1:]
                if refuse and (day == layout.UNDATED or ABSENT in key):
                    refuse(line, self._problem(day, key))
                    continue
                try:
                    repeat = is_repeat(day, key, line)
                except TypeError:  # a list or an object in the key
                    repeat = is_repeat(day, hashable(key), line)
                if repeat:
                    repeats += 1
                else:
                    add_day(day)
                    add_line(line)
                    size += len(line)
                if not fits:
                    lines.note(watch.learn(line, number), in_last=not repeat)
                    read = watch.read
        finally:
            lines.note(watch.count(lines.days, lines.lines, start))
            self.received += len(lines.lines) - start + repeats
            self.repeats += repeats
            self.size += size

    def _problem(self, day: str, key: tuple[Any, ...]) -> str:
        if day == layout.UNDATED:
            return f"whose day cannot be told from `{self.facts.day_field}`"
        names = [name for name, value in zip(self.facts.key_properties, key, strict=True) if value is ABSENT]
        return f"without its key `{'`, `'.join(names)}`"
