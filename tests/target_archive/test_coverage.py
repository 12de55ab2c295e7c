"""Which days are held, proved empty, or unknown."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_archive.commit import StreamFacts
from target_archive.coverage import day_statuses, gaps
from target_archive.log import Claim, Held, Log

TODAY = date(2024, 5, 10)


def log(held: Iterable[int], claims: Iterable[dict[str, Any]], *, by_day: bool = True, tz: str = "UTC") -> Log:
    made = Log("model")
    bookmark = "at" if by_day else "updated"
    made.streams["s"] = StreamFacts(folder="s", day_field="at", bookmark_properties=(bookmark,), timezone=tz)
    made.held["s"] = {f"2024-05-{day:02d}": Held(grown=[(1, 1)]) for day in held}
    made.claims["s"] = [Claim(1, **{"status": "complete", **claim}) for claim in claims]
    return made


def claim(start: str | None, end: str, **more: Any) -> dict[str, Any]:
    return {"start": start, "end": end, **more}


WHOLE = claim(None, "2024-05-03T06:00:00Z")


def shown(made: Log) -> str:
    marks = {"present": "P", "unproved": "u", "empty": "e", "unknown": "?", "open": "o"}
    return "".join(marks[status] for status in day_statuses(made, "s", TODAY).values())


@pytest.mark.case("R001-17")
@pytest.mark.parametrize(
    ("held", "claims", "expected"),
    [  # the days are 1 to 10 May; 10 May is today
        ([1, 3], [claim(None, "2024-05-10T06:00:00Z")], "PePeeeeeeo"),
        ([1, 3], [], "u?u??????o"),
        ([1, 3], [claim(None, "2024-05-03T06:00:00Z")], "Peu??????o"),
        ([1, 9], [WHOLE, claim("2024-05-03T05:00:00Z", "2024-05-10T06:00:00Z")], "PeeeeeeePo"),
        ([1, 9], [WHOLE, claim("2024-05-06T05:00:00Z", "2024-05-10T06:00:00Z")], "Pe???eeePo"),
        ([5], [claim("2024-05-03T00:00:00Z", "2024-05-10T06:00:00Z")], "eePeeeeo"),
        ([5], [claim(None, "2024-05-10T06:00:00Z", status="partial")], "u????o"),
        ([10], [claim(None, "2024-05-10T06:00:00Z")], "o"),
        ([1], [claim(None, "2024-05-10T06:00:00Z", partition={"a": 1}), WHOLE | {"partition": {"a": 2}}], "Pe???????o"),
        ([], [], ""),
    ],
)  # fmt: skip
def test_a_day_has_the_status_that_is_proved(held: list[int], claims: list[dict[str, Any]], expected: str) -> None:
    assert shown(log(held, claims)) == expected


def test_a_read_by_another_field_proves_days_only_from_the_beginning_on() -> None:
    since = claim("2024-05-03T05:00:00Z", "2024-05-10T06:00:00Z")
    assert shown(log([1, 9], [since], by_day=False)) == "u???????uo"
    assert shown(log([1, 9], [WHOLE, since], by_day=False)) == "PeeeeeeePo"


def test_days_are_those_of_the_streams_time_zone() -> None:
    late = claim(None, "2024-05-03T01:00:00Z")
    assert shown(log([1], [late], tz="America/New_York")) == "P????????o"
    assert shown(log([1], [late])) == "Pe???????o"


def test_gaps_are_stretches_with_their_reason() -> None:
    found = gaps(log([1, 2, 6], [claim(None, "2024-05-02T00:00:00Z")]), "s", TODAY)
    assert [(gap.first, gap.last, gap.days) for gap in found] == [
        ("2024-05-02", "2024-05-02", 1),
        ("2024-05-03", "2024-05-05", 3),
        ("2024-05-06", "2024-05-06", 1),
        ("2024-05-07", "2024-05-09", 3),
    ]
    assert "records are held" in found[0].reason
    assert "no run" in found[1].reason


DAYS = st.integers(1, 9)


@given(st.sets(DAYS, min_size=1), st.lists(st.tuples(DAYS, DAYS), max_size=4))
def test_statuses_tile_the_calendar_and_agree_with_a_day_by_day_count(
    held: set[int], stretches: list[tuple[int, int]]
) -> None:
    claims = [claim(f"2024-05-{a:02d}T00:00:00Z", f"2024-05-{b:02d}T00:00:00Z") for a, b in stretches]
    statuses = day_statuses(log(held, claims), "s", TODAY)
    days = [int(day[-2:]) for day in statuses]
    assert days == list(range(days[0], 11))
    for day in days[:-1]:
        covered = any(a <= day < b for a, b in stretches)
        wanted = ("present" if covered else "unproved") if day in held else ("empty" if covered else "unknown")
        assert statuses[f"2024-05-{day:02d}"] == wanted
