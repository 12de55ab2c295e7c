"""Which day a value belongs to."""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from target_archive.day import day_of

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.case("C23")
@pytest.mark.parametrize(
    ("value", "zone", "day"),
    [
        ("2024-05-01T00:00:00Z", UTC, "2024-05-01"),
        ("2024-05-01T23:59:60Z", UTC, "2024-05-01"),
        ("2024-05-01T23:59:59.123456789Z", UTC, "2024-05-01"),
        ("2024-05-01", UTC, "2024-05-01"),
        ("2024-05-01", BERLIN, "2024-05-01"),
        ("2024-05-01T23:30:00", BERLIN, "2024-05-01"),
        ("2024-05-01T23:30:00Z", BERLIN, "2024-05-02"),
        ("2024-05-01T23:30:00z", BERLIN, "2024-05-02"),
        ("2024-05-01T23:30:00-02:00", UTC, "2024-05-02"),
        ("2024-05-01T00:30:00+0200", UTC, "2024-04-30"),
        ("2024-05-01T00:30:00+02", UTC, "2024-04-30"),
        ("2024-05-01 00:30:00 UTC", UTC, "2024-05-01"),
        ("2024-05-01T00:30Z", NEW_YORK, "2024-04-30"),
        ("2024-03-31T01:30:00Z", BERLIN, "2024-03-31"),
        ("2024-10-27T00:30:00Z", BERLIN, "2024-10-27"),
        (" 2024-05-01T00:00:00+00:00 ", UTC, "2024-05-01"),
        (1714521600, UTC, "2024-05-01"),
        (1714521600.5, UTC, "2024-05-01"),
        (1714521600000, UTC, "2024-05-01"),
        (1714521600000000, UTC, "2024-05-01"),
        (-1, UTC, "1969-12-31"),
        ("0000-00-00", UTC, None),
        ("0000-00-00T00:00:00Z", UTC, None),
        ("2024-02-30T00:00:00Z", UTC, None),
        ("9999-12-31T23:59:59Z", BERLIN, None),
        ("0001-01-01T00:00:00+14:00", UTC, None),
        ("Wed, 02 Oct 2002 23:30:00 GMT", UTC, "2002-10-02"),
        ("Wed, 02 Oct 2002 23:30:00 GMT", BERLIN, "2002-10-03"),
        ("Wed, 02 Oct 2002 23:30:00 -0000", BERLIN, "2002-10-02"),
        ("Wed Oct 10 20:19:24 +0000 2018", UTC, "2018-10-10"),
        ("Wed, 32 Oct 2002 23:30:00 GMT", UTC, None),
        ("Wednesday 2002", UTC, None),
        ("02 Oct 02 13:00 EST", UTC, None),  # which century?
        ("yesterday", UTC, None),
        ("", UTC, None),
        ("20240501", UTC, None),
        (1e300, UTC, None),
        (True, UTC, None),
        (None, UTC, None),
        ({}, UTC, None),
    ],
)
def test_a_value_names_its_day_or_none(value: Any, zone: tzinfo, day: str | None) -> None:
    assert day_of(value, zone) == day
