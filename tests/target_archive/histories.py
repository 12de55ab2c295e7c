"""Runs of a model tap into the real archiver on a simulated disk, with the power failing, and what must hold after."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.target_archive.simulated import PowerLoss, SimulatedStorage

from target_archive.archiver import Archiver
from target_archive.reading import DayReader, open_log
from target_archive.settings import Settings
from target_archive.writer import open_writer


@dataclass
class Source:
    """An API that holds `records`, sorted by `t`, read in pages from a position or (inclusive) from a value of `t`."""

    records: list[bytes]
    keys: list[str]
    page: int = 5
    resumes_pages: bool = True

    def messages(self, state: dict[str, object] | None) -> list[bytes]:
        bookmark = (state or {}).get("bookmarks", {}).get("s", {})  # type: ignore[attr-defined]
        start = bookmark.get("page")
        if start is None:
            value = bookmark.get("replication_key_value", "")
            start = next((n for n, one in enumerate(self.records) if json.loads(one)["t"] >= value), len(self.records))
        schema = {"properties": {"t": {"type": "string", "format": "date-time"}}}
        head = {"type": "SCHEMA", "stream": "s", "schema": schema}
        head |= {"key_properties": self.keys, "bookmark_properties": ["t"]}
        out = [json.dumps({"type": "STATE", "value": state or {"bookmarks": {}}}).encode()]
        out.append(json.dumps(head).encode())
        for begin in range(start, len(self.records), self.page):
            end = min(begin + self.page, len(self.records))
            out += [b'{"type":"RECORD","stream":"s","record":%s}' % one for one in self.records[begin:end]]
            place: dict[str, object] = {"replication_key_value": json.loads(self.records[end - 1])["t"]}
            if self.resumes_pages and end < len(self.records):
                place["page"] = end
            out.append(json.dumps({"type": "STATE", "value": {"bookmarks": {"s": place}}}).encode())
        return out

    def below(self, state: dict[str, object] | None) -> list[bytes]:
        """The records that a STATE says are safe."""
        place = (state or {}).get("bookmarks", {}).get("s", {})  # type: ignore[attr-defined]
        if "page" in place:
            return self.records[: place["page"]]
        value = place.get("replication_key_value", "")
        return [one for one in self.records if json.loads(one)["t"] < value]


def keyed(count: int, rng: random.Random) -> Source:
    times = sorted(rng.randrange(count // 2) for _ in range(count))
    records = [b'{"id":%d,"t":"2024-01-%02dT00:%02d:00Z"}' % (n, 1 + t // 6, t % 6) for n, t in enumerate(times)]
    return Source(records, ["id"], page=rng.randint(2, 7), resumes_pages=rng.random() < 0.5)


def keyless(count: int, rng: random.Random, *, resumes_pages: bool | None = None) -> Source:
    """Genuine repeats: several records are equal byte for byte."""
    resumes_pages = rng.random() < 0.5 if resumes_pages is None else resumes_pages
    times = sorted(rng.randrange(count // 3) for _ in range(count))
    records = [b'{"t":"2024-01-%02dT00:%02d:00Z","v":%d}' % (1 + t // 6, t % 6, rng.randrange(2)) for t in times]
    records.sort(key=lambda one: json.loads(one)["t"])
    return Source(records, [], page=rng.randint(2, 7), resumes_pages=resumes_pages)


@dataclass
class Outcome:
    crashes: int = 0
    operations: int = 0
    problems: list[str] = field(default_factory=list)


def run_once(
    storage: SimulatedStorage,
    source: Source,
    state: dict[str, object] | None,
    told: list[dict[str, object]],
    rng: random.Random,
    mutate: Callable[[Archiver], None] = lambda _: None,
) -> None:
    settings = Settings(commit_max_records=rng.randint(3, 12), commit_max_seconds=1e9)
    with open_writer(storage, "model", run="r") as writer:
        archiver = Archiver(writer, settings, lambda text: told.append(json.loads(text)))
        mutate(archiver)
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
    log = open_log(storage, "model")
    return [line for day in log.days("s") for line in DayReader(storage, log).lines("s", day)]


def history(
    seed: int,
    make: Callable[[int, random.Random], Source],
    *,
    crashes: int = 3,
    from_archive: bool = True,
    skip: frozenset[str] = frozenset(),
    mutate: Callable[[Archiver], None] = lambda _: None,
) -> Outcome:
    """Archive a source with power losses; the next run goes on from the archive's STATE or the told one."""
    rng = random.Random(seed)
    source, outcome = make(30, rng), Outcome()
    storage = SimulatedStorage(rng)
    storage.skip = set(skip)
    told: list[dict[str, object]] = []
    try:
        for attempt in range(crashes + 1):
            log = open_log(storage, "model")
            state = json.loads(bytes(log.state)) if from_archive and log.state else (told[-1] if told else None)
            storage.fail_at = rng.randint(1, 120) if attempt < crashes else None
            try:
                run_once(storage, source, state, told, rng, mutate)
            except PowerLoss:
                outcome.crashes += 1
                storage = storage.after_power_loss()
                missing = Counter(source.below(told[-1]) if told else []) - Counter(archived(storage))
                if missing:
                    outcome.problems.append(f"lost below a told STATE: {missing}")
            outcome.operations += storage.operations
            storage.operations = 0
        run_once(storage, source, told[-1], told, rng, mutate)
        lines = archived(storage)
    except Exception as error:  # noqa: BLE001 - whatever stops the next run is the finding
        outcome.problems.append(f"not recoverable: {error!r}")
        return outcome
    if lost := Counter(source.records) - Counter(lines):
        outcome.problems.append(f"lost: {lost}")
    if doubled := Counter(lines) - Counter(source.records):
        outcome.problems.append(f"doubled: {doubled}")
    for file in open_log(storage, "model").files:
        if storage.read(f"model/{file.stream}/{file.name}") is None:
            outcome.problems.append(f"day {file.day} is not published")
    return outcome
