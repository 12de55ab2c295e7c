"""A hundred thousand power losses and 20,000 interleavings of two writers: `python -m tests.nightly.power [--help]`.

Each history and each interleaving is made by its seed, so a later run can go on where one was ended, and a problem can
be looked at again.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections import Counter

from tests.target_archive import interleaved, mutants
from tests.target_archive.histories import history
from tests.target_archive.test_power_loss import KINDS


def main() -> int:
    """Print what was tried and the seed of each problem; return 1 if there was one."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order within a set is a part of a history
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606 - this script
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--losses", type=int, default=100_000, help="power losses over all kinds of sources")
    parser.add_argument("--interleavings", type=int, default=20_000, help="on a disk, and as many in a store")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; the last line of a run names the next one")
    parser.add_argument("--seconds", type=float, default=3600, help="after which nothing new is begun")
    parser.add_argument("--mutants", action="store_true", help="print the seed that notices each mistake, and stop")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if asked.mutants:
        return _mutants()
    end = time.monotonic() + asked.seconds
    failed, next_seed = _histories(asked.losses, asked.seed, end)
    for objects in (False, True):
        failed += _interleavings(asked.interleavings, asked.seed, end, objects=objects)
    print(f"{failed} problems; go on with --seed {max(next_seed, asked.seed + asked.interleavings)}")
    return 1 if failed else 0


def _histories(most: int, seed: int, end: float) -> tuple[int, int]:
    failed, losses, kills, operations = 0, Counter[str](), 0, 0
    while losses.total() < most and time.monotonic() < end:
        for kind, make in KINDS.items():
            outcome = history(seed, make)
            losses[kind] += outcome.losses
            kills += outcome.kills
            operations += outcome.operations
            failed += _tell(f"{kind}, seed {seed}", outcome.problems)
        seed += 1
    for kind, count in losses.items():
        print(f"{kind:18} {count:8,} power losses")
    print(f"{losses.total():,} power losses, {kills:,} kills, {operations:,} operations, {failed} problems", flush=True)
    return failed, seed


def _interleavings(count: int, seed: int, end: float, *, objects: bool) -> int:
    failed, ends = 0, Counter[str]()
    for number in range(seed, seed + count):
        if time.monotonic() > end:
            break
        runs, problems = interleaved.interleave(number, objects=objects)
        ends[" + ".join(sorted(run.end for run in runs))] += 1
        failed += _tell(f"interleaving {number}{' in a store' if objects else ''}", problems)
    for kind, often in ends.most_common():
        print(f"{often:8,} {kind}")
    print(f"{ends.total():,} interleavings {'in a store' if objects else 'on a disk'}, {failed} problems", flush=True)
    return failed


def _tell(where: str, problems: list[str]) -> int:
    for problem in problems[:3]:
        print(f"  {where}: {problem[:300]}", flush=True)
    return bool(problems)


def _mutants() -> int:
    unnoticed = 0
    every: list[mutants.Mutant | mutants.Skipped] = [*mutants.SYNCS, *mutants.PROTOCOL, *mutants.WRITERS]
    for mutant in every:
        interleaved.forget_beginnings()
        seed = mutants.first_seed(mutant)
        unnoticed += seed is None
        print(f"{'not noticed' if seed is None else f'seed {seed}':>12}  {mutant.name}", flush=True)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
