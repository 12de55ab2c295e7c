"""Every system call of a run of `target-archive`, killed or failed in turn: `python -m tests.nightly.syscalls`."""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.end_to_end.syscalls import CALLS, FAULTS, try_point, workload

_MOST = 400


def main() -> int:
    """Print a line per call and fault; return 1 if any point lost, doubled or needed a hand."""
    failed = total = 0
    load = workload()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        for call in CALLS:
            for fault in FAULTS:
                points, problems = 0, []
                for first in range(1, _MOST, 8):
                    numbers = range(first, first + 8)
                    roots = [Path(folder) / f"{call}-{fault}-{number}" for number in numbers]
                    results = list(pool.map(try_point, roots, [call] * 8, [fault] * 8, numbers, [load] * 8))
                    points += sum(reached for reached, _ in results)
                    problems += [f"{n}: {one}" for n, (_, found) in zip(numbers, results, strict=True) for one in found]
                    if not any(reached for reached, _ in results):
                        break
                print(f"{call:8} {fault:8} {points:4} points, {len(problems)} problems", flush=True)
                for problem in problems:
                    print("   ", problem)
                failed += len(problems)
                total += points
    print(f"{total} points, {failed} problems")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
