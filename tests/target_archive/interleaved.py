"""Two real writers on one archive whose lock nobody heeds: their operations take turns as a seed says."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial

import obstore
from obstore.store import MemoryStore
from tests.target_archive.histories import Held, small_bounds
from tests.target_archive.simulated import PowerLoss, SimulatedStorage

from target_archive import writer as protocol
from target_archive.commit import StreamFacts
from target_archive.errors import ArchiveError
from target_archive.objects import ObjectStorage
from target_archive.writer import Writer

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
FACTS = StreamFacts(folder="", key_properties=("id",))


class Turns:
    """Threads of which one runs at a time; at each `turn` of it chance may hand on to another one."""

    def __init__(self, rng: random.Random, often: float) -> None:
        self._rng, self._often = rng, often
        self._waiting: dict[int, threading.Semaphore] = {}
        self._done = threading.Semaphore(0)

    def run(self, bodies: Sequence[Callable[[], None]]) -> None:
        """Run all to their ends; none may raise."""
        self._waiting = {number: threading.Semaphore(0) for number in range(len(bodies))}
        threads = [threading.Thread(target=self._body, args=one) for one in enumerate(bodies)]
        for thread in threads:
            thread.start()
        self._hand_on()
        self._done.acquire()
        for thread in threads:
            thread.join()

    def turn(self, number: int) -> None:
        if self._rng.random() < self._often:
            self._hand_on(number)

    def _body(self, number: int, body: Callable[[], None]) -> None:
        self._waiting[number].acquire()
        body()
        del self._waiting[number]
        self._hand_on()

    def _hand_on(self, number: int | None = None) -> None:
        if not self._waiting:
            self._done.release()
            return
        chosen = self._rng.choice(list(self._waiting))
        if chosen != number:
            own = None if number is None else self._waiting[number]
            self._waiting[chosen].release()
            if own:
                own.acquire()


@dataclass
class Run:
    """What one writer did: the lines it was told to be durable, the numbers of their commits, and how it ended."""

    told: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    end: str = ""


def write(writer: Writer, name: str, run: Run, rng: random.Random) -> None:
    """Some commits, each of which tells its STATE, and some of which are published."""
    writer.declare("s", FACTS)
    for number in range(rng.randint(1, 3)):
        days = [f"2024-01-0{rng.randint(1, 2)}" for _ in range(2)]
        lines = [b'{"id":"%s-%d-%d"}' % (name.encode(), number, n) for n in range(len(days))]
        writer.lines["s"].days += days
        writer.lines["s"].lines += lines
        run.sent += lines
        writer.mark_state()
        writer.commit(b'{"by":"%s-%d"}' % (name.encode(), number))
        run.told += lines
        run.numbers.append(writer.log.seq)
        if rng.random() < 0.5:
            writer.publish()
    writer.publish()


def _attempt(storage: SimulatedStorage | Store, name: str, run: Run, rng: random.Random) -> None:
    try:
        with protocol.open_writer(storage, "model", run=name, now=lambda: NOW) as writer:
            write(writer, name, run, rng)
        run.end = "complete"
    except PowerLoss:
        run.end = "killed"
    except ArchiveError as error:
        run.end = type(error).__name__
    except Exception as error:  # noqa: BLE001 - it is told as a problem
        run.end = f"unexpected: {error!r}"


@cache
def _beginning(kind: int) -> tuple[SimulatedStorage, Run]:
    """An archive of before: none, or what a run has left that was killed at one of its operations."""
    rng, run = random.Random(kind), Run()
    storage = SimulatedStorage(rng)
    if kind:
        _attempt(storage, "before", Run(), rng)
        run.told = list(Held(storage).all_lines())
        run.sent = list(run.told)
        storage.operations, storage.fail_at = 0, rng.randint(5, 60)
        _attempt(storage, "killed", run, rng)
    return storage.copy(), run


BEGINNINGS = 40
forget_beginnings = _beginning.cache_clear


def interleave(seed: int, *, objects: bool = False) -> tuple[list[Run], list[str]]:
    """What two writers did that were at work at once, on a disk or in a store, and what is wrong after that."""
    rng = random.Random(seed)
    beginning, before = _beginning(rng.randrange(BEGINNINGS))
    disk = beginning.copy()
    disk.rng = rng
    store = Store(_stored(disk)) if objects else None
    turns = Turns(rng, rng.choice([0.5, 0.2, 0.05]))
    runs = [Run(), Run()]

    def body(number: int) -> Callable[[], None]:
        turn = partial(turns.turn, number)
        storage = store.shared(turn) if store else disk.shared(turn, number)
        storage.fail_at = rng.randint(1, 60) if rng.random() < 0.15 else None
        return partial(_attempt, storage, "ab"[number], runs[number], random.Random(rng.random()))

    with small_bounds():
        turns.run([body(0), body(1)])
        left = store or (disk.after_power_loss() if rng.random() < 0.5 else disk.copy())
        return runs, _problems(left, [before, *runs], rng)


class Store(ObjectStorage):
    """Objects in memory, whose lease nobody heeds; `turn` and `fail_at` as in SimulatedStorage."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__("memory://", store)
        self.turn: Callable[[], None] = lambda: None
        self.fail_at: int | None = None
        self.requests = 0

    def shared(self, turn: Callable[[], None]) -> Store:
        other = Store(self._store)
        other.turn = turn
        return other

    @contextmanager
    def lock(self, path: str) -> Iterator[None]:  # noqa: ARG002 - nobody heeds it
        yield

    @contextmanager
    def _telling(self, path: str) -> Iterator[None]:
        """Stands around each request, or the few of them that no other writer's can come between with any effect."""
        self.turn()
        self.requests += 1
        if self.fail_at is not None and self.requests >= self.fail_at:
            raise PowerLoss(path)
        with super()._telling(path):
            yield


def _stored(disk: SimulatedStorage) -> MemoryStore:
    store = MemoryStore()
    for folder, names in disk.now.items():
        for name in names:
            if f"{folder}/{name}".lstrip("/") not in disk.now:
                obstore.put(store, f"{folder}/{name}", disk.read(f"{folder}/{name}") or b"")
    return store


def _problems(disk: SimulatedStorage | Store, runs: list[Run], rng: random.Random) -> list[str]:
    problems = [run.end for run in runs if run.end.startswith("unexpected")]
    numbers = Counter(number for run in runs for number in run.numbers)
    problems += [f"commit {number} was won twice" for number, count in numbers.items() if count > 1]
    last = Run()
    for time in ("before", "after"):
        try:
            held = Held(disk)
            lines = Counter(held.all_lines())
            problems += [f"{time} the next run: {one}" for one in held.verify()] if time == "after" else []
        except ArchiveError as error:
            return [*problems, f"{time} the next run: {error}"]
        for run in [*runs, last]:
            if lost := Counter(run.told) - lines:
                problems.append(f"told and lost {time} the next run: {dict(lost)}")
        if foreign := lines - Counter(line for run in [*runs, last] for line in run.sent):
            problems.append(f"doubled {time} the next run: {dict(foreign)}")
        if time == "before":
            _attempt(disk, "next", last, rng)
            if last.end != "complete":
                problems.append(f"the next run: {last.end}")
    return problems
