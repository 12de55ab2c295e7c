"""`daykeep schema`, and what drift means for `daykeep run`, through the commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.daykeep.command import daykeep, make_archive, write_tap

from daykeep import runs
from target_archive.storage import LocalStorage

SCHEMA = {"properties": {"id": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}}}


def said(stream: str, *records: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    head = {"type": "SCHEMA", "stream": stream, "schema": SCHEMA, "key_properties": ["id"], **more}
    return [head, *({"type": "RECORD", "stream": stream, "record": one} for one in records)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sources; records of `visits` were drifting."""
    usual = [{"id": n, "at": "2024-03-01T00:00:00Z", "p": {"size": n}, "tags": [{"t": "a"}]} for n in range(40)]
    for one in usual[::4]:
        one["note"] = None
    make_archive(tmp_path, "tap-a", said("visits", *usual, bookmark_properties=["at"]))
    new = {"id": 100, "at": "2024-03-02T00:00:00Z", "p": {"size": "big\x1b[31m"}, "extra\x1b": {"y": 1}}
    make_archive(tmp_path, "tap-a", said("visits", new, bookmark_properties=["at"]))
    make_archive(tmp_path, "tap-b", said("things", {"id": 1}))
    make_archive(tmp_path, "tap-b", said("things", {"id": "x"}))
    return tmp_path


def as_json(*arguments: str | Path) -> Any:
    return json.loads(daykeep("schema", *arguments, "--json").stdout)


def test_show_tells_types_and_shares_of_every_field(root: Path) -> None:
    visits, things = as_json("show", "--root", root)
    assert (visits["source"], visits["stream"], things["stream"]) == ("tap-a", "visits", "things")
    fields = {field["field"]: field for field in visits["fields"]}
    assert list(fields)[:6] == ["id", "at", "p", "p.size", "tags", "tags[]"]
    assert fields["p.size"]["types"] == ["integer", "string"]
    assert fields["at"]["declared"] == ['format "date-time"', "string"]
    assert fields["id"]["presence"] == 1
    assert fields["note"]["presence"] == pytest.approx(10 / 41)
    assert (fields["note"]["nulls"], fields["tags[]"]["presence"], fields["tags[].t"]["presence"]) == (1, None, 1)
    assert (fields["note"]["last_seen"], fields["p"]["last_seen"]) == ("2024-03-01", "2024-03-02")
    assert fields["id"]["first_seen"] < fields['"extra\\u001b"']["first_seen"]


def test_show_draws_a_table_and_is_what_schema_does_without_a_word(root: Path) -> None:
    shown = daykeep("schema", "show", "--root", root).stdout
    assert "tags[].t" in shown
    assert "24.3%" in shown
    assert "\x1b" not in shown
    assert "things" not in daykeep("schema", "show", "--root", root, "--stream", "visits").stdout
    assert daykeep("schema", env={"DAYKEEP_ROOT": str(root)}).stdout == shown


def test_log_lists_changes_with_the_record_that_showed_them_first(root: Path) -> None:
    rows = as_json("log", "--root", root, "--stream", "visits")
    breaking = next(row for row in rows if row["severity"] == "breaking")
    assert (breaking["kind"], breaking["path"], breaking["day"], breaking["line"]) == (
        "type",
        "p.size",
        "2024-03-02",
        1,
    )
    assert (breaking["before"], breaking["after"]) == (["integer"], ["integer", "string"])
    assert (breaking["run"], breaking["acknowledged"], breaking["commit"]) == ("20260101T000000Z-testtest", False, 3)
    shown = daykeep("schema", "log", "--root", root).stdout
    assert "\x1b" not in shown
    assert "tap-b things: `id` was integer, is now also string" in shown
    assert all(line.startswith("! ") for line in shown.splitlines())


def test_ack_covers_what_was_seen_and_no_more(root: Path) -> None:
    assert daykeep("schema", "ack", "--root", root, "--source", "tap-a").stdout == "acknowledged: 2\n"
    assert daykeep("schema", "ack", "--root", root, "--stream", "visits").stdout == "acknowledged: 0\n"
    assert {row["source"]: row["acknowledged"] for row in as_json("log", "--root", root)} == {
        "tap-a": True,
        "tap-b": False,
    }
    make_archive(root, "tap-a", said("visits", {"id": 7.5, "at": "2024-03-03"}, bookmark_properties=["at"]))
    assert [row["acknowledged"] for row in as_json("log", "--root", root, "--source", "tap-a")] == [True, True, False]
    assert daykeep("verify", "--root", root).returncode == 0


def test_a_stream_that_is_not_there_is_a_plain_error(root: Path) -> None:
    for verb in ("show", "log", "ack"):
        ended = daykeep("schema", verb, "--root", root, "--stream", "visit")
        assert ended.returncode == 2
        assert "did you mean `visits`?" in ended.stderr
    assert daykeep("schema", "log", "--root", root / "none").returncode == 1


def test_an_archive_without_changes_says_so(tmp_path: Path) -> None:
    make_archive(tmp_path, "tap-a", said("visits", {"id": 1}))
    assert daykeep("schema", "log", "--root", tmp_path).stdout == "no changes\n"


@pytest.mark.case("R002-17")
def test_a_run_beyond_policy_archives_all_and_ends_with_4_until_it_is_acknowledged(tmp_path: Path) -> None:
    tap = write_tap(
        tmp_path,
        """
schema()
ids = [1, 2] if not given_state() else ["three", 4]
records(*ids)
state(len(ids) + bool(given_state()))
""",
    )
    root, env = tmp_path / "archive", {"TARGET_ARCHIVE_ON_DRIFT": '{"breaking": "fail"}'}
    run = ["run", str(tap), "--root", str(root)]
    assert daykeep(*run, env=env).returncode == 0
    drifted = daykeep(*run, env=env)
    assert drifted.returncode == 4
    assert "things (breaking): `id` was integer, is now also string" in drifted.stderr
    assert drifted.stderr.splitlines()[-1].startswith("daykeep: drift in ")
    assert sorted(daykeep("show", "things", "--root", root).stdout.split("\n")) == [
        "", '{"id": "three"}', '{"id": 1}', '{"id": 2}', '{"id": 4}',
    ]  # fmt: skip
    record = runs.last(LocalStorage(root), "tap-things")
    assert record
    assert (record.status, record.exit_status, record.target_exit) == ("drift", 4, 4)
    again = daykeep(*run, env=env)
    assert (again.returncode, "is now also string" in again.stderr) == (4, False)
    assert daykeep(*run).returncode == 0
    daykeep("schema", "ack", "--root", root)
    assert daykeep(*run, env=env).returncode == 0


@pytest.mark.parametrize("policy", ["loud", '{"loud": "fail"}', '{"warn"'])
def test_a_policy_that_does_not_exist_is_refused(tmp_path: Path, policy: str) -> None:
    tap = write_tap(tmp_path, "schema()")
    ended = daykeep("run", tap, "--root", tmp_path / "archive", env={"TARGET_ARCHIVE_ON_DRIFT": policy})
    assert ended.returncode == 2
    assert "setting `on_drift`" in ended.stderr
