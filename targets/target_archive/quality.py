"""The revisions of a day and how good each looks: signals that are computed from the lines, and what chooses by them.

Which revision is right cannot be known in general, so none is preferred when it is written; a reader's policy chooses.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal

import msgspec

from target_archive import layout
from target_archive.commit import StreamFacts
from target_archive.day import day_of
from target_archive.dedupe import key_of
from target_archive.fields import field_reader
from target_archive.log import Claim, Held, Log
from target_archive.settings import zone
from target_archive.shape import below

Policy = Literal["latest", "latest_complete", "max_rows", "pinned"]
"""Which view of a day is shown: the latest; the latest that a complete read has proved and that is not suspect; the one
with most rows, of several the latest; or what is pinned, and nothing of other days."""
SETTLED = timedelta(days=7)
"""A day that has been over for longer should hardly shrink."""
SHRUNK = 0.2
"""The share of its rows that such a day may lose before that is suspect."""


class Revision(msgspec.Struct, frozen=True):
    """What one run has changed in a day, and how the view of the day compares with that of the last good revision.

    The one that is compared with is the latest before it that is not suspect; the first revision has none.

    Attributes:
        number: Counted from 1 for each day.
        commit, at, run: The run's last commit that changed the day, when that was made (RFC 3339 UTC), the run's id.
        added: How many lines the run added: new records and new versions.
        gone: How many lines it found to be gone.
        rows: How many records the view has.
        rows_delta: Difference of the rows.
        fields_lost: Paths of fields that every record had, and none has any longer.
        null_deltas: Differences of the share of nulls among a field's values, -1 to 1, by path, where it differs.
        total_deltas: Differences of the sum over a numeric field, by path, where it differs; keys are not summed.
        complete: Whether a read that was claimed complete has proved this view, at once or later.
        suspect: Why this revision should not be trusted unseen; empty for no reason.
        same_as: The earlier day whose snapshot this day's equals, so that it was not stored again; else "".
        repaired: It is what a repair has left; revisions before it are not known any longer.
        pinned: It is the one to be shown.
    """

    number: int
    commit: int
    at: str
    run: str
    added: int
    gone: int
    rows: int
    rows_delta: int = 0
    fields_lost: tuple[str, ...] = ()
    null_deltas: dict[str, float] = {}
    total_deltas: dict[str, float] = {}
    complete: bool = False
    suspect: tuple[str, ...] = ()
    same_as: str = ""
    repaired: bool = False
    pinned: bool = False


def revisions(
    log: Log, stream: str, day: str, lines: Sequence[bytes], run_of: Callable[[int], str], until: int
) -> list[Revision]:
    """The revisions of a day of which lines are held, oldest first, as known after commit `until`.

    `run_of` gives the run of a commit.
    """
    held, facts = log.day(stream, day), log.streams[stream]
    steps = list(_steps(held, run_of, until))
    view = _View(lines, facts.key_properties)
    found: list[Revision] = []
    good: _Profile | None = None
    for number, step in enumerate(steps, 1):
        view.take(step)
        now, at = view.profile, log.times[step.last - 1]
        following = steps[number].first if number < len(steps) else until + 1
        suspect = _suspicions(good, now, settled=_settled(day, facts, at)) if good else ()
        found.append(
            Revision(
                number=number,
                commit=step.last,
                at=at,
                run=step.run,
                added=step.end - step.begin,
                gone=len(step.gone),
                rows=now.rows,
                rows_delta=now.rows - good.rows if good else 0,
                fields_lost=tuple(_lost(good, now)) if good else (),
                null_deltas=_null_deltas(good, now) if good else {},
                total_deltas=_total_deltas(good, now, facts.key_properties) if good else {},
                complete=_is_proved(log, stream, day, step.last, following)
                or (bool(step.gone) and step.last != held.lost),
                suspect=suspect,
                repaired=step.last == held.lost,
                pinned=bool(held.pin) and step.first <= held.pin < following,
            )
        )
        if not suspect:
            good = now.copy()
    return found


def chosen(found: Sequence[Revision], policy: Policy) -> Revision | None:
    """The revision that a policy shows, None for none."""
    match policy:
        case "latest":
            return found[-1] if found else None
        case "latest_complete":
            return next((one for one in reversed(found) if one.complete and not one.suspect), None)
        case "max_rows":
            return max(reversed(found), key=lambda one: one.rows, default=None)
        case "pinned":
            return next((one for one in found if one.pinned), None)


# How a day grew -----------------------------------------------------------------------------------------------------


class _Step(msgspec.Struct):
    """What one run did: commits `first` to `last`, the lines numbered from `begin` + 1 to `end`, and what is gone."""

    run: str
    first: int
    last: int
    begin: int
    end: int
    gone: list[int]


def _steps(held: Held, run_of: Callable[[int], str], until: int) -> Iterator[_Step]:
    ends, gone = dict(held.grown), defaultdict[int, list[int]](list)
    for seq, numbers in held.gone:
        gone[seq] += numbers
    end = 0
    for run, commits in groupby(sorted(seq for seq in ends.keys() | gone.keys() if seq <= until), run_of):
        seqs, begin = list(commits), end
        end = max([end, *(ends[seq] for seq in seqs if seq in ends)])
        yield _Step(run, seqs[0], seqs[-1], begin, end, [number for seq in seqs for number in gone[seq]])


class _View:
    """The view of a day, brought forward step by step, and what its records look like."""

    def __init__(self, lines: Sequence[bytes], keys: Sequence[str]) -> None:
        self._lines, self._read = lines, field_reader(keys) if keys else None
        self._latest: dict[Hashable, int] = {}
        self.profile = _Profile()

    def take(self, step: _Step) -> None:
        for number in range(step.begin + 1, step.end + 1):
            key = self._key(number)
            if key in self._latest:
                self.profile.count(self._lines[self._latest[key] - 1], -1)
            self._latest[key] = number
            self.profile.count(self._lines[number - 1], 1)
        for number in step.gone:
            key = self._key(number)
            if self._latest.get(key) == number:
                del self._latest[key]
                self.profile.count(self._lines[number - 1], -1)

    def _key(self, number: int) -> Hashable:
        return key_of(self._read, self._lines[number - 1]) if self._read else number


# Signals ------------------------------------------------------------------------------------------------------------

_below = lru_cache(1 << 16)(below)
_exact = Context(prec=700, traps=[])  # the sum of any two doubles has fewer digits
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


class _Profile:
    """Of a view's records: how many there are, how many have each field, have null in it, and the sum of its numbers.

    The fields of objects within objects count too; arrays are values.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.present: Counter[str] = Counter()
        self.nulls: Counter[str] = Counter()
        self.totals: dict[str, Decimal] = {}

    def copy(self) -> _Profile:
        twin = _Profile()
        twin.rows, twin.present, twin.nulls, twin.totals = self.rows, +self.present, +self.nulls, {**self.totals}
        return twin

    def count(self, line: bytes, sign: int) -> None:
        self.rows += sign
        try:
            record = _decode(line)
            self._count(record, "", sign)
        except (msgspec.DecodeError, RecursionError):
            return  # it is kept all the same, but has no fields that could be told

    def _count(self, value: Any, path: str, sign: int) -> None:
        self.present[path] += sign
        if value is None:
            self.nulls[path] += sign
        elif isinstance(value, dict):
            for key, one in value.items():
                self._count(one, _below(path, key), sign)
        elif isinstance(value, (int, Decimal)) and not isinstance(value, bool):
            number = _exact.multiply(Decimal(value), sign)
            self.totals[path] = _exact.add(self.totals.get(path, Decimal()), number)


def _lost(before: _Profile, now: _Profile) -> Iterator[str]:
    for path, count in before.present.items():
        if now.rows and path and count == before.rows and not now.present[path]:
            yield path


def _null_deltas(before: _Profile, now: _Profile) -> dict[str, float]:
    paths = [path for path in now.present if now.present[path] and before.present[path]]
    deltas = {
        path: round(now.nulls[path] / now.present[path] - before.nulls[path] / before.present[path], 6)
        for path in paths
        if now.nulls[path] or before.nulls[path]
    }
    return {path: delta for path, delta in deltas.items() if delta}


def _total_deltas(before: _Profile, now: _Profile, keys: Sequence[str]) -> dict[str, float]:
    none = Decimal()
    deltas = {
        path: float(_exact.subtract(now.totals.get(path, none), before.totals.get(path, none)))
        for path in {**before.totals, **now.totals}
        if path not in keys
    }
    return {path: delta for path, delta in deltas.items() if delta}


def _suspicions(good: _Profile, now: _Profile, *, settled: bool) -> tuple[str, ...]:
    shrunk = settled and now.rows < (1 - SHRUNK) * good.rows
    lost = ", ".join(_lost(good, now))
    return (
        *([f"{now.rows:,} of {good.rows:,} rows are left of a day that was settled"] if shrunk else []),
        *([f"no record has {lost} any longer"] if lost else []),
    )


def _settled(day: str, facts: StreamFacts, at: str) -> bool:
    if day == layout.UNDATED:
        return False
    where = UTC if facts.timezone == "UTC" else zone(facts.timezone)
    over = datetime.fromisoformat(day).replace(tzinfo=where) + timedelta(days=1)
    return datetime.fromisoformat(at) - over > SETTLED


# Completeness -------------------------------------------------------------------------------------------------------


def _is_proved(log: Log, stream: str, day: str, first: int, until: int) -> bool:
    """Whether a run that ended in a commit from `first` on, before `until`, has claimed to have read all of a day."""
    facts, claims = log.streams[stream], log.claims.get(stream, [])
    begin = bisect_left(claims, first, key=lambda claim: claim.seq)
    own = claims[begin : bisect_left(claims, until, key=lambda claim: claim.seq)]
    # a read by another field than the day's is of all days at once, and goes on where one of everything has ended
    by_day = facts.bookmark_properties == (facts.day_field,)
    whole = any(claim.status == "complete" and claim.start is None for claim in claims[:begin])
    for seq, group in groupby(own, key=lambda claim: claim.seq):
        about = [one for one in group if _touches(one, facts, day, by_day=by_day, at=log.times[seq - 1])]
        whole = whole or any(one.status == "complete" and one.start is None for one in about)
        if about and all(one.status == "complete" and (by_day or whole) for one in about):
            return True
    return False


def _touches(claim: Claim, facts: StreamFacts, day: str, *, by_day: bool, at: str) -> bool:
    where = UTC if facts.timezone == "UTC" else zone(facts.timezone)
    end = day_of(claim.end, where)
    if end is None:
        return claim.status != "complete"  # how far it came is not known
    if not facts.day_field:  # filed by a day between the beginning of the read, which is where it ends, and its commit
        return end <= day <= (day_of(at, where) or end)
    begins = claim.start is None or not by_day or (day_of(claim.start, where) or day) <= day
    return begins and day < end
