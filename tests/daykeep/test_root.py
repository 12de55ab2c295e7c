"""Where the archive is looked for, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daykeep.root import find_root
from target_archive.errors import BadSettings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAYKEEP_ROOT", raising=False)


def project(folder: Path, loader: dict[str, Any]) -> None:
    plugins = {"loaders": [{"name": "target-jsonl"}, {"name": "target-archive", **loader}]}
    (folder / "meltano.yml").write_text(json.dumps({"plugins": plugins}))


def test_each_place_goes_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadSettings, match="no archive was named"):
        find_root(None)
    (tmp_path / "archive").mkdir()
    assert find_root(None).path == tmp_path / "archive"
    project(tmp_path, {"config": {"root": "of-project"}})
    assert find_root(None).path == tmp_path / "of-project"
    assert find_root(None).origin == str(tmp_path / "meltano.yml")
    monkeypatch.setenv("DAYKEEP_ROOT", "/of/environment")
    assert find_root(None).path == Path("/of/environment")
    assert find_root("/of/option").path == Path("/of/option")


def test_a_project_is_found_from_a_folder_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, {"settings": [{"name": "root", "value": "$MELTANO_PROJECT_ROOT/kept"}, {"name": "source"}]})
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    assert find_root(None).path == tmp_path / "kept"
    project(tmp_path, {"config": {"root": "relative"}})
    assert find_root(None).path == tmp_path / "relative"


def test_the_config_of_a_project_goes_before_the_default_and_is_filled_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "here")
    settings = [{"name": "root", "value": "default"}]
    project(tmp_path, {"settings": settings, "config": {"root": "/data/${WHERE}", "commit_max_seconds": 5}})
    found = find_root(None)
    assert found.path == Path("/data/here")
    assert found.settings == {"commit_max_seconds": 5}


def test_a_variable_without_a_value_is_an_error(tmp_path: Path) -> None:
    project(tmp_path, {"config": {"root": "$NO_SUCH_VARIABLE/x"}})
    with pytest.raises(BadSettings, match="NO_SUCH_VARIABLE"):
        find_root(None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "plugins:",
        "plugins: {loaders: 3}",
        "plugins: {loaders: [x]}",
        "plugins: {loaders: [{}]}",
        "plugins: {loaders: [{name: target-archive, config: 3}]}",
        "plugins: {loaders: [{name: target-archive, settings: [root]}]}",
    ],
)
def test_a_project_that_says_nothing_of_an_archive_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "meltano.yml").write_text(text)
    (tmp_path / "archive").mkdir()
    assert find_root(None).origin == "the current folder"


@pytest.mark.parametrize(
    "text",
    ["plugins: [", "a: !!python/object:os.system x"],
)
@pytest.mark.case("X6")
def test_a_project_file_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "meltano.yml").write_text(text)
    with pytest.raises(BadSettings, match=r"meltano\.yml"):
        find_root(None)
