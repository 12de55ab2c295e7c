"""Two writers on one archive: interleaved as seeds say with the lock switched off, and as processes with it on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from subprocess import PIPE

import pytest
from tests.target_archive import interleaved, mutants
from tests.target_archive.histories import Held, keyed, run_once, small_bounds
from tests.target_archive.interleaved import interleave
from tests.target_archive.mutants import Mutant
from tests.target_archive.simulated import SimulatedStorage

from target_archive import writer as protocol
from target_archive.archive import Archive
from target_archive.log import print_of

INTERLEAVINGS = 2_000
"""On a disk, and half as many in a store; `tests.nightly.power` has 20,000 of each."""
ROUNDS = 20
TARGET = str(Path(sys.executable).parent / "target-archive")


@pytest.mark.case("A17")
@pytest.mark.parametrize("objects", [False, True], ids=["disk", "store"])
def test_without_a_lock_each_commit_has_one_winner_and_nothing_told_is_lost(objects: bool) -> None:
    ends: Counter[str] = Counter()
    for seed in range(INTERLEAVINGS // (1 + objects)):
        runs, problems = interleave(seed, objects=objects)
        assert problems == [], f"seed {seed}"
        ends.update(run.end for run in runs)
    assert ends["ArchiveLocked"] > ends.total() / 4
    assert ends["complete"] > ends.total() / 4


@pytest.mark.parametrize("mutant", mutants.WRITERS, ids=lambda one: one.name)
def test_a_mistake_that_only_a_lock_would_hide_is_noticed(mutant: Mutant) -> None:
    interleaved.forget_beginnings()
    try:
        assert mutants.first_seed(mutant) is not None
    finally:
        interleaved.forget_beginnings()


def test_what_lies_beside_a_day_file_takes_its_place_only_if_it_is_what_the_commit_names() -> None:
    """A writer that was paused for long may leave half a file under the name that a later one has used."""
    storage, source = SimulatedStorage(random.Random(1)), keyed(30, random.Random(1))
    with small_bounds():
        run_once(storage, source, None, [], random.Random(1))
    held = Held(storage)
    lines, publish = held.all_lines(), held.log.last_publish
    assert publish is not None
    for file in publish.files:
        storage.write(held.log.staged_path(file, publish.seq), b"half")
    with protocol.open_writer(storage, "model", run="next"):
        assert Held(storage).all_lines() == lines
    assert [*Held(storage).verify()] == []


def _feed(process: subprocess.Popen[bytes], name: str, count: int) -> None:
    schema = {"properties": {"t": {"type": "string", "format": "date"}}}
    head = {"type": "SCHEMA", "stream": "s", "schema": schema, "key_properties": ["id"], "bookmark_properties": ["t"]}
    lines = [json.dumps(head)]
    for number in range(count):
        record = {"id": f"{name}-{number}", "t": "2024-05-01"}
        lines.append(json.dumps({"type": "RECORD", "stream": "s", "record": record}))
        lines.append(json.dumps({"type": "STATE", "value": {"bookmarks": {"s": {name: number}}}}))
    assert process.stdin is not None
    try:
        process.stdin.write("\n".join(lines).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it has ended: it found the lock taken


@pytest.mark.case("A17")
def test_of_two_processes_one_wins_and_the_other_ends_with_status_11(tmp_path: Path) -> None:
    settings = json.dumps({"root": str(tmp_path), "source": "tap", "commit_max_records": 2})
    told: list[str] = []
    for number in range(ROUNDS):
        command = [TARGET, "--config", settings]
        both = [subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE) for _ in range(2)]
        for name, process in zip("ab", both, strict=True):
            _feed(process, f"{name}{number}", 6)
        deadline = time.monotonic() + 60
        while all(process.poll() is None for process in both) and time.monotonic() < deadline:
            time.sleep(0.01)
        loser, winner = sorted(both, key=lambda process: process.poll() is None)
        lost, won = loser.communicate(timeout=30), winner.communicate(timeout=30)
        assert (winner.returncode, loser.returncode) == (0, 11), (won, lost)
        assert b"another process is writing" in lost[1]
        assert lost[0] == b""
        told += won[0].decode().splitlines()
    archive = Archive(tmp_path, "tap")
    ids = Counter(json.loads(line)["id"] for line in archive.lines("s"))
    assert len(ids) == archive.count("s") == 6 * ROUNDS
    assert all(print_of(json.loads(state)) in archive.log.reached for state in told)
    assert len(told) >= ROUNDS
    assert [*archive.verify()] == []
