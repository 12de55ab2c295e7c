"""An archive of ten years: `python -m tests.benchmarks.growth`, requirement P7.

20 streams, 3,650 days, a daily run with a complete claim for each stream, 10,000 commits, 73,000 day files. The commits
are written as a writer would write them, chained, with the checkpoint that it would have left; the day files are named
by them but are not there, as opening the log, `status` and `gaps` read none. A figure is the best of three.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec

from target_archive import commit as records
from target_archive import layout
from target_archive.commit import Commit, DayFile, Segment, StreamFacts
from target_archive.coverage import Coverage
from target_archive.log import Log
from target_archive.reading import encode_checkpoint, open_log
from target_archive.storage import LocalStorage
from target_archive.writer import CHECKPOINT_EVERY, open_writer

SOURCE, STREAMS, DAYS, COMMITS = "tap-grown", 20, 3_650, 10_000
SCHEMA = {"properties": {"at": {"type": "string", "format": "date-time"}, "id": {"type": "integer"}}}
NAMES = [f"stream{number:02}" for number in range(STREAMS)]
BIN = Path(sys.executable).parent


def commits(last: datetime) -> list[Commit]:
    """A run a day until `last`: data and publish, and now and then one that finds nothing new."""
    first = last - timedelta(days=DAYS)
    made: list[Commit] = []

    def add(kind: str, at: datetime, run: str, **fields: object) -> None:
        made.append(
            msgspec.convert(
                {"format": records.FORMAT, "seq": len(made) + 1, "kind": kind, "at": stamp(at), "run": run, "prev": ""},
                Commit,
            )
        )
        made[-1] = msgspec.structs.replace(made[-1], **fields)

    for number in range(DAYS):
        begin = first + timedelta(days=number)
        end = begin + timedelta(days=1)
        day, run = begin.date().isoformat(), f"run-{number:05}"
        claim = {"partition": None, "from": stamp(begin) if number else None, "to": stamp(end), "status": "complete"}
        evidence = {"pages": 1, "requests": 1, "records": 100, "reason": "no next", "digest": "crc32-sum:" + "0" * 16}
        state = {
            "bookmarks": {name: {"replication_key": "at", "replication_key_value": stamp(end)} for name in NAMES},
            "claims": {name: [claim | {"evidence": evidence}] for name in NAMES},
        }
        facts = {name: StreamFacts(name, SCHEMA, ("id",), ("at",), "at", dedupe="latest") for name in NAMES}
        add(
            "data",
            end,
            run,
            streams={} if number else facts,
            pack_sha256="0" * 64,
            segments=tuple(Segment(name, day, 1000 * place, 1000, 100, "0" * 64) for place, name in enumerate(NAMES)),
            state=msgspec.Raw(msgspec.json.encode(state)),
        )
        seq = len(made)
        files = tuple(DayFile(name, day, 1, f"{day}.jsonl.gz", 1000, 100, "0" * 64, seq) for name in NAMES)
        add("publish", end, run, files=files)
        if len(made) + 2 * (DAYS - number - 1) < COMMITS:
            add("data", end, run, state=msgspec.Raw(msgspec.json.encode(state)))
    return made


def stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def make(root: Path, *, tail: int) -> None:
    """Write it, with its last checkpoint `tail` commits before the end; 0 for none at all."""
    folder = root / layout.commits(SOURCE)
    folder.mkdir(parents=True)
    for one in (layout.packs(SOURCE), *(layout.stream_folder(SOURCE, name) for name in NAMES)):
        (root / one).mkdir()
    facts = {"archive": "daykeep", "format": records.FORMAT, "source": SOURCE}
    (root / layout.meta(SOURCE, "format.json")).write_bytes(msgspec.json.encode(facts) + b"\n")
    log = Log(SOURCE)
    now = datetime.now(UTC).replace(hour=6, minute=0, second=0, microsecond=0)
    for unchained in commits(now):
        data, checksum = records.encode(msgspec.structs.replace(unchained, prev=log.prev))
        (root / layout.commit(SOURCE, log.seq + 1)).write_bytes(data)
        log.apply(msgspec.structs.replace(unchained, prev=log.prev), checksum)
        if tail and log.seq == COMMITS - tail:
            (root / layout.checkpoint(SOURCE, log.seq)).write_bytes(encode_checkpoint(log))


def best(work: Callable[[], object], times: int = 3) -> float:
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        took.append(time.perf_counter() - begin)
    return min(took)


def statuses(log: Log) -> None:
    coverage = Coverage(log)
    for name in NAMES:
        coverage.statuses(name)


def tell(what: str, seconds: float) -> None:
    print(f"{what:40}{seconds:8.3f} s", flush=True)


def command(*words: str) -> Callable[[], object]:
    return lambda: subprocess.run([str(BIN / "daykeep"), *words], check=True, stdout=subprocess.DEVNULL)


def one_commit(root: Path) -> float:
    """A commit with one record for each stream, by a writer that has the archive open."""
    with open_writer(LocalStorage(root), SOURCE, run="run-now") as writer:

        def work() -> None:
            for name in NAMES:
                writer.declare(name, StreamFacts(name, SCHEMA, ("id",), ("at",), "at", dedupe="latest"))
                lines = writer.lines[name]
                lines.days.append("2099-01-01")
                lines.lines.append(b'{"at":"2099-01-01T00:00:00Z","id":1}')
            writer.commit(b'{"bookmarks":{}}')

        return best(work)


def main() -> None:
    """Print a line for each figure."""
    with tempfile.TemporaryDirectory() as place:
        bare = Path(place) / "bare"
        make(bare, tail=0)
        tell("opening the log without a checkpoint", best(lambda: open_log(LocalStorage(bare), SOURCE), 1))
        for tail in (1, CHECKPOINT_EVERY - 1):
            root = Path(place) / f"tail{tail}"
            make(root, tail=tail)
            print(f"{tail} commits after the checkpoint")
            opened = partial(open_log, LocalStorage(root), SOURCE)
            tell("opening the log", best(opened))
            tell("the statuses alone", best(partial(statuses, opened())))
            for words in (["--version"], ["status"], ["status", "--json"], ["gaps"]):
                options = [] if words == ["--version"] else ["--root", str(root)]
                tell("daykeep " + " ".join(words), best(command(*words, *options)))
        tell("one commit into it", one_commit(root))
        tell("one commit into an empty archive", one_commit(Path(place) / "empty"))


if __name__ == "__main__":
    main()
