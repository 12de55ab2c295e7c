"""The calendar of a stream: a block per year, a column per week, a cell per day, told apart by colour and by shape."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date
from itertools import groupby

from rich.text import Text

from target_archive.coverage import Status

MARKS: dict[Status, tuple[str, str, str]] = {
    "present": ("■", "green", "proved"),
    "empty": ("·", "bright_black", "proved empty"),
    "empty_suspect": ("?", "magenta", "empty, in doubt"),
    "partial": ("▣", "yellow", "held, not proved"),
    "failed": ("✗", "bright_red", "failed"),
    "unavailable": ("▽", "blue", "not to be had"),
    "unknown": ("□", "red", "unknown"),
    "out_of_scope": ("-", "white", "older than asked for"),
    "open": ("◌", "cyan", "not over"),
}
"""How a day's status is shown: its character, its colour, its words."""

_WEEKDAYS = ("Mon", "", "Wed", "", "Fri", "", "Sun")
_LABEL = 5
_WIDTH = 80


def legend(statuses: Collection[Status]) -> Iterator[Text]:
    """What the marks of these statuses mean, in lines of at most 80 characters."""
    line = Text()
    for status in (one for one in MARKS if one in statuses):
        mark, colour, words = MARKS[status]
        entry = Text.assemble((mark, colour), f" {words}")
        if len(line) + len(entry) > _WIDTH - 2:
            yield line
            line = Text()
        line = Text("  ").join((line, entry)) if line else entry
    yield line


def calendar(statuses: Mapping[str, Status]) -> Iterator[Text]:
    """The lines of a calendar, at most 59 characters wide; years in which nothing is held share a line."""
    years: dict[int, dict[int, Status]] = {}
    for name, status in statuses.items():
        day = date.fromisoformat(name)
        years.setdefault(day.year, {})[day.toordinal()] = status
    for nothing, group in groupby(sorted(years), lambda year: _nothing_held(years[year])):
        if nothing:
            mark, colour, words = MARKS[nothing]
            first, *more = group
            span = f"{first:04}" + (f"-{more[-1]:04}" if more else "")
            yield Text.assemble(f"{span} ", (mark, colour), f" {words}")
        else:
            for year in group:
                yield from _year(year, years[year])


def _nothing_held(days: Mapping[int, Status]) -> Status | None:
    """The status of all days of a year (those not over apart) if they share one and are without records."""
    found = set(days.values()) - {"open"}
    return found.pop() if len(found) == 1 and not found & {"present", "partial"} else None


def _year(year: int, days: Mapping[int, Status]) -> Iterator[Text]:
    first = date(year, 1, 1)
    months = [" "] * 56
    for month in range(1, 13):
        day = date(year, month, 1)
        column = ((day - first).days + first.weekday()) // 7
        months[column : column + 3] = day.strftime("%b")
    yield Text(f"{year:04}".ljust(_LABEL) + "".join(months).rstrip())
    monday = first.toordinal() - first.weekday()
    for weekday, label in enumerate(_WEEKDAYS):
        row = Text(label.ljust(_LABEL))
        cells = (days.get(day) for day in range(monday + weekday, monday + 372 + weekday, 7))
        for status, alike in groupby(cells):
            mark, colour, _ = MARKS[status] if status else (" ", "", "")
            row.append(mark * len(list(alike)), colour)
        row.rstrip()
        yield row
