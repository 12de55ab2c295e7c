"""The terminal calendar."""

from __future__ import annotations

from datetime import date, timedelta
from typing import get_args

import pytest

from daykeep.calendar import MARKS, calendar, legend
from target_archive.coverage import Status


def lines(statuses: dict[str, Status]) -> list[str]:
    return [line.plain for line in calendar(statuses)]


def whole_year(number: int, status: Status) -> dict[str, Status]:
    first = date(number, 1, 1)
    days = (date(number + 1, 1, 1) - first).days
    return {(first + timedelta(days=count)).isoformat(): status for count in range(days)}


@pytest.mark.parametrize(
    ("year", "monday"), [(2024, date(2024, 1, 1)), (2013, date(2012, 12, 31)), (2023, date(2022, 12, 26))]
)
def test_each_day_stands_in_its_week_and_on_its_weekday(year: int, monday: date) -> None:
    days = ("01-01", "01-07", "01-08", "02-28", "06-30", "07-01", "10-31", "12-30", "12-31")
    statuses = {f"{year}-{day}": status for day, status in zip(days, MARKS, strict=True)}
    drawn = lines(statuses)
    assert drawn[0].startswith(f"{year} Jan")
    for day, status in statuses.items():
        column = 5 + (date.fromisoformat(day) - monday).days // 7
        assert drawn[1 + date.fromisoformat(day).weekday()][column] == MARKS[status][0]
    assert sum(len(line[5:].replace(" ", "")) for line in drawn[1:]) == len(statuses)


@pytest.mark.parametrize("number", range(2000, 2029))
def test_a_year_holds_all_its_days_in_less_than_eighty_columns(number: int) -> None:
    drawn = lines(whole_year(number, "present"))
    assert len(drawn) == 8
    assert max(map(len, drawn)) < 80
    assert sum(line.count("■") for line in drawn) == len(whole_year(number, "present"))
    assert drawn[0].split() == [
        str(number),
        *["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
    ]


def test_years_without_records_share_a_line() -> None:
    statuses = whole_year(1970, "present")
    for number in range(1971, 2020):
        statuses |= whole_year(number, "unknown")
    statuses |= whole_year(2020, "empty") | whole_year(2021, "empty") | {"2022-01-01": "open"}
    assert lines(statuses)[8:10] == ["1971-2019 □ unknown", "2020-2021 · proved empty"]
    assert len(lines(statuses)) == 18


def test_the_year_that_has_just_begun_shares_the_line_of_empty_years() -> None:
    statuses = whole_year(2020, "present") | whole_year(2021, "empty")
    statuses |= {"2022-01-01": "empty", "2022-01-02": "open"}
    assert lines(statuses)[8:] == ["2021-2022 · proved empty"]


def test_the_first_and_the_last_year_of_the_calendar_can_be_drawn() -> None:
    drawn = lines({"0001-01-01": "present", "9999-12-31": "present"})
    assert [line for line in drawn if "■" in line] == ["Mon  ■", "Fri  " + " " * 52 + "■"]


def test_statuses_differ_by_shape_and_colour_and_the_legend_names_those_that_are_there() -> None:
    assert set(MARKS) == set(get_args(Status))
    assert (
        len({mark for mark, _, _ in MARKS.values()}) == len({colour for _, colour, _ in MARKS.values()}) == len(MARKS)
    )
    told = [line.plain for line in legend(MARKS)]
    assert all(f"{mark} {words}" in "  ".join(told) for mark, _, words in MARKS.values())
    assert max(map(len, told)) <= 80
    assert [line.plain for line in legend(["open", "present"])] == ["■ proved  ◌ not over"]
