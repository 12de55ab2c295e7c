"""Which day a value belongs to: the rule that files a record under `2024-05-01`."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?\s*(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?)?")
_MAIL_DATE = re.compile(r"[A-Z][a-z]{2},? .*\b\d{4}\b.*")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def day_of(value: Any, zone: tzinfo = UTC) -> str | None:
    """The day (`YYYY-MM-DD`) in `zone` that a JSON value names, or None when it names none.

    Takes RFC 3339 and ISO 8601 texts (a text without an offset is already in `zone`, a leap second counts as the
    second before), dates as in mail and RSS (RFC 5322: `Wed, 02 Oct 2002 13:00:00 GMT`) and Unix times as numbers:
    seconds below 1e11, milliseconds below 1e14, microseconds above.
    """
    if isinstance(value, str):
        if zone is UTC and value[-1:] == "Z" and value[10:11] == "T":  # nearly always; the time of day does not matter
            return _existing(value[:10])
        return _day_of_text(value, zone)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _day_of_number(value, zone)
    return None


@lru_cache(maxsize=4096)
def _existing(text: str) -> str | None:
    try:
        date.fromisoformat(text)
    except ValueError:
        return None
    return text


@lru_cache(maxsize=4096)
def _day_of_text(text: str, zone: tzinfo) -> str | None:
    found = _TIME.fullmatch(text.strip())
    if not found:
        return _day_of_mail_date(text.strip(), zone)
    if not _existing(found[1]):
        return None
    day, hour, minute, second, offset = found.groups()
    if hour is None or offset is None:
        return str(day)
    try:
        moment = datetime.fromisoformat(f"{day}T{hour}:{minute}:{min(int(second or 0), 59):02}").replace(
            tzinfo=_offset(offset)
        )
        return moment.astimezone(zone).date().isoformat()
    except (ValueError, OverflowError):
        return None


def _day_of_mail_date(text: str, zone: tzinfo) -> str | None:
    if not _MAIL_DATE.fullmatch(text):
        return None
    try:
        moment = parsedate_to_datetime(text)
        return (moment.astimezone(zone) if moment.tzinfo else moment).date().isoformat()
    except (ValueError, OverflowError):
        return None


def _offset(text: str) -> tzinfo:
    if text in {"Z", "z", "UTC"}:
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(shift if text[0] == "+" else -shift)


def _day_of_number(number: float, zone: tzinfo) -> str | None:
    size = abs(number)
    seconds = number if size < 1e11 else number / 1e3 if size < 1e14 else number / 1e6
    try:
        return (_EPOCH + timedelta(seconds=seconds)).astimezone(zone).date().isoformat()
    except (ValueError, OverflowError):
        return None
