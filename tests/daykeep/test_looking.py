"""`status`, `show`, `gaps`, `verify` and `completion` on real archives, through the command."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.daykeep.command import BIN, dated_stream, daykeep, environment, make_archive

DAYS = ["2024-03-01", "2024-03-01", "2024-03-02", "2024-03-05"]
ODD = b'{"at": "2024-03-02T01:00:00Z",  "u": "\\u0000\xc3\xa9\xe2\x80\xa8", "n": 1.10}'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sources; `visits` is proved from the 1st to the 4th of March 2024, and has gaps behind that."""
    make_archive(tmp_path, "tap-a", dated_stream("visits", DAYS, [("2024-03-01", "2024-03-04")]))
    schema = {"type": "object", "properties": {"id": {}}}
    make_archive(
        tmp_path,
        "tap-b",
        [
            {"type": "SCHEMA", "stream": "things", "schema": schema, "key_properties": []},
            {"type": "RECORD", "stream": "things", "record": {"id": 1}},
            "garbage",
        ],
    )
    return tmp_path


def status_of(root: Path, *options: str) -> Any:
    return json.loads(daykeep("status", "--root", root, "--json", *options).stdout)


def test_status_as_json_tells_what_is_held(root: Path) -> None:
    a, b = status_of(root)
    assert (a["source"], b["source"], a["dead_letters"], b["dead_letters"]) == ("tap-a", "tap-b", 0, 1)
    visits = a["streams"][0]
    assert (visits["records"], visits["days"], visits["undated"]) == (4, 3, 0)
    assert (visits["first"], visits["last"]) == ("2024-03-01", "2024-03-05")
    assert visits["calendar"]["2024-03-03"] == "empty"
    assert visits["calendar"]["2024-03-05"] == "partial"
    assert (visits["frontier"], visits["proved_until"]) == ("2024-03-01", "2024-03-03")
    closed = sum(visits["statuses"].values()) - visits["statuses"].get("open", 0)
    assert visits["coverage"] == 3 / closed
    assert a["last_run"] == {
        "run": "20260101T000000Z-testtest", "ended": a["last_run"]["ended"], "status": "not recorded", "error": "",
    }  # fmt: skip


def test_a_snapshot_of_today_proves_nothing_until_the_day_is_over(root: Path) -> None:
    things = status_of(root, "--source", "tap-b")[0]["streams"][0]
    assert (things["records"], things["days"], things["coverage"], things["frontier"]) == (1, 1, None, None)
    assert list(things["calendar"].values()) == ["open"]


def test_a_log_of_what_happened_has_days_but_no_calendar(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"id": {}}, "x-daykeep-mode": "event"}
    said = [
        {"type": "SCHEMA", "stream": "requests", "schema": schema, "key_properties": ["id"]},
        {"type": "RECORD", "stream": "requests", "record": {"id": 1}},
    ]
    make_archive(tmp_path, "tap-a", said)
    found = status_of(tmp_path)[0]["streams"][0]
    assert (found["days"], found["coverage"], found["statuses"], found["calendar"]) == (1, None, {}, {})
    assert "Jan" not in daykeep("status", "--root", tmp_path).stdout
    assert daykeep("gaps", "--root", tmp_path).stdout == "no gaps\n"


def test_status_on_a_pipe_is_plain_text_with_a_calendar(root: Path) -> None:
    shown = daykeep("status", "--root", root).stdout
    assert "\x1b" not in shown
    assert "2024 Jan" in shown
    assert "■" in shown
    assert "▣" in shown
    assert "dead letters: 1" in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert "2024 Jan" not in daykeep("status", "--root", root, "--no-calendar").stdout
    assert "things" not in daykeep("status", "--root", root, "--stream", "visits").stdout


def test_coverage_is_not_rounded_up_to_all(tmp_path: Path) -> None:
    claims = [("1990-01-01", "2020-01-01"), ("2020-01-02", "2999-01-01")]
    make_archive(tmp_path, "tap-a", dated_stream("visits", ["2000-01-01"], claims))
    assert "99.9%" in daykeep("status", "--root", tmp_path).stdout


@pytest.mark.case("A14")
def test_a_source_that_cannot_be_read_does_not_hide_the_others(root: Path) -> None:
    commit = root / "tap-a/_meta/commits/00000001.json"
    commit.write_bytes(commit.read_bytes()[:-10])
    ended = daykeep("status", "--root", root)
    assert ended.returncode == 1
    assert "00000001.json" in ended.stdout
    assert "things" in ended.stdout
    assert status_of(root)[0]["problem"]
    findings = json.loads(daykeep("verify", "--root", root, "--json").stdout)
    assert [finding["source"] for finding in findings] == ["tap-a"]


def test_show_prints_the_bytes_as_they_are(tmp_path: Path) -> None:
    said = dated_stream("visits", [], [])[:1]
    line = b'{"type":"RECORD","stream":"visits","record":' + ODD + b"}"
    make_archive(tmp_path, "tap-a", [*said, line.decode(), *dated_stream("visits", ["2024-03-01"], [])[1:2]])
    command = [str(BIN / "daykeep"), "show", "visits", "--root", str(tmp_path)]
    day = subprocess.run([*command, "--day", "2024-03-02"], capture_output=True, check=True, env=environment())
    assert day.stdout == ODD + b"\n"
    everything = subprocess.run(command, capture_output=True, check=True, env=environment())
    assert everything.stdout.splitlines(keepends=True)[-1] == ODD + b"\n"
    assert everything.stdout.count(b"\n") == 2


def test_show_ends_quietly_when_its_reader_has_seen_enough(tmp_path: Path) -> None:
    make_archive(tmp_path, "tap-a", dated_stream("visits", ["2024-03-01"] * 50_000, []))
    process = subprocess.Popen(
        [BIN / "daykeep", "show", "visits", "--root", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait() == 0


def test_a_full_standard_output_is_an_error(root: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [str(BIN / "daykeep"), "show", "visits", "--root", str(root)]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, env=environment())
    assert ended.returncode == 1
    assert b"No space left" in ended.stderr
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["visit"], "did you mean `visits`?"),
        (["nothing-like-it"], "known are things, visits"),
        (["visits", "--source", "tap-x"], "did you mean `tap-"),
        (["visits", "--day", "2024-03-04"], "nearest: 2024-03-02 and 2024-03-05"),
        (["visits", "--day", "1999-01-01"], "nearest: 2024-03-01"),
        (["visits", "--day", "yesterday"], "not a day"),
    ],
)
def test_what_show_does_not_find_is_told_with_what_is_near(root: Path, arguments: list[str], words: str) -> None:
    ended = daykeep("show", "--root", root, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_day_that_is_proved_empty_shows_nothing(root: Path) -> None:
    ended = daykeep("show", "visits", "--root", root, "--day", "2024-03-03")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_show_asks_for_the_source_only_where_it_must(root: Path) -> None:
    assert daykeep("show", "things", "--root", root).stdout == '{"id": 1}\n'
    make_archive(root, "tap-c", dated_stream("visits", ["2024-04-01"], []))
    ended = daykeep("show", "visits", "--root", root)
    assert ended.returncode == 2
    assert "tap-a, tap-c" in ended.stderr
    assert daykeep("show", "visits", "--root", root, "--source", "tap-c").stdout.count("\n") == 1


def test_gaps_are_told_in_words_and_as_json(root: Path) -> None:
    ended = daykeep("gaps", "--root", root)
    assert ended.returncode == 0
    unproved = "records are held, but no run has proved the days complete"
    assert f"tap-a visits: 2024-03-05: partial: {unproved}\n" in ended.stdout
    gaps = json.loads(daykeep("gaps", "--root", root, "--json").stdout)
    proved_not = {
        "source": "tap-a", "stream": "visits", "first": "2024-03-05", "last": "2024-03-05", "days": 1,
        "status": "partial", "cause": "", "reason": unproved, "commit": 0, "evidence": None,
    }  # fmt: skip
    assert proved_not in gaps
    yesterday = (datetime.now(UTC).date() - timedelta(days=1)).isoformat()
    assert (gaps[-1]["first"], gaps[-1]["last"]) == ("2024-03-06", yesterday), "nobody has looked since"
    assert daykeep("gaps", "--root", root, "--source", "tap-b").stdout == "no gaps\n"
    assert daykeep("gaps", "--root", root, "--stream", "visit").returncode == 2


@pytest.mark.case("02-3.4")
def test_a_gap_names_its_cause_and_the_evidence_that_can_be_looked_up(tmp_path: Path) -> None:
    said = dated_stream("visits", ["2024-03-01"], [("2024-03-01", "2024-03-02")])
    requests = [
        {"request": "1f", "method": "GET", "url": f"http://api/{page}\x1b[2J", "reason": "status 500", "status": 500}
        for page in range(5)
    ]
    failed = {"status": "partial", "evidence": {"reason": "status 500", "given_up": requests}}
    lost = {"status": "complete", "from": "2024-03-08", "to": "2024-03-10", "lost": "2024-03-06"}
    said[-1]["value"]["claims"]["visits"] += [{"from": "2024-03-03", "to": "2024-03-05", **failed}, lost]
    make_archive(tmp_path, "tap-a", said)
    shown = daykeep("gaps", "--root", tmp_path).stdout.splitlines()
    commit = "[commit 1, run 20260101T000000Z-testtest]"
    assert shown[:6] == [
        "tap-a visits: 2024-03-02: unknown: no run has covered these days",
        f"tap-a visits: 2024-03-03 to 2024-03-04, 2 days: failed (transient): status 500 {commit}",
        *[f"  GET http://api/{page}\\x1b[2J: status 500" for page in range(3)],
        "  and 2 more requests",
    ]
    assert f"tap-a visits: 2024-03-06 to 2024-03-07, 2 days: unavailable (retention): retention {commit}" in shown
    told = json.loads(daykeep("gaps", "--root", tmp_path, "--json").stdout)[1]
    assert (told["status"], told["cause"], told["commit"]) == ("failed", "transient", 1)
    assert told["evidence"]["run"] == "20260101T000000Z-testtest"
    assert [one["status"] for one in told["evidence"]["requests"]] == [500] * 5
    counts = status_of(tmp_path)[0]["streams"][0]["statuses"]
    assert (counts["present"], counts["empty"], counts["failed"], counts["unavailable"]) == (1, 2, 2, 2)
    calendar = daykeep("status", "--root", tmp_path).stdout
    assert all(mark in calendar for mark in ("✗ failed", "▽ not to be had", "□ unknown", "■ proved"))


@pytest.mark.case("A13")
def test_verify_finds_a_flipped_byte(root: Path) -> None:
    ended = daykeep("verify", "--root", root)
    assert (ended.returncode, ended.stdout) == (0, "all is as it was written\n")
    path = root / "tap-a/visits/2024-03-02.jsonl.gz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    ended = daykeep("verify", "--root", root)
    assert ended.returncode == 1
    assert "tap-a/visits/2024-03-02.jsonl.gz: " in ended.stdout
    assert json.loads(daykeep("verify", "--root", root, "--json").stdout)[0]["source"] == "tap-a"


def test_no_archive_is_told_with_where_it_was_looked_for(tmp_path: Path) -> None:
    for verb in ("status", "gaps", "verify"):
        ended = daykeep(verb, env={"DAYKEEP_ROOT": str(tmp_path / "none")})
        assert ended.returncode == 1
        assert "from DAYKEEP_ROOT" in ended.stderr
        assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["run", "status", "show", "gaps", "verify", "completion"])
def test_every_verb_has_help(verb: str) -> None:
    assert f"Usage: daykeep {verb}" in daykeep(verb, "-h").stdout


def test_usage_errors_and_the_version() -> None:
    assert daykeep("--version").stdout.startswith("daykeep")
    assert daykeep("no-such-verb").returncode == 2
    assert daykeep("show").returncode == 2


def test_the_shell_completes_verbs_sources_and_streams(root: Path) -> None:
    def completed(*words: str) -> list[str]:
        env = {"_DAYKEEP_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(["daykeep", *words])}
        env |= {"COMP_CWORD": str(len(words)), "DAYKEEP_ROOT": str(root)}
        return [line.partition(",")[2] for line in daykeep(env=env).stdout.splitlines()]

    assert completed("st") == ["status"]
    assert completed("show", "vi") == ["visits"]
    assert completed("status", "--source", "tap-") == ["tap-a", "tap-b"]
    assert "_DAYKEEP_COMPLETE=bash_complete" in daykeep("completion", "bash").stdout


@pytest.mark.case("X14")
def test_a_hostile_stream_name_does_not_steer_the_terminal(tmp_path: Path) -> None:
    make_archive(tmp_path, "tap-a", dated_stream("a\x1b[2J[red]b", ["2024-03-01"], []))
    for verb in ("status", "gaps"):
        shown = daykeep(verb, "--root", tmp_path).stdout
        assert "\x1b" not in shown
        assert "a\\x1b[2J[red]b" in shown


def test_the_same_calendar_in_an_old_locale(root: Path) -> None:
    ended = daykeep("status", "--root", root, env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert ended.returncode == 0, ended.stderr
