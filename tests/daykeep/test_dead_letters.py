"""`daykeep dead-letters`: what could not be archived is counted, shown and archived after all."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.daykeep.command import daykeep, ids, make_archive

from target_archive.archiver import Archiver
from target_archive.settings import Settings
from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

SCHEMA = {"type": "SCHEMA", "stream": "things", "schema": {"properties": {"id": {}}}, "key_properties": ["id"]}
EVENTS = {
    "type": "SCHEMA",
    "stream": "events",
    "schema": {"properties": {"at": {"format": "date-time"}}},
    "key_properties": ["id"],
    "bookmark_properties": ["at"],
}


def record(number: int, stream: str = "things") -> dict[str, Any]:
    return {"type": "RECORD", "stream": stream, "record": {"id": number}}


def told(root: Path, *options: str) -> list[dict[str, Any]]:
    result = daykeep("dead-letters", "list", *options, "--root", root, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_archive(tmp_path, "tap-a", [record(1), record(2), "Tr\x1b[31maceback\u2028", record(7, "other")])
    make_archive(tmp_path, "tap-b", [EVENTS, record(5, "events")])
    return tmp_path


def test_letters_are_counted_by_reason_and_the_first_of_each_shown(root: Path) -> None:
    result = daykeep("dead-letters", env={"DAYKEEP_ROOT": str(root)})
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "tap-a: dead letters 4"
    assert lines[1] == "  2: a record of stream `things` came before its SCHEMA"
    assert lines[2].endswith('"record": {"id": 1}}')
    assert "Tr\\x1b[31maceback\\u2028" in result.stdout
    assert "\x1b" not in result.stdout
    assert lines[-2:] == ["tap-b: dead letters 0", "  undated 1: `daykeep show events --day undated`"]


def test_a_long_line_is_cut_and_a_reason_with_very_many_letters_shows_a_few(tmp_path: Path) -> None:
    make_archive(tmp_path, "tap-a", ["x" * 5000, *map(record, range(50))])
    result = daykeep("dead-letters", "list", "--root", tmp_path)
    assert max(map(len, result.stdout.splitlines())) < 200
    assert result.stdout.count('"record"') == 3
    assert "  50: a record" in result.stdout


def test_json_has_every_letter_and_counts_undated_records(root: Path) -> None:
    (a, b) = told(root)
    assert [one["line"] for one in a["letters"][:2]] == [json.dumps(record(1)), json.dumps(record(2))]
    first = a["letters"][0]
    assert {**first, "at": ""} == {
        "day": first["at"][:10],
        "number": 1,
        "commit": 1,
        "at": "",
        "run": "20260101T000000Z-testtest",
        "stream": "things",
        "reason": "a record of stream `things` came before its SCHEMA",
        "line": json.dumps(record(1)),
    }
    assert (b["letters"], b["undated"]) == ([], {"events": 1})


def test_bytes_that_are_no_text_are_told_as_base64(tmp_path: Path) -> None:
    with open_writer(LocalStorage(tmp_path), "tap-a", run="r") as writer:
        archiver = Archiver(writer, Settings(), lambda _state: None)
        archiver.take([b"\xff\xfe"])
        archiver.finish()
    (a,) = told(tmp_path)
    assert base64.b64decode(a["letters"][0]["line_base64"]) == b"\xff\xfe"
    assert "\\xff\\xfe" in daykeep("dead-letters", "list", "--root", tmp_path).stdout


def test_source_stream_and_reason_choose(root: Path) -> None:
    assert [one["source"] for one in told(root, "tap-b")] == ["tap-b"]
    assert [one["stream"] for one in told(root, "tap-a", "--stream", "other")[0]["letters"]] == ["other"]
    assert [one["line"][:2] for one in told(root, "tap-a", "--reason", "not a Singer")[0]["letters"]] == ["Tr"]
    assert told(root, "--stream", "events")[0]["letters"] == []
    for command in ("list", "replay"):
        unknown = daykeep("dead-letters", command, "--stream", "evants", "--root", root)
        assert (unknown.returncode, "did you mean `events`?" in unknown.stderr) == (2, True)


def test_replay_archives_what_can_be_and_says_what_stays(root: Path) -> None:
    make_archive(root, "tap-a", [SCHEMA, record(3)])
    result = daykeep("dead-letters", "replay", "--root", root)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == "tap-a: archived things 2, already held 0"
    assert "  left 1: a record of stream `other` came before its SCHEMA" in result.stdout
    assert sorted(ids(root, "tap-a")) == [1, 2, 3]
    assert len(told(root, "tap-a")[0]["letters"]) == 2
    again = daykeep("dead-letters", "replay", "--root", root)
    assert "archived none" in again.stdout
    assert sorted(ids(root, "tap-a")) == [1, 2, 3]


def test_replay_follows_the_settings_of_the_target(tmp_path: Path) -> None:
    aside = {"TARGET_ARCHIVE_ON_BAD_RECORD": "dead_letter"}
    undated = {"type": "RECORD", "stream": "events", "record": {"id": 5, "on": "2024-01-02"}}
    lines = "\n".join(map(json.dumps, (EVENTS, undated)))
    tap = tmp_path / "tap-x"
    tap.write_text(f"#!/bin/sh\ncat <<'END'\n{lines}\nEND\n")
    tap.chmod(0o755)
    root = tmp_path / "root"
    assert daykeep("run", tap, "--root", root, env=aside).returncode == 1
    assert "left 1" in daykeep("dead-letters", "replay", "--root", root, env=aside).stdout
    result = daykeep("dead-letters", "replay", "--root", root, env={**aside, "TARGET_ARCHIVE_DAY_FIELD": "on"})
    assert result.stdout == "tap-x: archived events 1, already held 0\n"
    assert (root / "tap-x/events/2024-01-02.jsonl.gz").exists()


def test_replay_waits_for_no_run_that_is_writing(root: Path) -> None:
    with open_writer(LocalStorage(root), "tap-a", run="r"):
        assert daykeep("dead-letters", "replay", "--root", root).returncode == 11
        assert daykeep("dead-letters", "replay", "tap-b", "--root", root).returncode == 0, "it has none"
