"""`tap-file` as a real process, alone or piped into the archive, and what the archive then holds."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.daykeep.command import BIN, environment

from target_archive.archive import Archive

SOURCE = "takeout"
TWEETS = {"stream": "tweets", "primary_keys": ["id"], "day": {"field": "at"}}


def tap(config: Mapping[str, Any], *options: str | Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [BIN / "tap-file", "--config", json.dumps(config), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment(), timeout=120)


def messages(ended: subprocess.CompletedProcess[str], kind: str) -> list[dict[str, Any]]:
    return [found for line in ended.stdout.splitlines() if (found := json.loads(line))["type"] == kind]


def archived(root: Path, config: Mapping[str, Any]) -> tuple[int, dict[str, int], str]:
    """`tap-file | target-archive`, from the STATE that the archive holds: the tap's status, its records, its words."""
    state = held_state(root)
    given = root.with_name("state")
    given.write_text(json.dumps(state))
    ended = tap(config, *(("--state", str(given)) if state else ()))
    settings = {"root": str(root), "source": SOURCE}
    command = [str(BIN / "target-archive"), "--config", json.dumps(settings)]
    target = subprocess.run(
        command, input=ended.stdout, capture_output=True, text=True, check=False, env=environment(), timeout=120
    )
    assert target.returncode == 0, target.stderr
    return ended.returncode, Counter(one["stream"] for one in messages(ended, "RECORD")), ended.stderr


def held_state(root: Path) -> Any:
    if not (root / SOURCE / "_meta/format.json").exists():
        return None
    state = Archive(root, SOURCE).log.state
    return json.loads(bytes(state)) if state else None


def held(root: Path, stream: str = "tweets", source: str = SOURCE) -> Counter[bytes]:
    return Counter(Archive(root, source).lines(stream))


def tweet(number: int, text: str = "x") -> bytes:
    """A record that any reading and writing of JSON would change."""
    return b'{ "id":"%d","at":"2013-01-%02d", "n":1.10,"text":"%b" }' % (number, number % 28 + 1, text.encode())


def array(*records: bytes) -> bytes:
    return b"[" + b",\n".join(records) + b"]"
