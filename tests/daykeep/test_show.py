"""`show`, `revisions`, `diff` and `pin` on a day that was read several times, and the page that tells of them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.daykeep.command import daykeep
from tests.target_archive.rereading import DAY, Source

from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

PAGE = Path(__file__).parent.parent.parent / "docs/reading.md"


def sale(shop: str, sold: int, revenue: str) -> bytes:
    return f'{{"shop":"{shop}","at":"2024-05-01T21:00:00Z","sold":{sold},"revenue":{revenue}}}'.encode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The day of the page: read the morning after, corrected a day later, and cut short by the API in June."""
    source = Source(tmp_path, keys=("shop",), stream="sales")
    first = [
        sale("berlin", 12, "119.80"),
        sale("oslo", 7, "69.93"),
        sale("rome", 9, "90.10"),
        sale("paris", 3, "30.00"),
    ]
    source.read("2024-05-02T06:00:00", first)
    source.read("2024-05-03T06:00:00", [first[0], sale("oslo", 7, "59.93"), *first[2:]])
    source.read("2024-05-04T06:00:00", [first[0], sale("oslo", 7, "59.93"), *first[2:]])
    source.read("2024-06-10T06:00:00", [first[0], sale("madrid", 1, "10.00")])
    return tmp_path


def shown(root: Path, *options: str) -> list[str]:
    ended = daykeep("show", "sales", "--root", root, *options)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.splitlines()


def shops(root: Path, *options: str) -> list[str]:
    return sorted(json.loads(line)["shop"] for line in shown(root, *options))


def revisions(root: Path, stream: str = "sales", day: str = DAY) -> Any:
    return json.loads(daykeep("revisions", stream, "--day", day, "--root", root, "--json").stdout)


@pytest.mark.case("02-3.1")
def test_show_gives_the_day_as_it_stands_as_it_stood_and_as_it_began(root: Path) -> None:
    assert shops(root) == shops(root, "--day", DAY) == ["berlin", "madrid"]
    assert shops(root, "--as-of", "2024-05-05") == ["berlin", "oslo", "paris", "rome"]
    assert sale("oslo", 7, "69.93").decode() in shown(root, "--as-of", "2024-05-02T08:00:00+02:00")
    assert sale("oslo", 7, "59.93").decode() in shown(root, "--as-of", "2024-05-03T06:00:00Z")
    assert sale("oslo", 7, "69.93").decode() in shown(root, "--first")
    assert shops(root, "--first") == ["berlin", "madrid", "oslo", "paris", "rome"]
    assert len(shown(root, "--all-versions")) == 6
    assert len(shown(root, "--all-versions", "--limit", "4")) == 4
    assert shown(root, "--limit", "0") == shown(root, "--as-of", "0") == []


def test_every_version_as_json_has_its_place_and_its_times(root: Path) -> None:
    versions = [json.loads(line) for line in shown(root, "--all-versions", "--json")]
    oslo = [one for one in versions if one["record"]["shop"] == "oslo"]
    assert oslo[0] == {
        "day": DAY,
        "line": 2,
        "commit": 1,
        "at": "2024-05-02T06:00:00.000Z",
        "gone": None,
        "record": json.loads(sale("oslo", 7, "69.93")),
    }
    assert (oslo[1]["line"], oslo[1]["at"][:10], oslo[1]["gone"]) == (5, "2024-05-03", "2024-06-10T06:00:00.000Z")


@pytest.mark.case("02-3.3")
def test_a_policy_chooses_the_revision(root: Path) -> None:
    assert shops(root, "--head-policy", "latest_complete") == ["berlin", "oslo", "paris", "rome"]
    assert shops(root, "--head-policy", "max_rows") == ["berlin", "oslo", "paris", "rome"]
    assert shown(root, "--head-policy", "pinned") == []


def test_days_that_no_complete_read_has_proved_are_told_by_latest_complete(tmp_path: Path) -> None:
    source = Source(tmp_path)
    source.read("2024-05-02T06:00:00", [{"id": 1, "at": "2024-05-01T00:00:00Z"}], claimed=False)
    ended = daykeep("show", "s", "--root", tmp_path, "--head-policy", "latest_complete")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == ("daykeep: left out, for want of a revision that is complete and not suspect: 2024-05-01\n")


@pytest.mark.case("02-3.3")
def test_a_pin_is_a_commit_that_can_be_taken_back(root: Path) -> None:
    found = revisions(root)
    assert [(one["number"], one["rows"], bool(one["suspect"])) for one in found] == [
        (1, 4, False),
        (2, 4, False),
        (3, 2, True),
    ]
    for choice in (["--revision", "1"], ["--as-of", "2024-05-02"], ["--as-of", str(found[0]["commit"])]):
        ended = daykeep("pin", "sales", DAY, *choice, "--root", root)
        assert ended.stdout == f"sales {DAY}: pinned to commit 1\n"
        assert sale("oslo", 7, "69.93").decode() in shown(root)
        assert [one["pinned"] for one in revisions(root)] == [True, False, False]
    assert shops(root, "--as-of", "2024-12-31") == ["berlin", "madrid"]
    commits = list((root / "tap/_meta/commits").iterdir())
    assert daykeep("pin", "sales", DAY, "--clear", "--root", root).stdout == f"sales {DAY}: not pinned\n"
    assert shops(root) == ["berlin", "madrid"]
    daykeep("pin", "sales", DAY, "--clear", "--root", root)
    assert len(list((root / "tap/_meta/commits").iterdir())) == len(commits) + 1  # what is so already is not told again


def test_a_pin_waits_for_no_run(root: Path) -> None:
    with open_writer(LocalStorage(root), "tap", run="run"):
        ended = daykeep("pin", "sales", DAY, "--revision", "1", "--root", root)
    assert (ended.returncode, ended.stdout) == (11, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pin", "sales", DAY], "--revision, --as-of and --clear"),
        (["pin", "sales", DAY, "--clear", "--revision", "1"], "--revision, --as-of and --clear"),
        (["pin", "sales", DAY, "--revision", "9"], "no such revision"),
        (["pin", "sales", DAY, "--as-of", "2023-01-01"], "no such revision"),
        (["pin", "sales", "2024-07-01", "--revision", "1"], "nearest: 2024-05-01"),
        (["pin", "sails", DAY, "--clear"], "did you mean `sales`"),
        (["revisions", "sales", "--day", "2024-07-01"], "nearest: 2024-05-01"),
        (["diff", "sales", "2024-07-01", "1"], "nearest: 2024-05-01"),
        (["diff", "sales", DAY, "soon"], "`soon` is not a time"),
        (["diff", "sales", DAY, "1", "99"], "there is no commit 99"),
        (["show", "sales", "--as-of", "2024-13-01"], "is not a time"),
        (["show", "sales", "--first", "--all-versions"], "use one"),
        (["show", "sales", "--first", "--head-policy", "max_rows"], "use one"),
        (["show", "sales", "--json"], "--all-versions"),
    ],
)
def test_what_cannot_be_answered_is_told_in_a_line(root: Path, arguments: list[str], words: str) -> None:
    ended = daykeep(*arguments, "--root", root)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_the_snapshot_of_a_day_that_was_not_stored_again_cannot_be_pinned(tmp_path: Path) -> None:
    source = Source(tmp_path, mode="snapshot", bookmarks=())
    for day in ("2024-05-02", "2024-05-03"):
        source.read(f"{day}T06:00:00", [{"id": 1}], start=None, end=f"{day}T06:00:00Z")
    ended = daykeep("pin", "s", "2024-05-03", "--revision", "1", "--root", tmp_path)
    assert ended.returncode == 2
    assert "pin that day" in ended.stderr
    assert daykeep("show", "s", "--root", tmp_path).stdout == '{"id": 1}\n' * 2
    assert "the same as 2024-05-02" in daykeep("revisions", "s", "--day", "2024-05-03", "--root", tmp_path).stdout
    assert daykeep("diff", "s", "2024-05-03", "2024-05-03", "--root", tmp_path).stdout == "no difference\n"


def test_a_difference_as_json_has_the_bytes_as_archived(root: Path) -> None:
    told = daykeep("diff", "sales", DAY, "2024-05-02", "2024-05-03", "--json", "--root", root).stdout
    assert '"before":69.93,"after":59.93' in told
    assert json.loads(told) == {
        "added": [],
        "removed": [],
        "changed": [{"key": {"shop": "oslo"}, "fields": [{"path": "revenue", "before": 69.93, "after": 59.93}]}],
    }


def test_what_a_stranger_wrote_does_not_steer_the_terminal(tmp_path: Path) -> None:
    source = Source(tmp_path)
    source.read("2024-05-02T06:00:00", [b'{"id":1,"at":"2024-05-01T00:00:00Z","\\u001b[2J":"a"}'])
    source.read("2024-05-03T06:00:00", [b'{"id":1,"at":"2024-05-01T00:00:00Z","\\u001b[2J":"\xc2\x9bb"}'])
    source.read("2024-05-04T06:00:00", [b'{"id":1,"at":"2024-05-01T00:00:00Z"}'])
    for arguments in (["diff", "s", DAY, "2024-05-02"], ["diff", "s", DAY, "1", "3"], ["revisions", "s", "--day", DAY]):
        said = daykeep(*arguments, "--root", tmp_path).stdout
        assert said.replace("\n", "").isprintable()
        assert "[2J" in said


def test_the_page_on_reading_shows_what_the_commands_print(root: Path) -> None:
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    said = [one for block in blocks for one in re.split(r"^\$ ", block, flags=re.MULTILINE) if one]
    assert len(said) > 8
    for one in said:
        command, _, expected = one.partition("\n")
        name, *arguments = shlex.split(command)
        ended = daykeep(*arguments, "--root", root)
        assert (name, ended.stderr) == ("daykeep", "")
        assert [line.rstrip() for line in ended.stdout.splitlines()] == expected.splitlines(), command
