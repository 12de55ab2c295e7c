"""CPU of archiving in process, with every record's shape checked and without: `python -m tests.benchmarks.drift`."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from unittest.mock import patch

import msgspec
from tests.benchmarks.server import pages

from target_archive import archiver
from target_archive.archiver import Archiver
from target_archive.commit import Drift
from target_archive.drift import Watch
from target_archive.settings import Settings
from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

RECORDS, ROUNDS, AT_ONCE = 200_000, 3, 1_300
SCHEMA = {
    "type": "SCHEMA",
    "stream": "events",
    "schema": {"properties": {"created_at": {"type": "string", "format": "date-time"}}},
    "key_properties": ["id"],
    "bookmark_properties": ["created_at"],
}


class Page(msgspec.Struct):
    data: list[msgspec.Raw]


class Blind(Watch):
    """Reads the day and key fields, and looks at nothing else."""

    def _compile(self) -> None:
        self.read = self.read_fields

    def count(self, _days: list[str], _lines: list[bytes], _start: int) -> Drift:
        return Drift()


def cost(watch: type[Watch], lines: list[bytes]) -> float:
    with tempfile.TemporaryDirectory() as root, patch.object(archiver, "Watch", watch):
        started = time.process_time()
        with open_writer(LocalStorage(root), "x", run="r") as writer:
            run = Archiver(writer, Settings(root=root), lambda _: None)
            run.take([json.dumps(SCHEMA).encode()])
            for first in range(0, len(lines), AT_ONCE):
                run.take(lines[first : first + AT_ONCE])
                run.commit_if_due()
            run.finish()
        return time.process_time() - started


def main() -> None:
    bodies = (msgspec.json.decode(body, type=Page) for body in pages(RECORDS))
    lines = [b'{"type":"RECORD","stream":"events","record":%b}' % record for body in bodies for record in body.data]
    costs: dict[type[Watch], list[float]] = {Blind: [], Watch: []}
    for _ in range(ROUNDS):
        for watch, found in costs.items():
            found.append(cost(watch, lines))
    blind, whole = (statistics.median(found) for found in costs.values())
    print(f"{RECORDS:,} records, medians of {ROUNDS}: {blind:.2f} s without, {whole:.2f} s with: {whole / blind:.3f}")


if __name__ == "__main__":
    main()
