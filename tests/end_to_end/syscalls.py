"""Kill or fail the N-th real system call of `target-archive` with strace, then look at what a next run makes of it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from target_archive.archive import Archive
from target_archive.errors import ArchiveError

TARGET = str(Path(sys.executable).parent / "target-archive")
CALLS = {
    "fsync": "fsync",
    "link": "link,linkat",
    "rename": "rename,renameat,renameat2",
    "write": "write",
    "unlink": "unlink,unlinkat",
}
FAULTS = {"kill": "signal=SIGKILL", "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}


@dataclass(frozen=True)
class Workload:
    """Messages of a small run and the ids that each STATE covers."""

    messages: list[bytes]
    ids: list[int]
    covered: dict[int, int]


def workload(seed: int = 1) -> Workload:
    """Two streams over a few days, a STATE per page, records large enough for several commits in one run."""
    rng = random.Random(seed)
    schema = {"properties": {"at": {"type": "string", "format": "date-time"}}}
    messages = [
        json.dumps(
            {"type": "SCHEMA", "stream": name, "schema": schema, "key_properties": ["id"]}
            | {"bookmark_properties": ["at"]}
        ).encode()
        for name in ("a", "b")
    ]
    covered, count = {}, 0
    for page in range(6):
        for _ in range(8):
            body = {"id": count, "at": f"2024-05-{1 + count // 12:02d}T00:00:00Z", "noise": rng.randbytes(50_000).hex()}
            messages.append(json.dumps({"type": "RECORD", "stream": rng.choice("ab"), "record": body}).encode())
            count += 1
        covered[page] = count
        messages.append(json.dumps({"type": "STATE", "value": {"bookmarks": {"a": {"page": page}}}}).encode())
    return Workload(messages, list(range(count)), covered)


def archive_ids(root: Path) -> Counter[int]:
    archive = Archive(root, "default")
    return Counter(json.loads(line)["id"] for stream in archive.streams() for line in archive.lines(stream))


def command(root: Path) -> list[str]:
    return [TARGET, "--config", json.dumps({"root": str(root), "commit_max_records": 16})]


def try_point(root: Path, call: str, fault: str, number: int, load: Workload) -> tuple[bool, list[str]]:
    """Run with the N-th call failing, then once more; return whether there was such a call, and the problems."""
    calls = CALLS[call]
    strace = ["strace", "-f", "-qq", "-o", str(root) + ".log", "-e", f"trace={calls}"]
    inject = ["-e", f"inject={calls}:{FAULTS[fault]}:when={number}"]
    text = b"\n".join(load.messages) + b"\n"
    first = subprocess.run([*strace, *inject, *command(root)], input=text, capture_output=True, check=False)
    reached = first.returncode != 0 or "INJECTED" in Path(str(root) + ".log").read_text()
    problems = []
    told = [json.loads(line)["bookmarks"]["a"]["page"] for line in first.stdout.splitlines() if line.endswith(b"}}}")]
    safe = set(range(load.covered[told[-1]])) if told else set()
    try:
        if missing := safe - archive_ids(root).keys():
            problems.append(f"lost below a told STATE: {sorted(missing)}")
    except ArchiveError as error:
        problems.append(f"cannot be read: {error}")
    if b"Traceback" in first.stderr:
        problems.append("a traceback reached the user")
    second = subprocess.run(command(root), input=text, capture_output=True, check=False)
    if second.returncode:
        problems.append(f"not recovered: {second.stderr.decode()[-300:]}")
    elif archive_ids(root) != Counter(load.ids):
        problems.append("lost or doubled after recovery")
    elif findings := list(Archive(root, "default").verify()):
        problems.append(f"verify: {findings}")
    return reached, problems
