"""The commit protocol under power losses, failing operations, and deliberate mistakes in it."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.target_archive import histories
from tests.target_archive.histories import Source, history, keyed, keyless
from tests.target_archive.simulated import SimulatedStorage

from target_archive.archiver import Archiver
from target_archive.errors import StorageFailed
from target_archive.writer import Writer

HISTORIES = 350


@pytest.mark.case("A1")
@pytest.mark.case("A3")
@pytest.mark.case("A11")
@pytest.mark.case("B11")
@pytest.mark.parametrize("from_archive", [True, False], ids=["archive-state", "told-state"])
@pytest.mark.parametrize("make", [keyed, partial(keyless, resumes_pages=False)], ids=["keyed", "keyless"])
def test_no_power_loss_loses_or_doubles_a_record(make: Callable[..., Source], from_archive: bool) -> None:
    outcomes = [history(seed, make, from_archive=from_archive) for seed in range(HISTORIES)]
    assert [problem for outcome in outcomes for problem in outcome.problems] == []
    assert sum(outcome.crashes for outcome in outcomes) > HISTORIES / 2


@pytest.mark.case("B11")
def test_a_tap_without_keys_that_resumes_pages_from_the_archive_doubles_nothing() -> None:
    outcomes = [history(seed, partial(keyless, resumes_pages=True)) for seed in range(HISTORIES)]
    assert [problem for outcome in outcomes for problem in outcome.problems] == []


@pytest.mark.case("B11")
def test_a_tap_without_keys_that_resumes_pages_from_an_older_state_loses_nothing() -> None:
    """Its repeats cannot all be told from genuine ones, so some may be kept."""
    outcomes = [history(seed, partial(keyless, resumes_pages=True), from_archive=False) for seed in range(HISTORIES)]
    assert [one for outcome in outcomes for one in outcome.problems if not one.startswith("doubled")] == []


def tell_first(archiver: Archiver) -> None:
    commit = archiver._commit_to_state

    def told_too_early() -> None:
        if archiver._state is not None:
            archiver._tell(archiver._state)
        commit()

    archiver._commit_to_state = told_too_early  # type: ignore[method-assign]


def without_dedupe(archiver: Archiver) -> None:
    class Never:
        changed = 0

        def is_repeat(self, *_: Any) -> bool:
            return False

        def trim(self, _: Any) -> None: ...

        def missed(self, _: Any) -> list[int]:
            return []

    archiver._start.dedupe = lambda *_, **__: Never()  # type: ignore[method-assign]


SKIPPED = ["fsync packs", "fsync commits", "fsync model/s", "sync packs", "sync commits", "sync model/s"]


@pytest.mark.parametrize("skip", SKIPPED)
def test_leaving_out_any_sync_is_noticed(skip: str) -> None:
    assert any(history(seed, keyed, skip=frozenset([skip])).problems for seed in range(150))


@pytest.mark.parametrize("mutant", [tell_first, without_dedupe])
def test_a_mistake_in_the_protocol_is_noticed(mutant: Callable[[Archiver], None]) -> None:
    assert any(history(seed, keyed, mutate=mutant).problems for seed in range(150))


def test_a_start_without_recovery_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writer, "_recover", lambda _: None)
    assert any(history(seed, keyed).problems for seed in range(150))


@pytest.mark.case("A7")
@pytest.mark.case("A8")
@pytest.mark.case("A10")
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_any_failing_operation_stops_the_run_and_the_next_one_completes_it(error: int) -> None:
    for number in range(1, 200):
        rng = random.Random(number)
        source, storage = keyed(20, random.Random(1)), SimulatedStorage(rng)
        told: list[dict[str, object]] = []
        storage.fail_at, storage.error = number, error
        try:
            histories.run_once(storage, source, None, told, random.Random(2))
        except StorageFailed:
            storage.fail_at = None
        if storage.operations < number:
            return
        storage.operations, storage.fail_at = 0, None
        state = told[-1] if told else None
        histories.run_once(storage, source, state, told, random.Random(3))
        assert sorted(histories.archived(storage)) == sorted(source.records)
    pytest.fail("the run never got through")
