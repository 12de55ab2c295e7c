"""Runs of a model tap into the real archiver on a simulated disk, with the power failing, and what must hold after.

A history is made by its seed alone: what the API holds, when it changes, where each run is cut off, and in which of
its possible states the disk is found then. Where Python's own hash decides an order, `PYTHONHASHSEED` belongs to it.
"""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import groupby, pairwise
from typing import Any

import pytest
from tests.target_archive.simulated import PowerLoss, SimulatedStorage

from target_archive import layout
from target_archive import writer as protocol
from target_archive.archive import Archive
from target_archive.archiver import Archiver
from target_archive.log import Log, print_of
from target_archive.reading import encode_checkpoint, open_log, read_commits
from target_archive.settings import Settings
from target_archive.storage import Storage

State = dict[str, Any]
CHECKPOINT_EVERY, PART_SIZE = 3, 150

_decode = cache(json.loads)


@contextmanager
def small_bounds() -> Iterator[None]:
    """A checkpoint every third commit, and a next part of a day file after a few records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "CHECKPOINT_EVERY", CHECKPOINT_EVERY)
        patch.setattr(protocol, "PART_SIZE", PART_SIZE)
        yield


class Held(Archive):
    """The real reader on a simulated disk."""

    def __init__(self, storage: Storage) -> None:
        self._storage, self.source = storage, "model"
        self.log = self._open()
        self._runs = {}
        self._read_day = cache(super()._read_day)  # type: ignore[method-assign]  # it is asked for many views of a day

    def day(self, day: str, as_of: int | None = None) -> Counter[bytes]:
        """The view of a day, pins left aside."""
        as_of = self.log.seq if as_of is None else as_of
        return Counter(self.view("s", day, as_of=as_of)) if "s" in self.log.streams else Counter()

    def all_lines(self) -> list[bytes]:
        return list(self.lines("s")) if "s" in self.log.streams else []


class Source(ABC):
    """An API, the tap that reads it, and what must be archived of what the tap has sent.

    Attributes:
        records: What the API holds, in the order in which it is told.
        later: What it will hold in later reads, one after another.
        now: The time.
    """

    keys: tuple[str, ...] = ()
    schema: dict[str, Any]
    bookmarks: tuple[str, ...] = ()
    may_double = False

    def __init__(self, records: list[bytes], later: Sequence[list[bytes]] = ()) -> None:
        self.records, self.later = records, list(later)
        self.now = datetime(2024, 6, 1, 12, tzinfo=UTC)
        self.runs = 0

    @abstractmethod
    def messages(self, state: State | None) -> list[bytes]:
        """What a run sends that starts from a STATE."""

    @abstractmethod
    def find_problems(self, held: Held, told: State | None, *, complete: bool) -> Iterator[str]:
        """What is wrong with an archive, after a run that was `complete` or cut off, and told `told` at the last."""

    def settings(self, rng: random.Random) -> Settings:
        return Settings(commit_max_records=rng.randint(3, 12), commit_max_seconds=1e9)

    def advance(self, rng: random.Random) -> None:
        """After a complete read: time goes on, and the API changes."""
        self.now += timedelta(hours=rng.choice([1, 24]))
        if self.later:
            self.records = self.later.pop(0)

    def head(self) -> list[bytes]:
        """The SCHEMA, and at times something that is no message: a second stream, of dead letters."""
        message = {"type": "SCHEMA", "stream": "s", "schema": self.schema, "key_properties": self.keys}
        odd = [b"torn {"] if self.runs % 3 == 1 else []
        return [*odd, json.dumps({**message, "bookmark_properties": self.bookmarks}).encode()]


def record_message(record: bytes) -> bytes:
    return b'{"type":"RECORD","stream":"s","record":%s}' % record


def state_message(state: State) -> bytes:
    return json.dumps({"type": "STATE", "value": state}).encode()


class Sorted(Source):
    """Records sorted by `t`, read in pages from a position or from a value of `t`, which is inclusive.

    Args:
        records, later: See Source.
        keys: Of the stream.
        page: Records in a page.
        resumes_pages: A STATE says at which page to go on.
        lookback: How many minutes before its bookmark a run begins.
    """

    bookmarks = ("t",)
    schema: dict[str, Any] = {"properties": {"t": {"type": "string", "format": "date-time"}}}

    def __init__(
        self,
        records: list[bytes],
        keys: Sequence[str],
        page: int = 5,
        *,
        later: Sequence[list[bytes]] = (),
        resumes_pages: bool = True,
        lookback: int = 0,
    ) -> None:
        super().__init__(records, later)
        self.keys, self.page, self.resumes_pages, self.lookback = tuple(keys), page, resumes_pages, lookback
        self.may_double = not keys and lookback > 0
        self.sent: dict[object, list[bytes]] = defaultdict(list)
        self.due: dict[object, list[bytes]] = defaultdict(list)
        self.read = Counter[bytes]()
        self._sending: list[bytes] = []

    def messages(self, state: State | None) -> list[bytes]:
        place = (state or {}).get("bookmarks", {}).get("s", {})
        start = place.get("page")
        if start is None:
            value = _minutes_before(place["replication_key_value"], self.lookback) if place else ""
            start = next((n for n, one in enumerate(self.records) if _time(one) >= value), len(self.records))
        out = [state_message(state or {"bookmarks": {}}), *self.head()]
        for begin in range(start, len(self.records), self.page):
            end = min(begin + self.page, len(self.records))
            out += map(record_message, self.records[begin:end])
            reached: dict[str, object] = {"replication_key_value": _time(self.records[end - 1])}
            if self.resumes_pages and end < len(self.records):
                reached["page"] = end
            out.append(state_message({"bookmarks": {"s": reached}}))
        self._sending = self.records[start:]
        for one in self._sending:
            self.sent[self._key(one)].append(one)
        return out

    def below(self, state: State | None) -> list[bytes]:
        """The records of the API of now that a STATE says are safe."""
        place = (state or {}).get("bookmarks", {}).get("s", {})
        if "page" in place:
            return self.records[: place["page"]]
        return [one for one in self.records if _time(one) < place.get("replication_key_value", "")]

    def find_problems(self, held: Held, told: State | None, *, complete: bool) -> Iterator[str]:
        lines = held.all_lines()
        if complete:
            self.read |= Counter(self._sending)
            for one in self._sending:
                self.due[self._key(one)].append(one)
        yield from _told("lost", self.read - Counter(lines) if not self.keys else Counter())
        if told and (not self.due or not self.lookback):
            yield from _told("lost below a told STATE", Counter(self.below(told)) - Counter(lines))
        if self.keys:
            yield from self._problems_of_versions(lines)
        elif not self.may_double:
            yield from _told("doubled", Counter(lines) - Counter(self.records))

    def _problems_of_versions(self, lines: list[bytes]) -> Iterator[str]:
        archived: dict[object, list[bytes]] = defaultdict(list)
        for line in lines:
            archived[self._key(line)].append(line)
        for key in {**self.sent, **archived}:
            have = archived[key]
            sent, due = ([one for one, _ in groupby(found.get(key, ()))] for found in (self.sent, self.due))
            if any(one == other for one, other in pairwise(have)):
                yield f"doubled: {have}"
            if not _is_part(have, sent):
                yield f"never sent: {have}"
            if not _is_part(due, have):
                yield f"lost: {due}, there is {have}"

    def _key(self, record: bytes) -> object:
        return (_time(record)[:10], *(_decode(record).get(key) for key in self.keys))


class Whole(Source):
    """Records that are read whole each time, with a claim that says so; what is missing then is gone.

    Args:
        mode: `entity`, `metric` or `snapshot`.
        keys: Of the stream.
        records, later: See Source.
        at_once: Every run is one commit, so a view changes from one complete read to the next and is never between.
    """

    def __init__(
        self, mode: str, keys: Sequence[str], records: list[bytes], later: Sequence[list[bytes]], *, at_once: bool
    ) -> None:
        super().__init__(records, later)
        self.mode, self.keys, self.at_once = mode, tuple(keys), at_once
        self.bookmarks = ("t",) if mode == "metric" else ()
        self.schema = {"properties": {"t": {}}, "x-daykeep-mode": mode}
        if mode != "snapshot":
            self.schema["x-daykeep-day"] = {"field": "t"}
        self.seen: list[tuple[int, str, Counter[bytes]]] = []  # commit, day, what the API said
        self.between: Counter[bytes] = Counter()

    def settings(self, rng: random.Random) -> Settings:
        return Settings(commit_max_records=100_000) if self.at_once else super().settings(rng)

    def messages(self, state: State | None) -> list[bytes]:
        evidence = {"records": len(self.records), "reason": "no_next"}
        claim = {"partition": None, "from": None, "to": "2024-07-01T00:00:00Z", "status": "complete"}
        made = {"bookmarks": {"s": {"run": self.runs}}, "claims": {"s": [{**claim, "evidence": evidence}]}}
        told = state_message(state or {"bookmarks": {}})
        self.between |= Counter(self.records)
        return [told, *self.head(), *map(record_message, self.records), state_message(made)]

    def _days(self) -> dict[str, Counter[bytes]]:
        if self.mode == "snapshot":
            return {self.now.date().isoformat(): Counter(self.records)}
        days: dict[str, Counter[bytes]] = defaultdict(Counter)
        for one in self.records:
            days[_time(one)[:10]][one] += 1
        return {f"2024-01-{day:02d}": days[f"2024-01-{day:02d}"] for day in range(1, 4)}

    def find_problems(self, held: Held, told: State | None, *, complete: bool) -> Iterator[str]:  # noqa: ARG002 - a STATE says nothing of rows
        said = self._days()
        if complete:
            self.seen += [(held.log.seq, day, rows) for day, rows in said.items()]
            self.between = Counter(self.records)
        latest = {day: rows for _, day, rows in self.seen}
        for seq, day, rows in self.seen if complete else self.seen[-6:]:
            if (found := held.day(day, seq)) != rows:
                yield f"{day} as of {seq} is {found}, was {rows}"
        for day, rows in said.items():
            found, before = held.day(day), latest.get(day, Counter())
            if self.at_once and found not in (rows, before):
                yield f"{day} is {found}, neither {before} nor {rows}"
            if found - (self.between | before):
                yield f"{day} has {found - (self.between | before)}, which nobody said"
            if (before & rows) - found and self.mode != "snapshot":
                yield f"{day} lacks {(before & rows) - found}, which was always there"


@cache
def _time(record: bytes) -> str:
    return str(_decode(record)["t"])


def _minutes_before(time: str, minutes: int) -> str:
    if not minutes:
        return time
    return f"{datetime.fromisoformat(time) - timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"


def _told(what: str, records: Counter[bytes]) -> Iterator[str]:
    if records:
        yield f"{what}: {dict(records)}"


def _is_part(some: Sequence[bytes], every: Sequence[bytes]) -> bool:
    """Whether `some` stand in `every`, in that order."""
    rest = iter(every)
    return all(one in rest for one in some)


# What the API holds ---------------------------------------------------------------------------------------------------


def _at(minute: int) -> bytes:
    return b"2024-01-%02dT00:%02d:00Z" % (1 + minute // 6, minute % 6)


def keyed(count: int, rng: random.Random) -> Sorted:
    times = sorted(rng.randrange(count // 2) for _ in range(count))
    records = [b'{"id":%d,"t":"%s"}' % (n, _at(t)) for n, t in enumerate(times)]
    return Sorted(records, ["id"], page=rng.randint(2, 7), resumes_pages=rng.random() < 0.5)


def keyless(count: int, rng: random.Random, *, resumes_pages: bool = False) -> Sorted:
    """Genuine repeats: several records are equal byte for byte. New ones come at and after the last time."""
    times = sorted(rng.randrange(count // 3) for _ in range(count))
    records = [b'{"t":"%s","v":%d}' % (_at(t), rng.randrange(2)) for t in times]
    cuts = sorted(rng.randrange(1, count) for _ in range(2))
    reads = [records[:cut] for cut in cuts] if not resumes_pages else []
    first, *later = [*reads, records]
    return Sorted(first, [], page=rng.randint(2, 7), later=later, resumes_pages=resumes_pages)


def changing(count: int, rng: random.Random) -> Sorted:
    """Values that go from A to B and back to A, under the same key and time."""
    times = sorted(rng.randrange(count // 4) for _ in range(count))
    reads = [[b'{"id":%d,"t":"%s","v":%d}' % (n, _at(t), rng.randrange(2)) for n, t in enumerate(times)]]
    reads += [[one if rng.random() < 0.5 else _other(one) for one in reads[0]] for _ in range(3)]
    return Sorted(reads[0], ["id"], page=rng.randint(2, 7), later=reads[1:], resumes_pages=False, lookback=10_000)


def late(count: int, rng: random.Random, *, keys: Sequence[str] = ("id",)) -> Sorted:
    """Rows that come late, at times before the bookmark, and are read because each run looks back."""
    times = sorted(rng.randrange(count // 3) for _ in range(count))
    records = [b'{"id":%d,"t":"%s"}' % (n, _at(t)) for n, t in enumerate(times)]
    missing = [{n for n in range(count) if rng.random() < share} for share in (0.6, 0.3)]
    reads = [[one for n, one in enumerate(records) if n not in missing[0] & missing[1]]]
    reads[0] = [one for n, one in enumerate(records) if n not in missing[0] | missing[1]]
    reads += [[one for n, one in enumerate(records) if n not in missing[1]], records]
    return Sorted(reads[0], keys, page=rng.randint(2, 7), later=reads[1:], resumes_pages=False, lookback=10_000)


def ties(count: int, rng: random.Random) -> Sorted:
    """Many records of one time, over the ends of pages and of reads."""
    times = sorted(rng.randrange(3) for _ in range(count))
    records = [b'{"t":"%s","v":%d}' % (_at(t), rng.randrange(3)) for t in times]
    cut = rng.randrange(1, count)
    return Sorted(records[:cut], [], page=rng.randint(2, 7), later=[records], resumes_pages=False)


def whole(mode: str, count: int, rng: random.Random, *, keys: Sequence[str] = ("id",)) -> Whole:
    """Rows that go, come back and change."""

    def row(n: int) -> bytes:
        return b'{"id":%d,"t":"2024-01-%02d","v":%d}' % (n if keys else n // 3, 1 + n % 3, rng.randrange(2))

    rows = [row(n) for n in range(count // 2)]
    reads = [rows]
    for _ in range(3):
        rows = rows if rng.random() < 0.4 else [row(n) for n in range(count // 2) if rng.random() < 0.8]
        reads.append(rng.sample(rows, len(rows)))
    return Whole(mode, keys, reads[0], reads[1:], at_once=rng.random() < 0.5)


def _other(record: bytes) -> bytes:
    return record.replace(b'"v":0', b'"v":2').replace(b'"v":1', b'"v":0').replace(b'"v":2', b'"v":1')


# Runs -----------------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    losses: int = 0
    kills: int = 0
    operations: int = 0
    problems: list[str] = field(default_factory=list)


def run_once(
    storage: SimulatedStorage,
    source: Source,
    state: State | None,
    told: list[State],
    rng: random.Random,
) -> None:
    source.runs += 1
    now = lambda: source.now  # noqa: E731 - it is passed on twice
    with protocol.open_writer(storage, "model", run=f"r{source.runs}", now=now) as writer:
        archiver = Archiver(writer, source.settings(rng), lambda text: told.append(json.loads(text)), now=now)
        messages = source.messages(state)
        while messages:
            count = rng.randint(1, 9)
            archiver.take(messages[:count])
            del messages[:count]
            archiver.commit_if_due()
            if rng.random() < 0.1:
                writer.publish()
        archiver.finish()


def archived(storage: SimulatedStorage) -> list[bytes]:
    return Held(storage).all_lines()


class History:
    """An archive that is written by one run after another, most of them cut off."""

    def __init__(self, seed: int, make: Callable[[int, random.Random], Source], *, crashes: int = 6) -> None:
        self.rng = random.Random(seed)
        self.source, self.crashes = make(24, self.rng), crashes
        self.storage = SimulatedStorage(self.rng)
        self.told: list[State] = []
        self.pins: dict[str, set[int]] = {}
        self.outcome = Outcome()

    def play(
        self,
        *,
        from_archive: bool | None = None,
        skip: Sequence[str] = (),
    ) -> Outcome:
        """Read until the API has said everything.

        Args:
            from_archive: Whether runs go on from the archive's STATE, or from the one told last; None for either of
                them, an older one or none, as it comes.
            skip: See SimulatedStorage.
        """
        rng, source = self.rng, self.source
        self.storage.skip = frozenset(skip)
        try:
            while True:
                if rng.random() < 0.2:
                    self._cut(self._look_after)
                state = self._state(from_archive)
                run = partial(run_once, self.storage, source, state, self.told, rng)
                complete = self._cut(run)
                self._check(complete=complete)
                if complete and not source.later:
                    break
                if complete:
                    source.advance(rng)
            self._check_published()
        except Exception as error:  # noqa: BLE001 - whatever stops the next run is the finding
            self.outcome.problems.append(f"not recoverable: {error!r}")
        return self.outcome

    def _state(self, from_archive: bool | None) -> State | None:
        rng, log = self.rng, open_log(self.storage, "model")
        if from_archive or (from_archive is None and rng.random() < 0.4):
            return json.loads(bytes(log.state)) if log.state else None
        if from_archive is None and rng.random() < 0.3:
            return rng.choice([None, *self.told])
        return self.told[-1] if self.told else None

    def _cut(self, run: Callable[[], None]) -> bool:
        """Do something, and perhaps the power fails meanwhile. Returns whether it came to its end."""
        rng = self.rng
        self.storage.operations, self.storage.fail_at = 0, None
        if self.outcome.losses < self.crashes and rng.random() < 0.9:
            self.storage.fail_at = rng.randint(1, rng.choice([12, 60, 100]))
        try:
            run()
        except PowerLoss:
            if rng.random() < 0.7:
                self.outcome.losses += 1
                self.storage = self.storage.after_power_loss()
            else:
                self.outcome.kills += 1
                self.storage = self.storage.copy()
            return False
        finally:
            self.outcome.operations += self.storage.operations
            self.storage.fail_at = None
        return True

    def _look_after(self) -> None:
        """A person pins a day, or acknowledges changes."""
        held = Held(self.storage)
        days = [] if getattr(self.source, "mode", "") == "snapshot" else held.log.days("s")
        with protocol.open_writer(self.storage, "model", run="person", now=lambda: self.source.now) as writer:
            if not days:
                return
            if self.rng.random() < 0.5:
                day, seq = self.rng.choice(days), self.rng.randrange(writer.log.seq + 1)
                self.pins.setdefault(day, {0}).add(seq)
                writer.pin("s", day, seq)
                self.pins[day] = {seq}
            else:
                writer.acknowledge(["s"])

    def _check(self, *, complete: bool) -> None:
        held = Held(self.storage)
        log, told = held.log, self.told[-1] if self.told else None
        self.outcome.problems += [
            f"told, but not committed: {state}" for state in self.told[-3:] if print_of(state) not in log.reached
        ]
        self.outcome.problems += self.source.find_problems(held, told, complete=complete)
        for day, pins in self.pins.items():
            if log.day("s", day).pin not in pins:
                self.outcome.problems.append(f"{day} is pinned to {log.day('s', day).pin}, not to one of {pins}")
        if complete or self.rng.random() < 0.3:
            folded = Log("model")
            for commit, checksum in read_commits(self.storage, "model"):
                folded.apply(commit, checksum)
            if encode_checkpoint(folded) != encode_checkpoint(log):
                self.outcome.problems.append("a checkpoint is not what the commits say")

    def _check_published(self) -> None:
        log = open_log(self.storage, "model")
        for file in log.files:
            if self.storage.size(log.path(file)) != file.size:
                self.outcome.problems.append(f"day {file.day} is not published")
        for segments in log.pending.values():
            self.outcome.problems.append(f"still pending: {segments}")
        for folder in (layout.packs("model"), layout.commits("model"), *map(log.folder, log.streams)):
            left = [name for name in self.storage.names(folder) if name.endswith((".tmp", ".pack"))]
            if left:
                self.outcome.problems.append(f"left over: {left}")


def history(seed: int, make: Callable[[int, random.Random], Source], **options: Any) -> Outcome:
    """A history with small bounds; see `History.play`."""
    with small_bounds():
        return History(seed, make).play(**options)
