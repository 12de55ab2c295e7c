"""The commit protocol under power losses, kills, failing operations, and deliberate mistakes in it."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.target_archive import histories, mutants
from tests.target_archive.histories import (
    Source,
    changing,
    history,
    keyed,
    keyless,
    late,
    run_once,
    small_bounds,
    ties,
    whole,
)
from tests.target_archive.mutants import Mutant, Skipped
from tests.target_archive.simulated import SimulatedStorage

from target_archive import layout, reading
from target_archive.errors import StorageFailed
from target_archive.storage import LocalStorage

LOSSES = 460
"""Power losses for each kind of source, 5,060 in all; `tests.nightly.power` has 100,000."""

KINDS: dict[str, Callable[..., Source]] = {
    "keyed": keyed,
    "keyless": keyless,
    "ties": ties,
    "A-B-A": changing,
    "late": late,
    "entity": partial(whole, "entity"),
    "entity-keyless": partial(whole, "entity", keys=()),
    "metric": partial(whole, "metric"),
    "metric-keyless": partial(whole, "metric", keys=()),
    "snapshot": partial(whole, "snapshot"),
    "snapshot-keyless": partial(whole, "snapshot", keys=()),
}


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Many rows go at once in small sources, and each time that is told."""
    with caplog.at_level("ERROR", "target-archive"):
        yield


@pytest.mark.case("A1")
@pytest.mark.case("A3")
@pytest.mark.case("A11")
@pytest.mark.case("B10")
@pytest.mark.case("B11")
@pytest.mark.case("C26")
@pytest.mark.case("C27")
@pytest.mark.case("02-3.7")
@pytest.mark.parametrize("kind", KINDS)
def test_no_power_loss_or_kill_loses_or_doubles_a_record_or_shows_a_view_that_was_never_said(kind: str) -> None:
    seed = losses = kills = 0
    while losses < LOSSES:
        outcome = history(seed, KINDS[kind])
        assert outcome.problems == [], f"seed {seed}"
        seed, losses, kills = seed + 1, losses + outcome.losses, kills + outcome.kills
    assert kills > LOSSES / 4


@pytest.mark.case("B11")
def test_a_tap_without_keys_that_resumes_pages_from_the_archive_doubles_nothing() -> None:
    for seed in range(60):
        assert history(seed, partial(keyless, resumes_pages=True), from_archive=True).problems == [], f"seed {seed}"


@pytest.mark.case("B11")
@pytest.mark.parametrize("make", [partial(keyless, resumes_pages=True), partial(late, keys=())], ids=["page", "back"])
def test_a_tap_without_keys_that_resumes_a_page_from_an_older_state_or_looks_back_loses_nothing(
    make: Callable[..., Source],
) -> None:
    """Its repeats cannot all be told from genuine ones, so some may be kept."""
    for seed in range(60):
        found = [one for one in history(seed, make).problems if not one.startswith("doubled")]
        assert found == [], f"seed {seed}"


@pytest.mark.parametrize("mutant", [*mutants.SYNCS, *mutants.PROTOCOL], ids=lambda one: one.name)
def test_a_mistake_in_the_protocol_is_noticed(mutant: Mutant | Skipped) -> None:
    assert mutants.first_seed(mutant) is not None


@pytest.mark.case("A7")
@pytest.mark.case("A8")
@pytest.mark.case("A10")
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_any_failing_operation_stops_the_run_and_the_next_one_completes_it(error: int) -> None:
    for number in range(1, 300):
        rng = random.Random(number)
        source, storage = keyed(20, random.Random(1)), SimulatedStorage(rng)
        told: list[dict[str, object]] = []
        storage.fail_at, storage.error = number, error
        try:
            run_once(storage, source, None, told, random.Random(2))
        except StorageFailed:
            storage.fail_at = None
        if storage.operations < number:
            return
        storage.operations, storage.fail_at = 0, None
        run_once(storage, source, told[-1] if told else None, told, random.Random(3))
        assert sorted(histories.archived(storage)) == sorted(source.records)
    pytest.fail("the run never got through")


@pytest.mark.case("02-3.7")
def test_an_archive_is_opened_from_its_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    storage, told = SimulatedStorage(random.Random(1)), list[dict[str, object]]()
    with small_bounds():
        run_once(storage, keyed(30, random.Random(1)), None, told, random.Random(1))
    whole_log = reading.open_log(storage, "model")
    assert json.loads(bytes(whole_log.state or b"")) == told[-1]
    read: list[str] = []

    def recorded(path: str, start: int = 0, length: int = -1) -> bytes | None:
        read.append(path)
        return SimulatedStorage.read(storage, path, start, length)

    monkeypatch.setattr(storage, "read", recorded)
    assert reading.open_log(storage, "model").prev == whole_log.prev
    commits = [path for path in read if layout.number(path.rpartition("/")[2])]
    assert whole_log.seq > 6
    assert len(commits) <= 1 + whole_log.seq % histories.CHECKPOINT_EVERY


@pytest.mark.case("A11")
def test_a_disk_is_asked_for_what_the_simulated_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `write`, `sync`, `create` and `make_folder` promise is durable when each of them returns."""
    synced: list[tuple[str, object]] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        found = sorted(one.name for one in path.iterdir()) if path.is_dir() else path.read_bytes()
        synced.append((path.relative_to(tmp_path).as_posix(), found))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    storage = LocalStorage(tmp_path / "root")
    storage.make_folder("a/b")
    assert synced == [(".", ["root"]), ("root", ["a"]), ("root/a", ["b"])]
    synced.clear()
    storage.write("a/b/one", b"1")
    storage.write("a/b/one", b"two")
    storage.sync("a/b")
    assert synced == [("root/a/b/one", b"1"), ("root/a/b/one", b"two"), ("root/a/b", ["one"])]
    synced.clear()
    storage.create("a/b/two", b"2")
    (temporary, content), (folder, names) = synced
    assert (temporary.startswith("root/a/b/.two."), content, folder) == (True, b"2", "root/a/b")
    assert names == [temporary.rpartition("/")[2], "one", "two"]
