"""CPU per record of a tap and its target, ours and the peers', side by side: `python -m tests.benchmarks`.

Each command runs several times in turn; a figure is the median of the CPU seconds (user and system) that the operating
system counted for its processes. Peers are installed into environments of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Cost:
    """CPU and wall seconds, and the largest process's peak memory in MiB, of one pipeline."""

    cpu: float
    wall: float
    peak: float


def measure(commands: list[list[str]], folder: Path, env: dict[str, str]) -> Cost:
    """Run a pipeline to its end; every process must succeed."""
    started, processes, source = time.monotonic(), [], None
    for number, command in enumerate(commands):
        last = number == len(commands) - 1
        process = subprocess.Popen(
            command,
            stdin=source,
            stdout=subprocess.DEVNULL if last else subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, **env},
        )
        if source:
            source.close()
        source = process.stdout
        processes.append(process)
    cpu, peak = 0.0, 0.0
    for command, process in zip(commands, processes, strict=True):
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command} ended with {process.returncode}")
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss / 1024)
    return Cost(cpu, time.monotonic() - started, peak)


def environment(name: str, *packages: str) -> Path:
    """The `bin` of a virtual environment with these packages, kept between runs."""
    folder = Path(tempfile.gettempdir()) / "daykeep-benchmarks" / name
    if not (folder / "bin/python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin/pip"), "install", "-q", *packages], check=True)
    return folder / "bin"


def main() -> None:
    """Print the table; with `--json FILE` write it too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sdk = environment("singer-sdk", "singer-sdk==0.54.9")
    jsonl = environment("target-jsonl", "target-jsonl==0.1.4", "setuptools<81")
    command = [sys.executable, "-m", "tests.benchmarks.server", str(options.records)]
    with (
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server,
        tempfile.TemporaryDirectory() as scratch,
    ):
        assert server.stdout
        url = server.stdout.readline().strip()
        ours = json.dumps({"declaration": str(HERE / "events.yaml"), "base_url": url})
        archive = json.dumps({"root": "archive"})
        pipelines = {
            "floor: fetch, gzip, hash, fsync": [[sys.executable, str(HERE / "floor.py"), url, "."]],
            "daykeep: tap-rest | target-archive": [
                [str(BIN / "tap-rest"), "--config", ours],
                [str(BIN / "target-archive"), "--config", archive],
            ],
            "singer-sdk tap | target-jsonl": [
                [str(sdk / "python"), str(HERE / "peer_singer_sdk.py")],
                [str(jsonl / "target-jsonl")],
            ],
        }
        costs: dict[str, list[Cost]] = {name: [] for name in pipelines}
        try:
            for _ in range(options.rounds):
                for name, commands in pipelines.items():
                    folder = Path(scratch) / "run"
                    folder.mkdir()
                    costs[name].append(measure(commands, folder, {"BENCH_URL": url}))
                    shutil.rmtree(folder)
        finally:
            server.terminate()
    own = statistics.median(cost.cpu for cost in costs["daykeep: tap-rest | target-archive"])
    rows = [
        {
            "pipeline": name,
            "cpu_s": round(statistics.median(cost.cpu for cost in runs), 2),
            "cpu_us_per_record": round(statistics.median(cost.cpu for cost in runs) / options.records * 1e6, 2),
            "wall_s": round(statistics.median(cost.wall for cost in runs), 2),
            "peak_mib": round(max(cost.peak for cost in runs)),
            "ratio": round(statistics.median(cost.cpu for cost in runs) / own, 2),
        }
        for name, runs in costs.items()
    ]
    print(f"{options.records:,} records, medians of {options.rounds}; ratio: CPU against daykeep")
    print(f"{'':38}{'CPU s':>8}{'µs/record':>11}{'wall s':>8}{'MiB':>6}{'ratio':>7}")
    for row in rows:
        figures = (
            f"{row['cpu_s']:>8}{row['cpu_us_per_record']:>11}{row['wall_s']:>8}{row['peak_mib']:>6}{row['ratio']:>7}"
        )
        print(f"{row['pipeline']:38}{figures}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
