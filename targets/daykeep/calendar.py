"""The calendar of a stream: a block per year, a column per week, a cell per day, told apart by colour and by shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from itertools import groupby

from rich.text import Text

MARKS = {
    "present": ("■", "green", "proved complete"),
    "unproved": ("▣", "yellow", "held, not proved"),
    "empty": ("·", "bright_black", "proved empty"),
    "unknown": ("✗", "red", "unknown"),
    "open": ("◌", "cyan", "not over"),
}
"""How a day's status is shown: its character, its colour, its words."""

_WEEKDAYS = ("Mon", "", "Wed", "", "Fri", "", "Sun")
_LABEL = 5


def legend() -> Text:
    return Text("  ").join(Text.assemble((mark, colour), f" {words}") for mark, colour, words in MARKS.values())


def calendar(statuses: Mapping[str, str]) -> Iterator[Text]:
    """The lines of a calendar, at most 59 characters wide; years in which nothing is held share a line."""
    years: dict[int, dict[date, str]] = {}
    for name, status in statuses.items():
        day = date.fromisoformat(name)
        years.setdefault(day.year, {})[day] = status
    for nothing, group in groupby(sorted(years), lambda year: _nothing_held(years[year])):
        if nothing:
            mark, colour, words = MARKS[nothing]
            first, *more = group
            span = f"{first:04}" + (f"-{more[-1]:04}" if more else "")
            yield Text.assemble(f"{span} ", (mark, colour), f" {words}")
        else:
            for year in group:
                yield from _year(year, years[year])


def _nothing_held(days: Mapping[date, str]) -> str:
    """The status of all days of a year (those not over apart) if they are without records, else nothing."""
    found = set(days.values()) - {"open"}
    return found.pop() if found in ({"unknown"}, {"empty"}) else ""


def _year(year: int, days: Mapping[date, str]) -> Iterator[Text]:
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
        for ordinal in range(monday + weekday, date(year, 12, 31).toordinal() + 1, 7):
            status = days.get(date.fromordinal(ordinal)) if ordinal >= first.toordinal() else None
            row.append(*MARKS[status][:2]) if status else row.append(" ")
        row.rstrip()
        yield row
