"""Which days of a stream are proved complete, which are not and why, and where the evidence stands.

A day is `present` or `empty` only where taps have claimed to have read everything that covers it. So our own outages
show as gaps, and an API that had nothing to say does not. All of it is a query over the `Log`: it is the same in
whatever order claims were made and wherever a read was cut, and what is proved stays proved.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cached_property, lru_cache
from itertools import groupby
from operator import and_, attrgetter
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from target_archive import layout
from target_archive.commit import Commit
from target_archive.day import day_of
from target_archive.log import Claim, Log
from target_archive.settings import zone

Status = Literal[
    "present", "empty", "empty_suspect", "partial", "failed", "unavailable", "unknown", "out_of_scope", "open"
]
PROVED: tuple[Status, ...] = ("present", "empty")
GAPS: tuple[Status, ...] = ("empty_suspect", "partial", "failed", "unavailable", "unknown")

WEEKS = 8
UNLIKELY = 0.001
"""An empty day is suspect if one is less likely than that at the rate of the same weekday in the WEEKS before.

But not where rows come in bursts: most of these days, as far as they were read, must have had some.
"""
CONFIRMED = 3
APART = timedelta(hours=1)
"""So many complete reads, committed at least so far apart, confirm an empty day."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_END = datetime(9999, 1, 1, tzinfo=UTC)
_TRAIL = 7 * WEEKS


class Stretch(msgspec.Struct, frozen=True):
    """Consecutive days with the same status for the same reason.

    Attributes:
        stream: Its name.
        first: `YYYY-MM-DD`.
        last: The last day, included.
        days: How many.
        status: `present`: lines, and complete reads cover the day. `empty`: no lines, proved by complete reads.
            `empty_suspect`: the same, where lines were to be expected. `partial`: lines, but not proved to be all.
            `failed`: no lines, and the last read that was to bring them went wrong. `unavailable`: no lines, and the
            API does not give them. `unknown`: no lines, and nobody has looked since the day was over. `out_of_scope`:
            no lines, and older than what any run has asked for. `open`: the day is not over.
        cause: Why a day could not be read: `transient`, `auth`, `data` (an answer that could not be understood) or
            `refused`; `forbidden`, `gone`, `retention` (older than what the API keeps) or `skipped` (the declaration
            leaves it out); `lost` where a repair found that lines are missing; else empty.
        reason: For people.
        commit: The last commit whose claims say so, 0 for none; see `evidence`.
    """

    stream: str
    first: str
    last: str
    days: int
    status: Status
    cause: str
    reason: str
    commit: int


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that was given up, as a claim names it; nothing secret is in its URL."""

    method: str = ""
    url: str = ""
    reason: str = ""
    status: int | None = None
    partition: dict[str, Any] = {}
    start: str | None = None
    until: str | None = None


class Evidence(msgspec.Struct, frozen=True):
    """What a commit holds of a stretch: its run, when it was made, and the requests that were given up."""

    run: str
    at: str
    requests: list[Request]


class Coverage:
    """The statuses of the days of one source.

    Args:
        log: What is known.
        today: The day that is not over; without it, the one that it is now in each stream's time zone.
    """

    def __init__(self, log: Log, today: date | None = None) -> None:
        self._log, self._today = log, today
        self._known: dict[str, _Days] = {}

    def stretches(self, stream: str, wanted: Collection[Status] = get_args(Status)) -> list[Stretch]:
        """The days of the wanted statuses, of all from the first that is held, covered or asked for to today, in order.

        Of later days only those that are held. A stream without a day field is filed by the day of reading, so days on
        which nobody has read it are `unknown`; of one of mode `event` (the log of requests) there are no days but those
        with lines.
        """
        one, found = self._days(stream), []
        days = ((day, one.fact(day, status)) for day, status in self._statuses(stream).items() if status in wanted)
        for (fact, _), group in groupby(
            enumerate(days), lambda numbered: (numbered[1][1], numbered[1][0] - numbered[0])
        ):
            held = [day for _, (day, _) in group]
            found.append(Stretch(stream, _name(held[0]), _name(held[-1]), len(held), *fact))
        return found

    def statuses(self, stream: str) -> dict[str, Status]:
        """The status of each of these days."""
        return {_name(day): status for day, status in self._statuses(stream).items()}

    def gaps(self, stream: str) -> list[Stretch]:
        """The stretches that are not known to be whole."""
        return self.stretches(stream, GAPS)

    def _days(self, stream: str) -> _Days:
        if stream not in self._known:
            self._known[stream] = _Days(self._log, stream, self._today)
        return self._known[stream]

    def _statuses(self, stream: str) -> dict[int, Status]:
        one = self._days(stream)
        if not one.judged:
            one.judged = True
            for day in [day for day, status in one.statuses.items() if status == "empty" and one.is_usual(day)]:
                if (one.likelihood(day) < UNLIKELY or self._is_all_empty(stream, day)) and one.reads_of(
                    day
                ) < CONFIRMED:
                    one.statuses[day] = "empty_suspect"
        return one.statuses

    def _is_all_empty(self, stream: str, day: int) -> bool:
        """Whether all other streams that usually have rows, one at least, were read and had none either."""
        others = (self._days(name) for name in self._log.claims if name != stream and name in self._log.streams)
        empty = 0
        for other in others:
            if other.is_read(day) and other.is_usual(day):
                if day in other.rows:
                    return False
                empty += 1
        return empty > 0


def unbroken(statuses: Mapping[str, Status]) -> tuple[str, str] | None:
    """First and last of the latest days that are proved without a hole: the first is where a backfill has come to."""
    stretches = [list(days) for proved, days in groupby(statuses, lambda day: statuses[day] in PROVED) if proved]
    return (stretches[-1][0], stretches[-1][-1]) if stretches else None


def evidence(commit: Commit, stretch: Stretch) -> Evidence:
    """What the commit that a stretch names holds of it."""
    try:
        claims = msgspec.json.decode(commit.state, type=_State | None) or _State()
    except msgspec.DecodeError:  # another tap's, of another shape
        claims = _State()
    failed = (claim for claim in claims.claims.get(stretch.stream, ()) if claim.status != "complete")
    requests = [request for claim in failed for request in claim.evidence.given_up if _is_about(request, stretch)]
    return Evidence(commit.run, commit.at, requests)


def _is_about(request: Request, stretch: Stretch) -> bool:
    start, until = day_of(request.start), day_of(request.until)
    return (start is None or start <= stretch.last) and (until is None or until >= stretch.first)


class _Fact(NamedTuple):
    status: Status
    cause: str = ""
    reason: str = ""
    commit: int = 0


_REASONS: dict[Status, str] = {
    "empty": "read completely, without a record",
    "empty_suspect": "read completely, without a record, where some are usual",
    "unknown": "no run has covered these days",
    "out_of_scope": "older than what any run has asked for",
    "open": "the day is not over",
}
_UNPROVED = "records are held, but no run has proved the days complete"
_LOST = "lines were lost, and no run has read the days completely since"


class _Read(NamedTuple):
    """What a run has read or tried to: from one time until another, in UTC."""

    commit: int
    begin: datetime
    end: datetime


class _Days:
    """What is known of the days of one stream; days are ordinals.

    Attributes:
        rows: How many lines are held, by day.
        statuses: Of each day, in order.
        judged: Whether the empty ones have been looked at with suspicion.
    """

    def __init__(self, log: Log, stream: str, today: date | None) -> None:
        self._facts, self._times = log.streams[stream], log.times
        self._zone: tzinfo = UTC if self._facts.timezone == "UTC" else zone(self._facts.timezone)
        self._where = self._zone if self._facts.day_field else UTC
        self._today = (today or datetime.now(self._zone).date()).toordinal()
        self._held = {_ordinal(day): one for day, one in log.held.get(stream, {}).items() if day != layout.UNDATED}
        self.rows = {day: one.grown[-1][1] for day, one in self._held.items() if one.grown and one.grown[-1][1]}
        for name, (_, earlier) in log.same.get(stream, {}).items():
            self.rows[_ordinal(name)] = log.lines_of(stream, earlier)
        self._complete: dict[str, list[_Read]] = {}
        self._failed: list[tuple[_Read, _Fact]] = []
        claims = log.claims.get(stream, [])
        reads = [(claim, read) for claim in claims if (read := self._read(claim)) is not None]
        for claim, read in reads:
            if claim.status == "complete":
                self._complete.setdefault("" if claim.partition is None else repr(claim.partition), []).append(read)
            elif claim.reason != "limit":  # a look at the first few records
                self._failed.append((read, _failure(claim)))
        self._failed.sort(key=lambda one: (one[0].commit, one[1]))
        asked = _merged(sorted((read for _, read in reads), key=attrgetter("begin")))[:1]
        begins = [self._day(one.end) - 1 if one.begin == _BEGINNING else self._day(one.begin) for one in asked]
        since = asked[0].begin if asked and len(reads) == len(claims) and self._facts.day_field else _BEGINNING
        lost = {day: one.lost for day, one in self._held.items() if one.lost}
        starts = [*self.rows, *lost, *begins]
        self._low = min(starts, default=self._today + 1)
        self._size = max(self._today - self._low, 0)
        proved = self._proofs(after=0)
        for day, commit in lost.items():
            if day < self._today and not self._proofs(after=commit)[day - self._low]:
                proved[day - self._low] = 0
        self._trail = [0] * (_TRAIL + self._size)
        self._seen = bytearray(_TRAIL) + proved
        for day, lines in self.rows.items():
            if day < self._today:
                place = day - self._low + _TRAIL
                self._trail[place], self._seen[place] = lines, 1
        self.judged = False
        self.statuses = self._told(proved, lost, 0 if since == _BEGINNING else begins[0])

    def _told(self, proved: bytearray, lost: Collection[int], floor: int) -> dict[int, Status]:
        """The status of each day, suspicions apart."""
        if not self._facts.day_field and self._facts.mode == "event":
            return {day: "present" if day < self._today else "open" for day in sorted(self.rows)}
        earlier = min(max(floor - self._low, 0), self._size)
        without: list[Status] = ["out_of_scope"] * earlier
        without += ["unknown"] * (self._size - earlier)
        for read, fact in self._failed:
            begins, ends = self._places(*self._touched(read))
            without[begins:ends] = [fact.status] * (ends - begins)
        for day in lost:
            if day < self._today:
                without[day - self._low] = "partial"
        told: Iterable[Status] = (
            ("present" if proof else "partial") if lines else "empty" if proof else status
            for proof, lines, status in zip(proved, self._trail[_TRAIL:], without, strict=True)
        )
        found = dict(enumerate(told, self._low))
        if self._low <= self._today:
            found[self._today] = "open"
        return found | dict.fromkeys(sorted(day for day in self.rows if day > self._today), "open")

    def fact(self, day: int, status: Status) -> _Fact:
        """Why a day has its status."""
        place = day - self._low
        if status == "partial" and (lost := self._held[day].lost if day in self._held else 0):
            return _Fact(status, "lost", _LOST, lost)
        if status in ("partial", "failed", "unavailable"):
            number = self._last_failed[place]
            if number is None:
                return _Fact(status, "", _UNPROVED, 0)
            _, cause, reason, commit = self._failed[number][1]
            return _Fact(status, cause, f"{_UNPROVED}: {reason}" if status == "partial" else reason, commit)
        if status not in ("present", "empty", "empty_suspect") or not self._size > place >= 0:
            return _Fact(status, "", _REASONS[status], 0)
        number, reason = self._last_read[place], _REASONS.get(status, "")
        first = self._first_read[place]
        if status == "present" and first is not None and day in self._held:
            earlier = self._by_run[-1 - first].commit
            if earlier < self._held[day].grown[0][0]:
                reason = f"commit {earlier} had found the day empty"
        return _Fact(status, "", reason, 0 if number is None else self._by_run[number].commit)

    @cached_property
    def _by_run(self) -> list[_Read]:
        """What runs have read completely, oldest first, the pieces of each put together."""
        reads = sorted(read for ones in self._complete.values() for read in ones)
        return [one for _, ones in groupby(reads, attrgetter("commit")) for one in _merged(ones)]

    @cached_property
    def _runs(self) -> dict[str, list[tuple[int, int, int]]]:
        """The days that lie whole in what runs have read completely, with their commits, by partition."""
        pieces = {
            partition: (one for _, of in groupby(sorted(ones), attrgetter("commit")) for one in _merged(of))
            for partition, ones in self._complete.items()
        }
        return {partition: [(one.commit, *self._whole(one)) for one in ones] for partition, ones in pieces.items()}

    @cached_property
    def _last_read(self) -> list[int | None]:
        return self._painted((self._touched(read)[0], self._whole(read)[1]) for read in self._by_run)

    @cached_property
    def _first_read(self) -> list[int | None]:
        return self._painted(map(self._whole, reversed(self._by_run)))

    @cached_property
    def _last_failed(self) -> list[int | None]:
        return self._painted(self._touched(read) for read, _ in self._failed)

    def _before(self, day: int) -> tuple[int, int, int]:
        """Of the same weekday in the weeks before: lines, days that had some, and days that were read."""
        place = day - self._low
        lines = self._trail[place : place + _TRAIL : 7]
        return sum(lines), WEEKS - lines.count(0), self._seen[place : place + _TRAIL : 7].count(1)

    def is_usual(self, day: int) -> bool:
        """Whether the stream mostly has lines on such a day, and has had them more than once."""
        _, some, read = self._before(day)
        return some > 1 and 2 * some > read

    def likelihood(self, day: int) -> float:
        """Of the day being empty, if it is a usual one."""
        lines, _, read = self._before(day)
        return math.exp(-lines / read)

    def is_read(self, day: int) -> bool:
        """Whether lines are held of a day that is over, or it was read completely."""
        return 0 <= day - self._low < self._size and bool(self._seen[day - self._low + _TRAIL])

    def reads_of(self, day: int) -> int:
        """How many runs, one well after the other, have read a day completely."""
        found = []
        for ones in self._runs.values():
            count, last = 0, _BEGINNING
            for commit in sorted({commit for commit, first, until in ones if first <= day < until}):
                at = datetime.fromisoformat(self._times[commit - 1])
                if count == 0 or at - last >= APART:
                    count, last = count + 1, at
            found.append(count)
        return min(found, default=0)

    # Claims ---------------------------------------------------------------------------------------------------------

    def _read(self, claim: Claim) -> _Read | None:
        """What a claim speaks of; None where it cannot be told."""
        end = _instant(claim.end, self._zone)
        if end is None:
            return None
        if self._facts.day_field:
            begin = _BEGINNING if claim.start is None else _instant(claim.start, self._zone)
            return None if begin is None else _Read(claim.seq, begin, end)
        # filed by the day on which the tap came to the stream, between the read's beginning and its last commit
        last = _instant(self._times[claim.seq - 1], UTC) or end
        days = range(_local(end, self._zone).toordinal(), _local(last, self._zone).toordinal() + 1)
        day = next((day for day in days if day in self.rows), _local(end, self._zone).toordinal())
        begin = datetime.combine(date.fromordinal(day), time.min, UTC)
        return _Read(claim.seq, begin, begin + timedelta(days=1))

    def _day(self, moment: datetime) -> int:
        return _local(moment, self._where).toordinal()

    def _touched(self, read: _Read) -> tuple[int, int]:
        """The days from the one in which a read begins to that in which it ends, exclusive."""
        end = _local(read.end, self._where)
        return 0 if read.begin == _BEGINNING else self._day(read.begin), end.toordinal() + (end.time() != time.min)

    def _whole(self, read: _Read) -> tuple[int, int]:
        """The days that lie whole in a read, the last exclusive."""
        if read.begin == _BEGINNING:
            return 0, self._day(read.end)
        begin = _local(read.begin, self._where)
        return begin.toordinal() + (begin.time() != time.min), self._day(read.end)

    def _proofs(self, *, after: int) -> bytearray:
        """Which days the reads after a commit cover for every partition, from the lowest on.

        A read by another field than the day's says something about days only where it began at the beginning.
        """
        by_day = not self._facts.day_field or self._facts.bookmark_properties == (self._facts.day_field,)
        proved: bytearray | None = None
        for ones in self._complete.values():
            covered = bytearray(self._size)
            for read in _merged(sorted((one for one in ones if one.commit > after), key=attrgetter("begin"))):
                if by_day or read.begin == _BEGINNING:
                    first, until = self._places(*self._whole(read))
                    covered[first:until] = b"\1" * (until - first)
            proved = covered if proved is None else bytearray(map(and_, proved, covered))
        return bytearray(self._size) if proved is None else proved

    def _painted(self, stretches: Iterable[tuple[int, int]]) -> list[int | None]:
        """For each day the number of the last of these stretches of days that holds it. Each day is visited once."""
        found: list[int | None] = [None] * self._size
        following = list(range(self._size + 1))  # the next day that has none yet, or one on the way to it
        for number, (first, until) in reversed(list(enumerate(stretches))):
            place, end = self._places(first, until)
            while place < end:
                if (step := following[place]) == place:
                    found[place], following[place] = number, place + 1
                    place += 1
                else:
                    following[place], place = following[step], step
        return found

    def _places(self, first: int, until: int) -> tuple[int, int]:
        start = min(max(first - self._low, 0), self._size)
        return start, max(min(until - self._low, self._size), start)


def _merged(reads: Iterable[_Read]) -> list[_Read]:
    """Reads in the order in which they begin, put together where one begins before those before it have ended."""
    merged: list[_Read] = []
    commit, begin, end = 0, None, _BEGINNING
    for read in reads:
        if begin is not None and read.begin <= end:
            end = max(end, read.end)
        else:
            if begin is not None:
                merged.append(_Read(commit, begin, end))
            commit, begin, end = read
    return merged if begin is None else [*merged, _Read(commit, begin, end)]


_UNAVAILABLE = {401: "forbidden", 403: "forbidden", 451: "forbidden", 404: "gone", 410: "gone"}


def _failure(claim: Claim) -> _Fact:
    """What a claim that is not complete says of the days without lines."""
    status: Status = "failed"
    http = claim.http
    if claim.status == "skipped":
        status, cause = "unavailable", "retention" if claim.reason == "retention" else _UNAVAILABLE.get(http, "skipped")
    elif http in {404, 410}:
        status, cause = "unavailable", "gone"
    elif http in {401, 403}:
        cause = "auth"
    elif http == 0 or http >= 500 or http in {408, 425, 429}:
        cause = "transient"
    else:
        cause = "refused" if http >= 400 else "data"
    return _Fact(status, cause, claim.reason, claim.seq)


@lru_cache(maxsize=16384)
def _ordinal(day: str) -> int:
    return date.fromisoformat(day).toordinal()


@lru_cache(maxsize=16384)
def _name(day: int) -> str:
    return date.fromordinal(day).isoformat()


@lru_cache(maxsize=4096)
def _instant(text: str | None, where: tzinfo) -> datetime | None:
    """A point in time, in UTC; a text without an offset is in `where`. None for what is none: a number may be an id."""
    if text is None or text[4:5] != "-":
        return None
    try:
        found = datetime.fromisoformat(text)
        if not _BEGINNING.year < found.year < _END.year:  # people write such dates for "ever"
            return _BEGINNING if found.year == _BEGINNING.year else _END
        return (found if found.tzinfo else found.replace(tzinfo=where)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _local(moment: datetime, where: tzinfo) -> datetime:
    return moment if where is UTC else moment.astimezone(where)


class _Named(msgspec.Struct):
    given_up: list[Request] = []


class _Claim(msgspec.Struct):
    status: str
    evidence: _Named = msgspec.field(default_factory=_Named)


class _State(msgspec.Struct):
    claims: dict[str, list[_Claim]] = {}
