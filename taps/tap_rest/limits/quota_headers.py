"""What headers say about time and quota: each family of them turned into the same readings.

Pure functions of the headers and the time; limits.py decides what a reading means for the next request. Nothing that a
server says is taken further than LONGEST_WAIT, and what cannot be read says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple

import msgspec

from tap_rest.language.replication import moment

Headers = Mapping[str, str]
Family = Literal["auto", "x-ratelimit", "ratelimit", "zendesk", "strava", "meta", "none"]
"""A kind of headers; `auto` is all of FAMILIES."""

LONGEST_WAIT = 30 * 86400.0
"""Seconds; a longer wait asked for is cut to this: it is beyond any `max_wait`, so the run is postponed."""

_NUMBER = re.compile(r"\s*[-+]?\d{1,18}(\.\d*)?\s*", re.ASCII)
_META_USAGE = ("x-app-usage", "x-ad-account-usage", "x-business-use-case-usage")
_META_PERCENT = ("call_count", "total_cputime", "total_time", "acc_id_util_pct")
_META_LOOK = 300.0
"""Seconds after which Meta's usage, which falls steadily within the hour, is looked at again."""
_STRAVA_WINDOWS = (900.0, 86400.0)


class Reading(NamedTuple):
    """One statement of a server: what is left of a quota, seconds until it is whole again, and the quota if known."""

    left: float
    reset: float
    limit: float | None = None


def readings(headers: Headers, family: Family, *, now: float) -> list[Reading]:
    """What the headers of a family say, or of all families with `auto`.

    Args:
        headers: Names in lower case.
        family: A key of FAMILIES, `auto` or `none`.
        now: Wall clock, seconds since the epoch; the server's own `Date` goes before it.
    """
    if family == "none" or not any("rate" in name or "usage" in name for name in headers):
        return []
    now = http_date(headers.get("date", "")) or now
    wanted = FAMILIES.values() if family == "auto" else [FAMILIES[family]]
    return [found for read in wanted for found in read(headers, now)]


def retry_after(headers: Headers, *, now: float) -> float | None:
    """Seconds that `Retry-After` asks to wait, from 0 to LONGEST_WAIT; None for a missing or unreadable one.

    Both forms are read, seconds (with decimals) and HTTP dates; a date counts from the server's own `Date`, so that a
    wrong clock on either side does no harm. A date in the past is 0: ask again now. A negative number is no statement.
    """
    return _asked(headers, "retry-after", now)


def backoff(headers: Headers, *, now: float) -> float | None:
    """Seconds that a `Backoff` header asks all requests to pause, which may come with a success."""
    return max((s for name in ("backoff", "x-backoff") if (s := _asked(headers, name, now)) is not None), default=None)


def seconds_until(text: str, *, now: float, unit: float = 1.0) -> float | None:
    """Seconds, from 0 to LONGEST_WAIT, until a time given as seconds, as epoch in s or ms, as ISO 8601 or HTTP date.

    A number that is too small for an epoch counts `unit` seconds each.
    """
    if (number := _number(text)) is not None:
        number /= 1000.0 if number > 1e11 else 1.0
        return bounded(number - now if number > 1e9 else number * unit)
    time = moment(text)
    until = http_date(text) if time is None else time.timestamp()
    return None if until is None else bounded(until - now)


def http_date(text: str) -> float | None:
    """Seconds since the epoch of an HTTP date in any of its three forms; None for anything else."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _x_ratelimit(headers: Headers, now: float) -> Iterator[Reading]:
    """`X-RateLimit-Remaining` and `-Reset` (GitHub, Reddit, Jira) or `x-rate-limit-…` (X)."""
    for prefix in ("x-ratelimit-", "x-rate-limit-"):
        yield from _trio(headers, prefix, now)


def _ratelimit(headers: Headers, now: float) -> Iterator[Reading]:
    """The IETF drafts: three headers; an item `limit=, remaining=, reset=`; a list `"name";r=;t=` with its policies."""
    yield from _trio(headers, "ratelimit-", now)
    policies: dict[str, tuple[float | None, float | None]] = {}
    for item in headers.get("ratelimit-policy", "").split(","):
        named = _params(item)
        first = re.match(r"\s*(\d{1,15})\s*(;|$)", item, re.ASCII)  # the older drafts begin with the quota itself
        policies[_item_name(item)] = (first and float(first[1])) or named.get("q"), named.get("w")
    longest = max((window for _, window in policies.values() if window is not None), default=1.0)
    text = headers.get("ratelimit", "")
    for item in [text] if "remaining" in text else text.split(","):
        found = _params(item)
        quota, window = policies.get(_item_name(item), (None, None))
        left, reset = found.get("r", found.get("remaining")), found.get("t", found.get("reset", window or longest))
        if left is not None:
            yield Reading(left, bounded(reset), found.get("limit", quota))


def _zendesk(headers: Headers, _: float) -> Iterator[Reading]:
    """`Zendesk-RateLimit-…: total=100; remaining=0; resets=41`, and `X-Rate-Limit-Remaining` of a minute."""
    for name, text in headers.items():
        found = _params(text) if name.startswith("zendesk-ratelimit-") else {}
        if "remaining" in found:
            yield Reading(found["remaining"], bounded(found.get("resets", 60.0)), found.get("total"))
    left = _number(headers.get("x-rate-limit-remaining"))
    if left is not None and "x-rate-limit-reset" not in headers:
        yield Reading(left, 60.0, _number(headers.get("x-rate-limit")))


def _strava(headers: Headers, now: float) -> Iterator[Reading]:
    """`X-RateLimit-Limit: 200,2000` and `-Usage: 200,1200`: a quarter of an hour and a day, by the clock in UTC."""
    for prefix in ("x-ratelimit-", "x-readratelimit-"):
        limits = [_number(part) for part in headers.get(f"{prefix}limit", "").split(",")]
        used = [_number(part) for part in headers.get(f"{prefix}usage", "").split(",")]
        if len(limits) == len(used) == len(_STRAVA_WINDOWS):
            for limit, usage, window in zip(limits, used, _STRAVA_WINDOWS, strict=True):
                if limit is not None and usage is not None:
                    yield Reading(limit - usage, window - now % window, limit)


def _meta(headers: Headers, _: float) -> Iterator[Reading]:
    """Meta's JSON of percentages used, alone or in lists by account, with the minutes until access is regained."""
    for name in _META_USAGE:
        try:
            found = msgspec.json.decode(headers.get(name, "null"))
        except (msgspec.MsgspecError, RecursionError):
            continue
        lists = [part for part in found.values() if isinstance(part, list)] if isinstance(found, dict) else []
        for usage in [found, *(each for part in lists for each in part)]:
            if isinstance(usage, dict) and (
                percents := [v for key in _META_PERCENT if (v := _amount(usage, key)) >= 0]
            ):
                wait = _amount(usage, "estimated_time_to_regain_access") * 60
                left = 0.0 if wait > 0 else 100.0 - max(percents)
                reset = wait if wait > 0 else _amount(usage, "reset_time_duration")
                yield Reading(left, bounded(reset if reset > 0 else _META_LOOK), 100.0)


FAMILIES: dict[Family, Callable[[Headers, float], Iterator[Reading]]] = {
    "x-ratelimit": _x_ratelimit,
    "ratelimit": _ratelimit,
    "zendesk": _zendesk,
    "strava": _strava,
    "meta": _meta,
}


def _trio(headers: Headers, prefix: str, now: float) -> Iterator[Reading]:
    left = _number(headers.get(f"{prefix}remaining"))
    reset = seconds_until(headers.get(f"{prefix}reset", ""), now=now)
    if left is not None and reset is not None:
        yield Reading(left, reset, _number(headers.get(f"{prefix}limit", "").partition(",")[0]))


def _asked(headers: Headers, name: str, now: float) -> float | None:
    text = headers.get(name, "").strip()
    number = _number(text)
    if number is not None:
        return None if text.startswith("-") else bounded(number)
    until = http_date(text)
    return None if until is None else bounded(until - (http_date(headers.get("date", "")) or now))


def _params(item: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in re.findall(r"(?<![\w-])([a-z]{1,20})\s*=\s*(\d{1,15})(?!\d)", item, re.ASCII)
    }


def _item_name(item: str) -> str:
    found = re.match(r'\s*"([^"]*)"', item)
    return found[1] if found else ""


def _amount(usage: Mapping[str, Any], key: str) -> float:
    """A number of a JSON object, -1 where there is none."""
    value = usage.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return -1.0
    return float(max(-1.0, min(value, 1e300)))  # an integer may be larger than any float


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None
