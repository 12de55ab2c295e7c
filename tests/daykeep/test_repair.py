"""`repair` and `seal`, and what `verify` says before and after, through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.daykeep.command import dated_stream, daykeep, make_archive

from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

DAYS = ["2024-03-01", "2024-03-02"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_archive(tmp_path, "tap-a", dated_stream("visits", DAYS * 20, []))
    make_archive(tmp_path, "tap-b", dated_stream("orders", DAYS, []))
    return tmp_path


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-20])


@pytest.mark.case("A13")
def test_verify_names_what_repair_then_mends(root: Path) -> None:
    damage(root / "tap-a/visits/2024-03-01.jsonl.gz")
    (root / "tap-b/orders/notes.txt").write_text("mine")
    told = json.loads(daykeep("verify", "--root", root, "--json").stdout)
    assert [(one["source"], one["path"], one["problem"]) for one in told] == [
        ("tap-a", "tap-a/visits/2024-03-01.jsonl.gz", "is cut"),
        ("tap-b", "tap-b/orders/notes.txt", "is not in the commit log"),
    ]
    planned = daykeep("repair", "--root", root, "--dry-run")
    assert (planned.returncode, "nothing was touched" in planned.stdout) == (1, True)
    done = daykeep("repair", "--root", root, "--json")
    answer = json.loads(done.stdout)
    (mended,), (left,) = answer["mended"], answer["left"]
    assert (done.returncode, mended["source"], left["path"]) == (1, "tap-a", "tap-b/orders/notes.txt")
    assert (root / mended["saved"]).exists()
    assert daykeep("repair", "--root", root, "--strangers").returncode == 0
    assert daykeep("verify", "--root", root).stdout == "all is as it was written\n"
    again = daykeep("repair", "--root", root)
    assert (again.returncode, again.stdout) == (0, "all is as it was written\n")


def test_a_damaged_commit_record_leaves_everything_as_it_is_and_the_other_source_is_mended(root: Path) -> None:
    damage(root / "tap-a/_meta/commits/00000001.json")
    damage(root / "tap-a/visits/2024-03-01.jsonl.gz")
    damage(root / "tap-b/orders/2024-03-02.jsonl.gz")
    damaged = (root / "tap-a/visits/2024-03-01.jsonl.gz").read_bytes()
    ended = daykeep("repair", "--root", root)
    assert ended.returncode == 1
    assert "tap-a/_meta/commits/00000001.json: a commit record is damaged" in ended.stdout
    assert "nothing was touched" in ended.stdout
    assert (root / "tap-a/visits/2024-03-01.jsonl.gz").read_bytes() == damaged
    assert {one["source"] for one in json.loads(daykeep("verify", "--root", root, "--json").stdout)} == {"tap-a"}


@pytest.mark.parametrize("text", ['{"archive":', None, '{"archive":"daykeep","format":2,"source":"tap-c"}\n'])
def test_a_source_is_verified_and_mended_by_its_folder_whatever_its_format_file_says(
    root: Path, text: str | None
) -> None:
    path = root / "tap-a/_meta/format.json"
    before = path.read_bytes()
    path.unlink()
    if text is not None:
        path.write_text(text)
    told = daykeep("verify", "--root", root)
    assert (told.returncode, "tap-a/_meta/format.json: " in told.stdout) == (1, True)
    assert daykeep("repair", "--root", root, "--source", "tap-a").returncode == 0
    assert path.read_bytes() == before
    assert daykeep("verify", "--root", root).returncode == 0


def test_repair_and_seal_wait_for_no_other_writer(root: Path) -> None:
    with open_writer(LocalStorage(root), "tap-a", run="other"):
        for verb in ("repair", "seal"):
            assert daykeep(verb, "--root", root).returncode == 11


def test_seal_tells_what_it_has_saved(root: Path) -> None:
    for run in range(3):  # a member each
        said = dated_stream("visits", DAYS, [])
        said[1:] = [{**one, "record": {**one["record"], "run": run}} for one in said[1:-1]]
        make_archive(root, "tap-a", said)
    shown = daykeep("show", "visits", "--root", root).stdout
    assert daykeep("seal", "--root", root, "--older-than", "99999").stdout == "nothing to gain\n"
    sealed = json.loads(daykeep("seal", "--root", root, "--stream", "visits", "--json").stdout)
    assert [one["path"] for one in sealed] == [f"tap-a/visits/{day}.jsonl.gz" for day in DAYS]
    assert all((root / one["path"]).stat().st_size == one["after"] < one["before"] for one in sealed)
    assert daykeep("show", "visits", "--root", root).stdout == shown
    assert daykeep("verify", "--root", root).returncode == 0
    assert daykeep("seal", "--root", root, "--older-than", "soon").returncode == 2
    assert daykeep("seal", "--root", root, "--stream", "visit").returncode == 2


def test_no_source_and_no_archive_are_told(root: Path, tmp_path: Path) -> None:
    assert "did you mean `tap-a`" in daykeep("verify", "--root", root, "--source", "tap-aa").stderr
    (tmp_path / "empty").mkdir()
    for verb in ("verify", "repair"):
        ended = daykeep(verb, "--root", tmp_path / "empty")
        assert (ended.returncode, "no archive here" in ended.stderr) == (1, True)
