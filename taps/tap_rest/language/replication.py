"""Incremental replication: the value a stream is read from, how it is written into a request, and how values compare.

A bookmark is kept as the text that the API sent; only when it has to be compared, moved back or written in another
format is it read as a point in time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from tap_rest.component import Component
from tap_rest.errors import ConfigError

Duration = Annotated[str, msgspec.Meta(pattern=r"^\d{1,6}(s|min|h|d|w)$", examples=["90s", "30min", "1h", "2d"])]
Format = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(iso|date|epoch_s|epoch_ms|text|.*%[a-zA-Z].*)$",
        examples=["iso", "date", "epoch_s", "epoch_ms", "text", "%Y/%m/%d"],
    ),
]

_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_NUMBER = re.compile(r"-?\d{1,18}(\.\d+)?", re.ASCII)
_FRACTION = re.compile(r"(\.\d{6})\d+")
_LEAP = re.compile(r"(:\d\d):60")
SLOT = re.compile(r"\{([A-Za-z_][\w.]*)(?:\|([^{}]*))?\}")


class Replication(Component, frozen=True, kw_only=True):
    """How a stream is read incrementally.

    Attributes:
        key: The replication key, a field of the record.
        order: `ascending`: the bookmark may follow the pages; `descending`: read until the bookmark, commit at the end;
            `none`: no order is claimed, the bookmark moves when the unit is complete.
        inclusive: Whether the API returns records equal to the value asked for.
        lookback: Read this much again in each run, for records that arrive late: `1h`, `30min`, `2d`.
        param: Query parameter that takes the start value; left out while there is none.
        until_param: Query parameter that takes the end value, exclusive.
        format: How values are written: `iso`, `date`, `epoch_s`, `epoch_ms`, `text` (as recorded, not a time: an id),
            or a strftime pattern.
    """

    key: str
    order: Literal["ascending", "descending", "none"] = "none"
    inclusive: bool = True
    lookback: Duration = "0s"
    param: str | None = None
    until_param: str | None = None
    format: Format = "iso"

    def __post_init__(self) -> None:
        if self.format == "text" and not self.lookback.startswith("0"):
            raise ValueError("a lookback needs a time: with `format: text` it cannot be taken off")

    def rank(self, value: Any) -> Any:
        """What a key value is compared by; None where it has no place in the order (null, or not a time).

        A point in time, or for `text` a pair that puts whole numbers, as numbers, before other text.
        """
        if self.format != "text":
            return moment(value)
        if isinstance(value, str):
            return (0, int(value)) if value.isascii() and value.isdigit() and len(value) < 40 else (1, value)
        return (0, value) if isinstance(value, int) and not isinstance(value, bool) else None

    def start(self, bookmark: str) -> str:
        """The value to read from: the bookmark less the lookback. Raises ConfigError where it is not a time."""
        back = timedelta(**{_UNITS[self.lookback.lstrip("0123456789")]: int(re.sub(r"\D", "", self.lookback))})
        if not back:
            return bookmark
        return _iso(_time(bookmark) - back)


def moment(value: Any) -> datetime | None:
    """A point in time, aware, from ISO text or an epoch number (seconds, or milliseconds by its size); None for others.

    Text without a zone is taken as UTC. A leap second counts as the second before it; digits below microseconds are
    cut.
    """
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            if _NUMBER.fullmatch(value):
                return moment(Decimal(value))
            return _odd_moment(value)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    try:
        seconds = float(value)
        return datetime.fromtimestamp(seconds / (1000 if abs(seconds) > 1e11 else 1), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _odd_moment(text: str) -> datetime | None:
    mended = _FRACTION.sub(r"\1", _LEAP.sub(r"\1:59", text.strip()))
    return moment(mended) if mended != text and len(mended) <= len(text) else None


def formatted(value: str, how: str) -> str:
    """A bookmark or date as the API wants it written. Raises ConfigError where it is not a time and `how` needs one."""
    if how == "text":
        return value
    time = _time(value).astimezone(UTC)
    if how == "iso":
        return _iso(time)
    if how == "date":
        return time.date().isoformat()
    if how == "epoch_s":
        return str(int(time.timestamp() // 1))
    if how == "epoch_ms":
        return str((time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))
    return time.strftime(how)


def substitute(text: str, values: Mapping[str, str], escape: Callable[[str], str] = str) -> str:
    """The text with `{name}` and `{name|format}` replaced once, escaped. Raises KeyError for one without a value."""
    return SLOT.sub(lambda slot: escape(formatted(values[slot[1]], slot[2]) if slot[2] else values[slot[1]]), text)


def slots(text: str) -> list[tuple[str, str]]:
    """The names and formats that a text asks for."""
    return SLOT.findall(text)


def _time(value: str) -> datetime:
    found = moment(value)
    if found is None:
        raise ConfigError(f"{value!r} is not a time", hint="for keys that are not times declare `format: text`")
    return found


def _iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
