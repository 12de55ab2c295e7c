"""What a complete read finds out about what is already archived: lines that are gone, a snapshot that has not changed.

Only a read that is proved whole may say that something is gone: its tap claims it complete, left nothing out, and
counted as many records as came here. Whatever is in doubt stays.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, timedelta
from typing import Any

import msgspec

from target_archive import layout
from target_archive.commit import StreamFacts
from target_archive.day import day_of
from target_archive.dedupe import content_of
from target_archive.errors import CorruptArchive
from target_archive.fields import field_reader
from target_archive.log import Log
from target_archive.settings import zone
from target_archive.sink import Sink
from target_archive.views import head
from target_archive.writer import Found, Writer

FORGETTING = ("entity", "metric", "snapshot")
"""Modes in which a row that a complete read does not find is gone; events and changes stay what they were."""
SHRUNK = 0.2
"""The share of a day's rows whose disappearance is told."""

_MIDNIGHT = re.compile(r"\d{4}-\d\d-\d\d([T ]00:00(:00(\.0+)?)?Z?)?")

logger = logging.getLogger("target-archive")


class Counted(msgspec.Struct):
    """Of a claim's evidence, what says whether every row came."""

    records: int = 0
    older: int = 0
    changes_only: bool = False
    given_up: list[Any] = []
    warnings: list[Any] = []


class ClaimMade(msgspec.Struct):
    """A claim as a STATE holds it; see FORMAT.md."""

    status: str
    start: str | None = msgspec.field(name="from", default=None)
    end: str | None = msgspec.field(name="to", default=None)
    partitions: dict[str, Any] = {}
    evidence: Counted = msgspec.field(default_factory=Counted)

    @property
    def whole(self) -> bool:
        one = self.evidence
        doubtful = one.older or one.changes_only or one.given_up or one.warnings or self.partitions.get("skipped")
        return self.status == "complete" and not doubtful


class _State(msgspec.Struct):
    claims: dict[str, list[ClaimMade]] = {}


def claims_of(state: bytes) -> Mapping[str, Sequence[ClaimMade]]:
    """The claims in a STATE, per stream; none where they are not as ours are."""
    try:
        return msgspec.json.decode(state, type=_State).claims
    except msgspec.DecodeError:
        return {}


def find_out(writer: Writer, sinks: Mapping[str, Sink], claims: Mapping[str, Sequence[ClaimMade]], since: int) -> Found:
    """What the reads of a run that is about to end have found out about lines that were committed before.

    `since` is the last commit before the run.
    """
    found = Found()
    for stream, made in claims.items():
        sink = sinks.get(stream)
        if sink is None or sink.facts.mode not in FORGETTING:
            continue
        if sum(claim.evidence.records for claim in made) != sink.received:
            continue  # a part came in an earlier run, or is still under way
        if sink.read_on:
            days = {sink.read_on} if any(claim.whole and claim.start is None for claim in made) else set()
        else:
            days = _whole_days(writer.log, stream, sink.facts, [claim for claim in made if claim.whole])
        try:
            if sink.read_on in days and (earlier := _same_as(writer, stream, sink, since)):
                found.same[stream] = {sink.read_on: earlier}
            elif gone := _gone(writer, stream, sink, days):
                found.gone[stream] = gone
        except CorruptArchive as error:
            writer.problems.append(f"{error}: what is gone of `{stream}` cannot be told")
    return found


def _whole_days(log: Log, stream: str, facts: StreamFacts, claims: Sequence[ClaimMade]) -> set[str]:
    """The days that lie whole within what was read; a read by another field than the day's must have been of all."""
    where = UTC if facts.timezone == "UTC" else zone(facts.timezone)
    by_day = facts.bookmark_properties == (facts.day_field,)
    found: set[str] = set()
    for claim in claims:
        end = day_of(claim.end, where) if claim.end else None
        if end is None or not (by_day or claim.start is None):
            continue
        first = ""
        if claim.start is not None:
            first = day_of(claim.start, where) or end
            if not _MIDNIGHT.fullmatch(claim.start) or (where is not UTC and claim.start.endswith("Z")):
                first = (date.fromisoformat(first) + timedelta(days=1)).isoformat()
        found |= {day for day in log.held.get(stream, {}) if first <= day < end and day != layout.UNDATED}
    return found


def _gone(writer: Writer, stream: str, sink: Sink, days: set[str]) -> dict[str, tuple[int, ...]]:
    found = {}
    for day in sorted(days):
        if missed := _filed_by(writer, stream, sink, day):
            found[day] = tuple(missed)
            known = writer.log.day(stream, day).gone_lines()
            had = len(head(writer.days.lines(stream, day), sink.facts.key_properties, known))
            if len(missed) > SHRUNK * had and day != sink.read_on:
                logger.warning("%s: %s of %s records of %s are there no longer", stream, len(missed), had, day)
    return found


def _filed_by(writer: Writer, stream: str, sink: Sink, day: str) -> list[int]:
    """The lines of a day that were missed, but for those that would be filed by another day today."""
    missed = sink.dedupe.missed(day)
    if sink.read_on or not missed:
        return missed
    lines, read, where = writer.days.lines(stream, day), field_reader([sink.facts.day_field]), zone(sink.facts.timezone)
    return [number for number in missed if day_of(read(lines[number - 1])[0], where) == day]


def _same_as(writer: Writer, stream: str, sink: Sink, since: int) -> str | None:
    """The day of the last snapshot, where today's, of which nothing was held before the run, equals it."""
    today, log = sink.read_on, writer.log
    held, lines = log.day(stream, today), writer.lines[stream]
    if held.files or held.lines(since) or not all(day == today for day in lines.days):
        return None
    earlier = max((day for day in {*log.days(stream), *log.same.get(stream, {})} if day < today), default=None)
    if earlier is None or sink.received == 0:
        return None
    if not log.lines_of(stream, earlier):
        earlier = log.same[stream][earlier][1]
    keys, content = sink.facts.key_properties, content_of(sink.facts.volatile)
    before = head(writer.days.lines(stream, earlier), keys, log.day(stream, earlier).gone_lines())
    now = [*writer.days.lines(stream, today), *lines.lines]
    same = len(before) == len(now) and Counter(map(content, before)) == Counter(map(content, now))
    return earlier if same else None
