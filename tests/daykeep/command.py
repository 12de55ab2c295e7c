"""The command as a person runs it, taps written for one test, and archives to look at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from target_archive.archive import Archive
from target_archive.archiver import Archiver
from target_archive.settings import Settings
from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

BIN = Path(sys.executable).parent
WAIT_SECONDS = 60.0

_TAP = """#!{python}
import json, os, signal, sys, time
def say(**message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()
def schema(stream="things", **more):
    shape = {{"type": "object", "properties": {{"id": {{}}}}}}
    say(type="SCHEMA", stream=stream, schema=shape, key_properties=["id"], **more)
def records(*ids, stream="things"):
    for number in ids:
        say(type="RECORD", stream=stream, record={{"id": number}})
def state(value):
    say(type="STATE", value={{"bookmarks": {{"things": {{"at": value}}}}}})
def note(name, text=""):
    with open(os.path.join({notes!r}, name + ".new"), "w") as file:
        file.write(text)
    os.rename(os.path.join({notes!r}, name + ".new"), os.path.join({notes!r}, name))
def given_state():
    return sys.argv[sys.argv.index("--state") + 1] if "--state" in sys.argv else None
{body}
"""


def write_tap(folder: Path, body: str, name: str = "tap-things") -> Path:
    """A Singer tap of its own; what it notes appears as files in `folder`."""
    path = folder / name
    path.write_text(_TAP.format(python=sys.executable, notes=str(folder), body=body))
    path.chmod(0o755)
    return path


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DAYKEEP_", "TARGET_ARCHIVE_"))}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', '')}", **more}


def daykeep(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "daykeep", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment(**(env or {})),
        timeout=WAIT_SECONDS,
    )


def start(
    *arguments: str | Path, stderr: int = subprocess.PIPE, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    command = [BIN / "daykeep", *arguments]
    return subprocess.Popen(command, stderr=stderr, text=True, env=environment(**(env or {})))


def end(process: subprocess.Popen[str]) -> str:
    """Wait for it, and give its standard error."""
    return process.communicate(timeout=WAIT_SECONDS)[1]


def until(condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds; its value."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def child(parent: int, name: str) -> int | None:
    """The process of that name which `parent` has started."""
    for path in Path("/proc").iterdir():
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            command = (path / "cmdline").read_bytes().split(b"\0")[:2]  # an interpreter and its script
            if int(fields[1]) == parent and fields[0] != "Z" and any(word.endswith(name.encode()) for word in command):
                return int(path.name)
        except (OSError, ValueError, IndexError):
            continue
    return None


def run_record(root: Path, source: str = "tap-things") -> dict[str, Any]:
    """The newest run record."""
    path = max((root / source / "_meta" / "runs").iterdir())
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def ids(root: Path, source: str = "tap-things", stream: str = "things") -> list[int]:
    return [json.loads(line)["id"] for line in Archive(root, source).lines(stream)]


def make_archive(root: Path, source: str, messages: Iterable[Mapping[str, Any] | str]) -> None:
    """An archive of what a tap might have said; a text is taken as the line it is."""
    lines = [(one if isinstance(one, str) else json.dumps(one)).encode() for one in messages]
    settings = Settings(root=str(root), source=source)
    with open_writer(LocalStorage(root), source, run="20260101T000000Z-testtest") as writer:
        archiver = Archiver(writer, settings, lambda _state: None)
        archiver.take(lines)
        archiver.finish()


def dated_stream(stream: str, days: Sequence[str], claims: Sequence[tuple[str | None, str]]) -> list[dict[str, Any]]:
    """A stream filed by its `at`, one record a day, and what the tap claims to have read from one day to another."""
    schema = {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}}
    said: list[dict[str, Any]] = [
        {"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": [], "bookmark_properties": ["at"]}
    ]
    said += [{"type": "RECORD", "stream": stream, "record": {"at": f"{day}T12:00:00Z"}} for day in days]
    stretches: list[dict[str, Any]] = [
        {"partition": None, "from": begin, "to": to, "status": "complete", "evidence": {}} for begin, to in claims
    ]
    return [*said, {"type": "STATE", "value": {"bookmarks": {}, "claims": {stream: stretches}}}]
