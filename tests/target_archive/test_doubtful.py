"""Runs that cannot know what is gone, what is proved or where they start: they say nothing, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from target_archive.archive import Archive
from target_archive.archiver import Archiver
from target_archive.settings import Settings
from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

Row = dict[str, Any]
SNAPSHOT: dict[str, Any] = {"mode": "snapshot", "bookmarks": (), "day": None}


def run(root: Path, at: str, messages: Sequence[Any], *, every: int = 100_000, killed: bool = False) -> None:
    """One run at a time of June 2024, given as `02T12`."""
    now = datetime.fromisoformat(f"2024-06-{at}:00:00").replace(tzinfo=UTC)
    with open_writer(LocalStorage(root), "tap", run=at, now=lambda: now) as writer:
        archiver = Archiver(writer, Settings(commit_max_records=every), lambda _: None, now=lambda: now)
        for message in messages:
            archiver.take([message if isinstance(message, bytes) else json.dumps(message).encode()])
            archiver.commit_if_due()
        if not killed:
            archiver.finish()


def schema(
    *,
    mode: str = "metric",
    keys: Sequence[str] = ("id",),
    bookmarks: Sequence[str] = ("at",),
    day: Row | None = {"field": "at"},  # noqa: B006 - is not changed
    volatile: Sequence[str] = (),
) -> Row:
    said = {"properties": {}, "x-daykeep-mode": mode, "x-daykeep-day": day, "x-daykeep-volatile": list(volatile)}
    return {"type": "SCHEMA", "stream": "s", "schema": said, "key_properties": keys, "bookmark_properties": bookmarks}


def row(number: int, day: int = 1, **more: Any) -> Row:
    return {"id": number, "at": f"2024-05-{day:02d}T10:00:00Z", **more}


def records(*rows: Any) -> list[Row]:
    return [{"type": "RECORD", "stream": "s", "record": one} for one in rows]


def state(count: int, *, start: str | None = None, end: str = "2024-05-30T00:00:00Z", status: str = "complete") -> Row:
    made = {"partition": None, "from": start, "to": end, "status": status, "evidence": {"records": count}}
    return {"type": "STATE", "value": {"bookmarks": {"s": {"to": [start, end, count]}}, "claims": {"s": [made]}}}


def view(root: Path, day: str = "2024-05-01", as_of: int | None = None) -> list[Any]:
    return [json.loads(line) for line in Archive(root, "tap").view("s", day, as_of=as_of)]


@pytest.mark.parametrize(
    "claims",
    [5, [], None, {"s": "x"}, {"s": [{"status": 1}]}, {"s": [{"status": "complete", "from": 3}]}],
    ids=json.dumps,
)
def test_what_another_tap_calls_claims_does_no_harm(tmp_path: Path, claims: Any) -> None:
    run(tmp_path, "01T12", [schema(), *records(row(1)), {"type": "STATE", "value": {"claims": claims}}])
    assert view(tmp_path) == [row(1)]
    assert Archive(tmp_path, "tap").log.claims == {}


def test_the_claims_of_a_state_that_the_archive_does_not_know_are_not_its_own(tmp_path: Path) -> None:
    run(tmp_path, "01T12", [state(100), schema(), *records(row(1))])
    archive = Archive(tmp_path, "tap")
    assert archive.log.claims == {}
    assert archive.statuses("s")["2024-05-01"] == "partial"


@pytest.mark.parametrize("other", [{"keys": ("id", "n")}, {"volatile": ["x"]}, {"day": {"field": "n"}}], ids=str)
@pytest.mark.parametrize("every", [1, 100])
def test_a_stream_whose_schema_changes_in_mid_run_does_not_say_what_is_gone(
    tmp_path: Path, other: dict[str, Any], every: int
) -> None:
    rows = [row(number, n="2024-05-01T10:00:00Z") for number in (1, 2, 3)]
    run(tmp_path, "01T12", [schema(), *records(*rows), state(3)])
    again = [schema(), *records(*rows[:2]), schema(**other), *records(rows[2]), state(3)]
    run(tmp_path, "02T12", again, every=every)
    assert view(tmp_path) == rows


def test_a_row_that_would_be_filed_by_another_day_by_now_is_not_gone(tmp_path: Path) -> None:
    one = row(1, updated="2024-04-01T00:00:00Z")
    run(tmp_path, "01T12", [schema(), *records(one), state(1)])
    by_update = schema(day={"field": "updated"}, bookmarks=("updated",))
    run(tmp_path, "02T12", [by_update, state(0, start="2024-05-01T00:00:00Z")])
    assert view(tmp_path) == [one]


def test_rows_of_a_unit_that_an_earlier_run_began_are_not_gone_where_another_has_as_many(tmp_path: Path) -> None:
    run(tmp_path, "01T12", [schema(), *records(row(1), row(2))])
    unit = [schema(), *records(row(3), row(4)), state(4, end="2024-05-10T00:00:00Z")]
    run(tmp_path, "02T12", [*unit, *records(row(5, 12), row(6, 12))])
    assert view(tmp_path) == [row(number) for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("keys", [("id",), ()], ids=["keyed", "keyless"])
@pytest.mark.parametrize("killed", [True, False])
def test_a_read_that_fails_after_an_equal_snapshot_of_its_day_takes_nothing_away(
    tmp_path: Path, keys: Sequence[str], *, killed: bool
) -> None:
    said, day = schema(**SNAPSHOT, keys=keys), "2024-06-02"
    run(tmp_path, "01T01", [said, *records(row(1), row(2)), state(2, end="2024-06-01T01:00:00Z")])
    run(tmp_path, "02T01", [said, *records(row(1), row(2)), state(2, end="2024-06-02T01:00:00Z")])
    same = Archive(tmp_path, "tap").log.seq
    failed = state(1, end="2024-06-02T03:00:00Z", status="partial")
    run(tmp_path, "02T03", [said, *records(row(3)), failed], every=1, killed=killed)
    assert view(tmp_path, day) == [row(1), row(2), row(3)]
    assert view(tmp_path, day, same) == [row(1), row(2)]
    run(tmp_path, "02T04", [said, *records(row(3)), state(1, end="2024-06-02T04:00:00Z")])
    assert view(tmp_path, day) == [row(3)]


def test_what_a_killed_run_has_committed_stays_when_the_snapshot_turns_out_to_be_the_same(tmp_path: Path) -> None:
    said, day = schema(**SNAPSHOT), "2024-06-02"
    run(tmp_path, "01T01", [said, *records(row(1), row(2)), state(2, end="2024-06-01T01:00:00Z")])
    run(tmp_path, "02T01", [said, *records(row(1)), state(1, end="2024-06-02T01:00:00Z")], every=1, killed=True)
    before = Archive(tmp_path, "tap").log.seq
    run(tmp_path, "02T03", [said, *records(row(1), row(2)), state(2, end="2024-06-02T03:00:00Z")])
    assert view(tmp_path, day) == [row(1), row(2)]
    assert view(tmp_path, day, before) == [row(1)]


@pytest.mark.parametrize("every", [1, 100])
def test_records_without_a_key_are_all_shown_and_none_is_gone_that_came(tmp_path: Path, every: int) -> None:
    rows = [row(1), [5], [6], {"v": 1}, {"v": 2}, {"id": None}, row(2)]
    for at in ("01T01", "01T02"):
        run(tmp_path, at, [schema(**SNAPSHOT), *records(*rows), state(7, end="2024-06-01T00:30:00Z")], every=every)
        assert view(tmp_path, "2024-06-01") == rows
    assert Archive(tmp_path, "tap").count("s") == 7


def test_a_snapshot_stays_on_the_day_on_which_its_reading_began(tmp_path: Path) -> None:
    """Its SCHEMA changes in mid-run, and midnight has passed."""
    now = datetime(2024, 6, 1, 23, 59, tzinfo=UTC)
    head: dict[str, Any] = {"type": "SCHEMA", "stream": "s", "key_properties": ["id"]}
    with open_writer(LocalStorage(tmp_path), "tap", run="r", now=lambda: now) as writer:
        archiver = Archiver(writer, Settings(), lambda _: None, now=lambda: now)
        for number, names in enumerate(["id", "id name"]):
            properties: Row = {name: {} for name in names.split()}
            archiver.take([json.dumps({**head, "schema": {"properties": properties}}).encode()])
            archiver.take([json.dumps(one).encode() for one in records({"id": number})])
            now = datetime(2024, 6, 2, 0, 1, tzinfo=UTC)
        archiver.finish()
    assert Archive(tmp_path, "tap").days("s") == ["2024-06-01"]
