"""A source whose days are read again and again, through the real archiver, at times of the test's choice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from target_archive.archive import Archive, AsOf
from target_archive.archiver import Archiver
from target_archive.quality import Policy
from target_archive.settings import Settings
from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

DAY = "2024-05-01"
BEFORE, AFTER = "2024-05-01T00:00:00Z", "2024-05-02T00:00:00Z"


def time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def row(number: int, day: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "at": f"2024-05-{day:02d}T10:00:00Z", **more}


def rows(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    return [row(number, **more) for number in numbers]


class Source:
    """A stream of the source `tap`: a metric with the key `id`, filed by `at`, if nothing else is said."""

    def __init__(
        self,
        root: Path,
        *,
        mode: str = "metric",
        keys: Sequence[str] = ("id",),
        bookmarks: Sequence[str] = ("at",),
        day: dict[str, str] | None = None,
        stream: str = "s",
    ) -> None:
        schema: dict[str, Any] = {"properties": {"id": {}, "at": {}}, "x-daykeep-mode": mode}
        if mode != "snapshot":
            schema["x-daykeep-day"] = day or {"field": "at"}
        self._schema = {"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": list(keys)}
        self._schema["bookmark_properties"] = list(bookmarks)
        self.root, self.stream, self.run = root, stream, 0

    def read(
        self,
        at: str,
        records: Sequence[dict[str, Any] | bytes],
        *,
        commit_every: int = 100_000,
        claimed: bool = True,
        status: str = "complete",
        start: str | None = BEFORE,
        end: str | None = AFTER,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """One run at a time, given in UTC, that claims to have read the whole day, or what else is said.

        `meanwhile` is called when everything has been taken, and before the day files are brought up to date.
        """
        self.run += 1
        evidence = {"records": len(records), "reason": "no_next"}
        made = {"partition": None, "from": start, "to": end, "status": status, "evidence": evidence}
        claims = {"claims": {self.stream: [made]}} if claimed else {}
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in records]
        messages = [json.dumps(self._schema).encode()]
        messages += [b'{"type":"RECORD","stream":"%s","record":%s}' % (self.stream.encode(), line) for line in lines]
        messages.append(
            json.dumps({"type": "STATE", "value": {"bookmarks": {self.stream: self.run}, **claims}}).encode()
        )
        storage, name = LocalStorage(self.root), f"run-{self.run}"
        with open_writer(storage, "tap", run=name, now=lambda: time(at)) as writer:
            archiver = Archiver(writer, Settings(commit_max_records=commit_every), lambda _: None, now=lambda: time(at))
            for message in messages:
                archiver.take([message])
                archiver.commit_if_due()
            meanwhile()
            archiver.finish()

    @property
    def archive(self) -> Archive:
        return Archive(self.root, "tap")

    def view(self, day: str = DAY, *, as_of: AsOf | None = None, policy: Policy = "latest") -> list[Any]:
        return [json.loads(line) for line in self.archive.view(self.stream, day, as_of=as_of, policy=policy)]

    def size(self) -> int:
        """Bytes of the day files."""
        return sum(path.stat().st_size for path in (self.root / f"tap/{self.stream}").iterdir())
