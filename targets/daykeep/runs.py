"""Run records: one JSON file per run of `daykeep run`, under `_meta/runs` of its source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from daykeep.terminal import Counts
from target_archive import layout
from target_archive.storage import Storage

Status = Literal["complete", "partial", "failed", "interrupted", "postponed", "drift"]

_SECRET = re.compile(r"(?i)token|secret|passw|key|auth|credential")
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]*@")


class RunRecord(msgspec.Struct, frozen=True):
    """What became of a run.

    `command` is the tap's, without its secrets; times are UTC; `tap_exit` and `target_exit` are negative for a signal;
    `first_commit` and `last_commit` are the commits that the run made, null for none; `words` are the last lines of
    standard error of a side that failed.
    """

    run: str
    status: Status
    exit_status: int
    command: tuple[str, ...]
    full: bool
    started: str
    ended: str
    tap_exit: int
    target_exit: int
    streams: dict[str, Counts]
    first_commit: int | None
    last_commit: int | None
    error: str = ""
    words: tuple[str, ...] = ()


def write(storage: Storage, source: str, record: RunRecord) -> None:
    """Put the record in its place, whole and durable. Raises StorageFailed."""
    folder = _folder(source)
    storage.make_folder(folder)
    temporary = f"{folder}/.{record.run}.json.tmp"
    storage.write(temporary, msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    storage.rename(temporary, f"{folder}/{record.run}.json")
    storage.sync(folder)


def read(storage: Storage, source: str, run: str) -> RunRecord | None:
    """The record of a run; None where there is none that can be read."""
    try:
        return msgspec.json.decode(storage.read(f"{_folder(source)}/{run}.json") or b"", type=RunRecord)
    except msgspec.DecodeError:
        return None


def last(storage: Storage, source: str) -> RunRecord | None:
    """The record of the last run that has one."""
    names = [name for name in storage.names(_folder(source)) if name.endswith(".json") and not name.startswith(".")]
    return read(storage, source, names[-1].removesuffix(".json")) if names else None


def _folder(source: str) -> str:
    return layout.meta(layout.safe_name(source), "runs")


def redacted(command: Sequence[str]) -> tuple[str, ...]:
    """A command line without what may be a secret: inline JSON, values of options named so, users in addresses."""
    words = [Path(command[0]).name]
    hide_next = False
    for word in command[1:]:
        option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        if hide_next and not option:
            words.append("***")
        else:
            hidden = "***" if option and _SECRET.search(option) else _without_secrets(value)
            words.append(f"{option}{equals}{hidden if equals or not option else ''}")
        hide_next = bool(option and not equals and _SECRET.search(option))
    return tuple(words)


def _without_secrets(value: str) -> str:
    if value.lstrip().startswith(("{", "[")):
        return "{…}"
    return _USER_IN_URL.sub("***@", value)
