"""What a complete read says about lines that are already archived, by the mode of their stream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from target_archive.archive import Archive
from target_archive.archiver import Archiver
from target_archive.settings import Settings
from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

Row = dict[str, Any]
LATER = "2024-05-30T00:00:00Z"


def row(number: int, day: int = 1, **more: Any) -> Row:
    return {"id": number, "at": f"2024-05-{day:02d}T10:00:00Z", **more}


class Source:
    """A stream that is read again and again, each time an hour later.

    Args:
        root: Of the archive.
        mode: Of the stream.
        keys, bookmarks, by_day: What its SCHEMA says.
        volatile: Paths of its volatile fields.
    """

    def __init__(
        self,
        root: Path,
        mode: str,
        *,
        keys: Sequence[str] = ("id",),
        bookmarks: Sequence[str] = ("at",),
        by_day: bool = True,
        volatile: Sequence[str] = (),
    ) -> None:
        schema: dict[str, Any] = {"properties": {"id": {}, "at": {}}, "x-daykeep-mode": mode}
        if by_day:
            schema["x-daykeep-day"] = {"field": "at"}
        if volatile:
            schema["x-daykeep-volatile"] = list(volatile)
        self.schema = {"type": "SCHEMA", "stream": "s", "schema": schema, "key_properties": list(keys)}
        self.schema["bookmark_properties"] = list(bookmarks)
        self.root, self.now, self.commit_every = root, datetime(2024, 6, 1, 12, tzinfo=UTC), 100_000

    def read(self, rows: Sequence[Row], *, start: str | None = None, end: str = LATER, **claim: Any) -> dict[str, int]:
        """One run that claims a complete read from `start` to `end`, or what `claim` says; gives its changed events."""
        self.now += timedelta(hours=1)
        evidence = {"records": len(rows), "reason": "no_next", **claim.pop("evidence", {})}
        made = {"partition": None, "from": start, "to": end, "status": "complete", "evidence": evidence, **claim}
        state = {"bookmarks": {"s": {"run": self.now.isoformat()}}, "claims": {"s": [made]}}
        messages: list[Any] = [self.schema]
        messages += [{"type": "RECORD", "stream": "s", "record": one} for one in rows]
        messages.append({"type": "STATE", "value": state})
        settings = Settings(commit_max_records=self.commit_every)
        with open_writer(LocalStorage(self.root), "tap", run=self.now.isoformat(), now=lambda: self.now) as writer:
            archiver = Archiver(writer, settings, lambda _: None, now=lambda: self.now)
            for message in messages:
                archiver.take([json.dumps(message).encode()])
                archiver.commit_if_due()
            archiver.finish()
            return archiver.changed_events

    def view(self, day: str = "2024-05-01", at: datetime | None = None) -> list[Row]:
        as_of = None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return [json.loads(line) for line in Archive(self.root, "tap").view("s", day, as_of=as_of)]

    def stored(self) -> int:
        return Archive(self.root, "tap").count("s")


@pytest.mark.case("02-3.0")
@pytest.mark.parametrize("mode", ["entity", "metric"])
@pytest.mark.parametrize("keys", [("id",), ()], ids=["keyed", "keyless"])
def test_a_row_that_a_complete_read_does_not_find_is_gone_and_its_versions_stay(
    tmp_path: Path, mode: str, keys: Sequence[str]
) -> None:
    source = Source(tmp_path, mode, keys=keys)
    source.read([row(1), row(2), row(3, day=2)])
    before = source.now
    source.read([row(1), row(3, day=2)])
    assert source.view() == [row(1)]
    assert source.view("2024-05-02") == [row(3, day=2)]
    assert source.view(at=before) == [row(1), row(2)]
    assert source.stored() == 3
    source.read([row(1), row(2), row(3, day=2)])
    assert source.view() == [row(1), row(2)]
    assert source.stored() == 4  # it has come back: that is news


@pytest.mark.case("02-3.1")
@pytest.mark.parametrize(
    "claim",
    [
        {"status": "partial"},
        {"status": "skipped"},
        {"evidence": {"records": 2}},  # one of them came in an earlier run
        {"evidence": {"records": 0}},
        {"evidence": {"changes_only": True}},
        {"evidence": {"older": 1}},
        {"evidence": {"given_up": [{"url": "x"}]}},
        {"evidence": {"warnings": ["rows that move while pages are read can be missed"]}},
        {"partitions": {"complete": 3, "skipped": 1, "failed": 0}},
        {"start": "2024-05-01T10:00:00Z"},  # the day was not read from its beginning
        {"end": "2024-05-01T23:59:59Z"},
        {"end": None},
    ],
    ids=json.dumps,
)
def test_a_read_that_is_not_proved_whole_says_nothing_of_what_it_lacks(tmp_path: Path, claim: dict[str, Any]) -> None:
    source = Source(tmp_path, "metric")
    source.read([row(1), row(2)])
    source.read([row(1)], **claim)
    assert source.view() == [row(1), row(2)]
    source.read([row(1)])
    assert source.view() == [row(1)]


@pytest.mark.parametrize("mode", ["event", "changelog"])
def test_events_and_changes_stay_what_they_were(tmp_path: Path, mode: str) -> None:
    source = Source(tmp_path, mode)
    source.read([row(1), row(2)])
    source.read([row(1)])
    assert source.view() == [row(1), row(2)]


def test_events_that_came_again_with_other_content_are_told(tmp_path: Path) -> None:
    source = Source(tmp_path, "event")
    source.read([row(1), row(2)])
    assert source.read([row(1), row(2, late=True)]) == {"s": 1}
    assert source.read([row(1), row(2, late=True)]) == {}


def test_a_read_by_another_field_than_the_days_says_what_is_gone_only_if_it_was_of_all(tmp_path: Path) -> None:
    source = Source(tmp_path, "entity", bookmarks=["updated"])
    source.read([row(1), row(2)])
    source.read([row(1)], start="2024-04-01T00:00:00Z")
    assert source.view() == [row(1), row(2)]
    source.read([row(1)])
    assert source.view() == [row(1)]


def test_only_days_within_the_window_lose_rows(tmp_path: Path) -> None:
    source = Source(tmp_path, "metric")
    days = [row(number, day=number) for number in range(1, 6)]
    source.read(days)
    source.read([days[2]], start="2024-05-02T00:00:00Z", end="2024-05-04T12:00:00Z")
    left = [day for day in range(1, 6) if source.view(f"2024-05-{day:02d}")]
    assert left == [1, 3, 4, 5]


def test_a_change_in_volatile_fields_alone_is_no_version(tmp_path: Path) -> None:
    source = Source(tmp_path, "entity", volatile=["seen", "stats.views", "items[].age"])
    first = row(1, seen=1, stats={"views": 1, "likes": 1}, items=[{"age": 1, "name": "a"}])
    source.read([first])
    source.read([{**first, "seen": 2, "stats": {"likes": 1, "views": 7}, "items": [{"age": 2, "name": "a"}]}])
    assert source.view() == [first]
    assert source.stored() == 1
    changed = {**first, "stats": {"views": 9, "likes": 2}}
    source.read([changed])
    assert source.view() == [changed]
    assert source.stored() == 2


@pytest.mark.parametrize("keys", [("id",), ()], ids=["keyed", "keyless"])
@pytest.mark.parametrize("commit_every", [100_000, 2], ids=["one commit", "many"])
def test_a_snapshot_that_has_not_changed_costs_a_commit_and_no_data(
    tmp_path: Path, keys: Sequence[str], commit_every: int
) -> None:
    source = Source(tmp_path, "snapshot", keys=keys, bookmarks=[], by_day=False)
    source.commit_every = commit_every
    rows = [row(number) for number in range(5)]
    source.read(rows)
    size = sum(path.stat().st_size for path in tmp_path.glob("tap/s/*"))
    for _ in range(2):
        source.now += timedelta(days=1)
        source.read(rows[::-1])  # the order says nothing
    assert source.stored() == 5
    assert sum(path.stat().st_size for path in tmp_path.glob("tap/**/*.pack")) == 0
    assert sum(path.stat().st_size for path in tmp_path.glob("tap/s/*")) == size
    assert Archive(tmp_path, "tap").days("s") == ["2024-06-01", "2024-06-02", "2024-06-03"]
    assert source.view("2024-06-03") == rows
    source.now += timedelta(days=1)
    source.read(rows[1:])
    assert source.view("2024-06-03") == rows
    assert source.view("2024-06-04") == rows[1:]
    source.now += timedelta(days=1)
    source.read([*rows[2:], row(7)])
    assert source.view("2024-06-05") == [*rows[2:], row(7)]
    assert source.stored() == 13


def test_a_second_snapshot_of_a_day_is_a_version_of_it(tmp_path: Path) -> None:
    source = Source(tmp_path, "snapshot", bookmarks=[], by_day=False)
    source.read([row(1), row(2)])
    before = source.now
    source.read([row(2, name="changed"), row(3)])
    assert source.view("2024-06-01") == [row(2, name="changed"), row(3)]
    assert source.view("2024-06-01", at=before) == [row(1), row(2)]
    assert source.stored() == 4


def test_a_snapshot_that_differs_after_an_equal_one_on_the_same_day_is_kept_whole(tmp_path: Path) -> None:
    source = Source(tmp_path, "snapshot", bookmarks=[], by_day=False)
    source.read([row(1), row(2)])
    source.now += timedelta(days=1)
    source.read([row(1), row(2)])
    between = source.now
    source.read([row(1)])
    assert source.view("2024-06-02", at=between) == [row(1), row(2)]
    assert source.view("2024-06-02") == [row(1)]


@pytest.mark.parametrize(
    ("schema", "mode"),
    [
        ({"x-daykeep-mode": "metric"}, "metric"),
        ({"x-daykeep-mode": "nonsense"}, "changelog"),
        ({"bookmark_properties": []}, "snapshot"),
        ({"bookmark_properties": [], "x-daykeep-day": {"field": "at"}}, "entity"),
        ({}, "changelog"),
    ],
)
def test_the_mode_is_declared_or_follows_from_the_keys(tmp_path: Path, schema: dict[str, Any], mode: str) -> None:
    bookmarks = schema.pop("bookmark_properties", ["at"])
    message = {"type": "SCHEMA", "stream": "s", "schema": {"properties": {}, **schema}, "key_properties": ["id"]}
    with open_writer(LocalStorage(tmp_path), "tap", run="r") as writer:
        for settings, expected in ((Settings(), mode), (Settings(mode={"s*": "event"}), "event")):
            archiver = Archiver(writer, settings, lambda _: None)
            archiver.take([json.dumps(message | {"bookmark_properties": bookmarks}).encode()])
            facts = writer.facts("s")
            assert facts is not None
            assert facts.mode == expected
