"""Which days of a stream are held, which are proved empty, and which nobody has looked at.

A day without lines is `empty` only where a tap has claimed, with evidence, to have read everything that covers it; it
is `unknown` otherwise. So our own outages show as gaps, and an API that had nothing to say does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, timedelta

import msgspec

from target_archive.day import day_of
from target_archive.log import Claim, Log
from target_archive.settings import zone

_BEGINNING = date.min


class Gap(msgspec.Struct, frozen=True):
    """Consecutive days, both ends included, that are not known to be complete, and why."""

    stream: str
    first: str
    last: str
    days: int
    reason: str


def day_statuses(log: Log, stream: str, today: date) -> dict[str, str]:
    """The status of every day from the first that is held or covered to today.

    `present`: lines, and a complete read covers the day; `unproved`: lines, but no complete read covers the day;
    `empty`: no lines, proved by a complete read; `unknown`: no lines, and nobody has looked since the day was over, so
    a scheduler that is dead shows; `open`: the day has not ended. A stream that is filed by the day of reading has
    only days that are held.
    """
    held = set(log.days(stream))
    facts = log.streams[stream]
    if not facts.day_field:
        return dict.fromkeys(sorted(held), "present")
    claims = log.claims.get(stream, ())
    stretches = _covered(claims, by_day=facts.bookmark_properties == (facts.day_field,), tz=facts.timezone)
    starts = [date.fromisoformat(day) for day in held] + [begin for begin, _ in stretches if begin != _BEGINNING]
    if not starts:
        return {}
    last = max(today, *(date.fromisoformat(day) for day in held)) if held else today
    statuses = {}
    day = min(starts)
    while day <= last:
        covered = any(begin <= day < end for begin, end in stretches)
        name = day.isoformat()
        if day >= today:
            statuses[name] = "open"
        elif name in held:
            statuses[name] = "present" if covered else "unproved"
        else:
            statuses[name] = "empty" if covered else "unknown"
        day += timedelta(days=1)
    return statuses


def gaps(log: Log, stream: str, today: date) -> list[Gap]:
    """The stretches of days that are `unknown` or `unproved`."""
    reasons = {
        "unknown": "no run has covered these days",
        "unproved": "records are held, but no run has proved the days complete",
    }
    found: list[Gap] = []
    for day, status in day_statuses(log, stream, today).items():
        if status not in reasons:
            continue
        last = found[-1] if found else None
        if last and last.reason == reasons[status] and _next(last.last) == day:
            found[-1] = msgspec.structs.replace(last, last=day, days=last.days + 1)
        else:
            found.append(Gap(stream, day, day, 1, reasons[status]))
    return found


def _next(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def _covered(claims: Iterable[Claim], *, by_day: bool, tz: str) -> list[tuple[date, date]]:
    """The days [begin, end) that complete reads cover for every partition, merged and in order.

    A read by another field than the day's says something about days only where it began at the beginning.
    """
    where = UTC if tz == "UTC" else zone(tz)
    per_partition: dict[bytes, list[tuple[date, date]]] = {}
    for claim in claims:
        if claim.status != "complete" or claim.end is None:
            continue
        begin = _BEGINNING if claim.start is None else _date(day_of(claim.start, where))
        end = _date(day_of(claim.end, where))
        if begin is not None and end is not None:
            identity = msgspec.json.encode(claim.partition)
            per_partition.setdefault(identity, []).append((begin, end))
    merged = [_merge(stretches) for stretches in per_partition.values()]
    if not by_day:
        merged = [[one for one in stretches if one[0] == _BEGINNING] for stretches in merged]
    common = merged[0] if merged else []
    for other in merged[1:]:
        common = [(max(a, c), min(b, d)) for a, b in common for c, d in other if max(a, c) < min(b, d)]
    return common


def _merge(stretches: list[tuple[date, date]]) -> list[tuple[date, date]]:
    merged: list[tuple[date, date]] = []
    for begin, end in sorted(stretches):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged


def _date(day: str | None) -> date | None:
    return date.fromisoformat(day) if day else None
