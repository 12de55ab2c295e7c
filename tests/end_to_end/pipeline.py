"""The sample tap piped into the archive as real processes, killed in the middle, and what the archive then holds."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tap_sample.tables import tables
from target_archive.archive import Archive

BIN = Path(sys.executable).parent
SOURCE = "tap-sample"


def expected() -> dict[str, Counter[bytes]]:
    """The bytes that the sample API serves for each record, per stream."""
    return {name: Counter(table.lines) for name, table in tables().items()}


def held(root: Path) -> dict[str, Counter[bytes]]:
    archive = Archive(root, SOURCE)
    return {stream: Counter(archive.lines(stream)) for stream in archive.streams()}


class Pipeline:
    """`tap-sample | target-archive`, started at once; `told` is the last STATE that came out when it has ended."""

    def __init__(
        self, root: Path, state: object = None, *, config: dict[str, object] | None = None, **target: object
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        arguments = []
        if state is not None:
            file = root.with_name(root.name + ".state.json")
            file.write_text(json.dumps(state))
            arguments = ["--state", str(file)]
        settings = {"root": str(root), "source": SOURCE, "commit_max_seconds": 0.2, **target}
        self.out = root.with_name(root.name + ".out")
        with self.out.open("wb") as out:
            self.tap = subprocess.Popen(
                [str(BIN / "tap-sample"), "--config", json.dumps(config or {}), *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            self.target = subprocess.Popen(
                [str(BIN / "target-archive"), "--config", json.dumps(settings)],
                stdin=self.tap.stdout,
                stdout=out,
                stderr=subprocess.PIPE,
            )
        assert self.tap.stdout
        self.tap.stdout.close()  # else the tap would never notice that its target is dead

    def wait(self, timeout: float = 120) -> tuple[int, int]:
        """Exit codes of tap and target."""
        _, self.target_words = self.target.communicate(timeout=timeout)
        _, self.tap_words = self.tap.communicate(timeout=timeout)
        return self.tap.returncode, self.target.returncode

    def told(self) -> object | None:
        lines = [line for line in self.out.read_bytes().splitlines() if line.endswith(b"}")]
        return json.loads(lines[-1]) if lines else None


def kill_and_restart(root: Path, kills: int, rng: random.Random, *, from_archive: bool) -> None:
    """Run until the end with `kills` SIGKILLs of tap, target or both at random moments; each restart resumes."""
    state: object | None = None
    for attempt in range(kills + 1):
        pipeline = Pipeline(root, state, config={"faults": f"0.05:{attempt}"})
        if attempt < kills:
            time.sleep(rng.uniform(0.6, 3.0))
            for process in rng.choice([[pipeline.tap], [pipeline.target], [pipeline.tap, pipeline.target]]):
                os.kill(process.pid, signal.SIGKILL)
        codes = pipeline.wait()
        state = pipeline.told() or state
        if from_archive and (root / SOURCE / "_meta/format.json").exists():
            committed = Archive(root, SOURCE).log.state
            state = json.loads(bytes(committed)) if committed else None
    assert codes == (0, 0), (pipeline.tap_words[-500:], pipeline.target_words[-500:])
