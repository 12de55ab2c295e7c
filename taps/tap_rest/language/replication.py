"""Incremental replication: the value a stream is read from, how it is written into a request, and how values compare.

A bookmark is kept as the text that the API sent; only when it has to be compared, moved back or written in another
format is it read as a point in time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec

from tap_rest.component import Component
from tap_rest.errors import ConfigError

_DURATION = re.compile(r"\d{1,6}(s|min|h|d|w)")
Duration = Annotated[str, msgspec.Meta(pattern=f"^{_DURATION.pattern}$", examples=["90s", "30min", "1h", "2d"])]
Format = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(iso|date|epoch_s|epoch_ms|epoch_us|text|.*%[a-zA-Z].*)$",
        examples=["iso", "date", "epoch_s", "epoch_ms", "epoch_us", "text", "%Y/%m/%d"],
    ),
]

_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
"""How many microseconds one step of each is."""
_NUMBER = re.compile(r"-?\d{1,18}(\.\d+)?", re.ASCII)
_LEAP = re.compile(r"(:\d\d):60")
SLOT = re.compile(r"\{([A-Za-z_][\w.]*)(?:\|([^{}]*))?\}")


class Replication(Component, frozen=True, kw_only=True):
    """How a stream is read incrementally.

    Where no end is asked for, reading goes on to whatever there is; `until_param`, or `{until}` in a template, asks for
    an end, which is `end_date` or the time at which the run began, less `lag`.

    Attributes:
        key: The replication key, a field of the record.
        order: `ascending`: the bookmark may follow the pages; `descending`: read until the bookmark, commit at the end;
            `none`: no order is claimed, the bookmark moves when the unit is complete.
        inclusive: Whether the API returns records equal to the value asked for.
        client_side: The API can't be asked for a start: everything is read, and what is older than it left out.
        lookback: Read this much again in each run, for records that arrive late: `1h`, `30min`, `2d`.
        lag: Leave this much of the newest time to a later run, for APIs whose latest records are still incomplete.
        param: Query parameter that takes the start value; left out while there is none.
        until_param: Query parameter that takes the end value.
        format: How values are written: `iso`, `date`, `epoch_s`, `epoch_ms`, `epoch_us`, `text` (as recorded, not a
            time: an id), or a strftime pattern.
        timezone: The zone in which `date` and patterns are written, `Europe/Berlin`.
        granularity: The smallest step of the API's times. Where the end that it takes is inclusive, declare the step:
            the end asked for is then one step before the window's.
        window: Read in windows of this length, one after another; each that is complete moves the bookmark.
        start: Where to begin without a bookmark or start_date: a time, or how long ago, `90d`.
        retention: How far back the API goes; a bookmark older than that is reported as lost time.
    """

    key: str
    order: Literal["ascending", "descending", "none"] = "none"
    inclusive: bool = True
    client_side: bool = False
    lookback: Duration = "0s"
    lag: Duration = "0s"
    param: str | None = None
    until_param: str | None = None
    format: Format = "iso"
    timezone: str = "UTC"
    granularity: Duration = "0s"
    window: Duration | None = None
    start: str | None = None
    retention: Duration | None = None

    def __post_init__(self) -> None:
        timed = (self.lookback, self.lag, self.granularity, self.window or "0s", self.retention or "0s")
        if self.format == "text" and any(duration(text) for text in timed):
            raise ValueError("lookback, lag, granularity, window and retention need a time, not `format: text`")
        start = "0s" if self.start is None else self.start
        if "{" not in start and self.format != "text" and moment(start) is None and not _DURATION.fullmatch(start):
            raise ValueError("`start` is a time, or how long ago: 2015-01-01, 90d")
        try:
            zone(self.timezone)
        except (KeyError, ValueError, OSError):  # zoneinfo's errors are all three
            raise ValueError(f"{self.timezone} is not a time zone") from None

    def before(self, time: str) -> str:
        """The last step of the API's times before a time."""
        step, just = duration(self.granularity), time_of(time) - timedelta(microseconds=1)
        return iso(floored(just, step or timedelta(seconds=1), self.timezone))

    def rank(self, value: Any) -> Any:
        """What a key value is compared by; None where it has no place in the order (null, or not a time).

        A point in time, or for `text` a pair that puts whole numbers, as numbers, before other text.
        """
        if self.format != "text":
            return moment(value)
        if isinstance(value, str):
            return (0, int(value)) if value.isascii() and value.isdigit() and len(value) < 40 else (1, value)
        return (0, value) if isinstance(value, int) and not isinstance(value, bool) else None


def zone(name: str) -> tzinfo:
    """A time zone by its name. Raises KeyError, ValueError or OSError where there is none."""
    return UTC if name == "UTC" else ZoneInfo(name)


def duration(text: str) -> timedelta:
    """`90s`, `30min`, `1h`, `2d`, `1w` as a length of time."""
    number, unit = re.findall(r"\d+|[a-z]+", text)
    return timedelta(**{_UNITS[unit]: int(number)})


def moment(value: Any) -> datetime | None:
    """A point in time, aware, from ISO text or an epoch number (seconds, or milliseconds by its size); None for others.

    Text without a zone is taken as UTC. A leap second counts as the second before it; digits below microseconds are
    cut.
    """
    if isinstance(value, str):
        text = value.strip()
        number = Decimal(text) if _NUMBER.fullmatch(text) else None
        if number is not None and len(text) > len("20240102"):  # datetime finds a day of 1712 in 1712051512000
            return moment(number)
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            mended = _LEAP.sub(r"\1:59", text)
            return moment(number) if mended == text else moment(mended)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        seconds = float(value)
        return datetime.fromtimestamp(seconds / (1000 if abs(seconds) > 1e11 else 1), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def formatted(value: str, how: str, timezone: str = "UTC") -> str:
    """A bookmark or date as the API wants it written. Raises ConfigError where it is not a time and `how` needs one."""
    if how == "text":
        return value
    time = time_of(value).astimezone(UTC)
    if how == "iso":
        return iso(time)
    if how in _EPOCHS:
        return str((time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=_EPOCHS[how]))
    return time.astimezone(zone(timezone)).strftime("%Y-%m-%d" if how == "date" else how)


def substitute(text: str, values: Mapping[str, str], escape: Callable[[str], str] = str) -> str:
    """The text with `{name}` and `{name|format}` replaced once, escaped. Raises KeyError for one without a value."""
    return SLOT.sub(lambda slot: escape(formatted(values[slot[1]], slot[2]) if slot[2] else values[slot[1]]), text)


def slots(text: str) -> list[tuple[str, str]]:
    """The names and formats that a text asks for."""
    return SLOT.findall(text)


def time_of(value: str) -> datetime:
    """A bookmark or date as a point in time. Raises ConfigError where it is none."""
    found = moment(value)
    if found is None:
        raise ConfigError(f"{value!r} is not a time", hint="for keys that are not times declare `format: text`")
    return found


def floored(time: datetime, step: timedelta, timezone: str) -> datetime:
    """The last whole step at or before a time, days counted in a zone."""
    local = time.astimezone(zone(timezone))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if step >= timedelta(days=1):
        return midnight.astimezone(UTC)
    return (midnight + (local - midnight) // step * step).astimezone(UTC)


def iso(time: datetime) -> str:
    """ISO 8601 text, with `Z` for UTC."""
    return time.isoformat().replace("+00:00", "Z")
