"""Fifty SIGKILLs of tap, target or both at random moments, for each way to resume: `python -m tests.nightly.kills`."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from tests.end_to_end.pipeline import SOURCE, expected, held, kill_and_restart

from target_archive.archive import Archive

ARCHIVES, KILLS = 5, 10


def main() -> int:
    """Print a line per archive; return 1 if any of them is not what the API served."""
    failed = 0
    for from_archive in (True, False):
        for seed in range(ARCHIVES):
            with tempfile.TemporaryDirectory() as folder:
                root = Path(folder) / "archive"
                kill_and_restart(root, KILLS, random.Random(seed), from_archive=from_archive)
                same = held(root) == expected() and not list(Archive(root, SOURCE).verify())
                failed += not same
            resumed = "archive" if from_archive else "told"
            print(f"{KILLS} kills, resumed from the {resumed} STATE: {'the same' if same else 'DIFFERENT'}", flush=True)
    print(f"{2 * ARCHIVES * KILLS} kills, {failed} archives differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
