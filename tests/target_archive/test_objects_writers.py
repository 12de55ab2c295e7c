"""Two writers at once in an object store, each stopped at any request and going on later, and no lease between them."""

from __future__ import annotations

import json
import random
import threading
import uuid

import pytest

from target_archive.archive import Archive
from target_archive.archiver import Archiver
from target_archive.errors import ArchiveError
from target_archive.objects import ObjectStorage
from target_archive.settings import Settings
from target_archive.writer import open_writer

HISTORIES = 300
SCHEMA = {
    "type": "SCHEMA",
    "stream": "events",
    "schema": {"properties": {"id": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}}},
    "key_properties": ["id"],
    "bookmark_properties": ["at"],
}


class Turns:
    """Lets one of two threads run at a time."""

    def __init__(self) -> None:
        self._go_on = (threading.Event(), threading.Event())
        self._ended: set[int] = set()

    def wait(self, who: int) -> None:
        assert self._go_on[who].wait(60)
        self._go_on[who].clear()

    def give(self, who: int) -> None:
        if 1 - who not in self._ended:
            self._go_on[1 - who].set()
            self.wait(who)

    def end(self, who: int) -> None:
        self._ended.add(who)
        self._go_on[1 - who].set()


class Stopped(ObjectStorage):
    """Gives the other writer its turn before some of its requests, counted from when it holds the lease."""

    turns: Turns
    who = 0
    points: frozenset[int]
    count = 0

    def _request(self) -> None:
        if self._lease is not None:
            self.count += 1
            if self.count in self.points:
                self.turns.give(self.who)

    def read(self, path: str, start: int = 0, length: int = -1) -> bytes | None:
        self._request()
        return super().read(path, start, length)

    def names(self, folder: str) -> list[str]:
        self._request()
        return super().names(folder)

    def write(self, path: str, content: bytes) -> None:
        self._request()
        super().write(path, content)

    def remove(self, path: str) -> None:
        self._request()
        super().remove(path)

    def _put(self, path: str, content: bytes, expected: dict[str, str] | None) -> None:
        self._request()
        super()._put(path, content, expected)


class Run:
    """Archives records into a store; `told` is the last one that a STATE has covered, `error` what ended it."""

    def __init__(self, storage: ObjectStorage, numbers: range) -> None:
        self.storage, self.numbers = storage, numbers
        self.told = numbers[0] - 1
        self.error: Exception | None = None

    def go(self) -> None:
        try:
            with open_writer(self.storage, "src", run=uuid.uuid4().hex) as writer:
                archiver = Archiver(writer, Settings(commit_max_records=2), self._tell)
                archiver.take([json.dumps(SCHEMA).encode()])
                for number in self.numbers:
                    record = b'{"id":%d,"at":"2024-05-%02dT00:00:00Z"}' % (number, 1 + number % 2)
                    archiver.take([b'{"type":"RECORD","stream":"events","record":%s}' % record])
                    if number % 2:
                        archiver.take([b'{"type":"STATE","value":{"done":%d}}' % number])
                    archiver.commit_if_due()
                    if number == self.numbers[3]:
                        writer.publish()
                archiver.finish()
        except ArchiveError as error:
            self.error = error

    def _tell(self, state: bytes) -> None:
        self.told = json.loads(state)["done"]

    @property
    def safe(self) -> set[int]:
        return set(range(self.numbers[0], self.told + 1))


def give_back_lease(storage: ObjectStorage) -> None:
    """As if it had run out: its holder is stopped, and does not see it."""
    newest = max(name for name in storage.names("src/_meta/lock") if name.isdigit())
    holder = json.loads(storage.read(f"src/_meta/lock/{newest}") or b"")
    released = json.dumps({**holder, "released": True}).encode()
    storage.create(f"src/_meta/lock/{int(newest) + 1:08d}", released)


def history(rng: random.Random) -> tuple[str, bool]:
    """Two runs that meet; what is wrong afterwards, and whether they did meet."""
    root = f"memory:///{uuid.uuid4().hex}"
    Run(ObjectStorage.of(root), range(4)).go()
    turns, runs = Turns(), list[Run]()
    for who, numbers in enumerate([range(4, 12), range(100, 108)]):
        storage = Stopped.of(root, lease_seconds=1e6)
        storage.turns, storage.who = turns, who
        storage.points = frozenset(rng.sample(range(1, 60), 2))
        runs.append(Run(storage, numbers))
    first, second = runs
    met = []

    def follow() -> None:
        turns.wait(1)
        if 0 not in turns._ended:
            met.append(True)
            give_back_lease(ObjectStorage.of(root))
            second.go()
        turns.end(1)

    thread = threading.Thread(target=follow)
    thread.start()
    first.go()
    turns.end(0)
    thread.join()
    last = Run(ObjectStorage.of(root), range(200, 204))
    last.go()
    if last.error is not None:
        return f"the next run fails: {last.error}", bool(met)
    archive = Archive(root, "src")
    held = [json.loads(line)["id"] for line in archive.lines("events")]
    if lost := ({*range(4)} | first.safe | second.safe | last.safe) - {*held}:
        return f"lost: {lost}", bool(met)
    if len(held) != len({*held}):
        return f"doubled: {sorted(held)}", bool(met)
    return "".join(map(str, archive.verify())), bool(met)


@pytest.mark.case("A17")
def test_whenever_two_writers_meet_nothing_is_lost_that_was_told() -> None:
    outcomes = [history(random.Random(seed)) for seed in range(HISTORIES)]
    assert [problem for problem, _ in outcomes if problem] == []
    assert sum(met for _, met in outcomes) > HISTORIES / 2
