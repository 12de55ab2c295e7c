"""Archives that earlier versions wrote: each is read, verified, continued and mended by today's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.target_archive.golden import make

from target_archive.archive import Archive
from target_archive.archiver import Archiver
from target_archive.commit import FORMAT
from target_archive.reading import open_log, read_commits
from target_archive.repair import repair
from target_archive.settings import Settings
from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

FORMATS = [f"format-{number}" for number in range(1, FORMAT + 1)]


@pytest.fixture(params=FORMATS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def root(name: str, tmp_path: Path) -> Path:
    shutil.copytree(make.HERE / name, tmp_path / name)
    return tmp_path / name


def noted(name: str) -> dict[str, Any]:
    views: dict[str, Any] = json.loads((make.HERE / f"{name}.json").read_text())
    return views


@pytest.mark.case("B12")
def test_its_views_are_what_they_were_as_of_every_commit(root: Path, name: str) -> None:
    assert make.views(root) == noted(name)


def test_it_is_as_it_was_written(root: Path) -> None:
    assert list(Archive(root, make.SOURCE).verify()) == []


def test_todays_writer_continues_it(root: Path, name: str) -> None:
    storage, before = LocalStorage(root), open_log(LocalStorage(root), make.SOURCE)
    stream = next(name for name, facts in before.streams.items() if facts.key_properties and facts.day_field)
    facts = before.streams[stream]
    day = before.days(stream)[0]
    archive = Archive(root, make.SOURCE)
    known, latest = archive.count(stream), archive.view(stream, day)
    schema = {"type": "SCHEMA", "stream": stream, "schema": facts.schema, "key_properties": list(facts.key_properties)}
    schema["bookmark_properties"] = list(facts.bookmark_properties)
    new = b'{"id":"new","at":"%sT10:00:00Z"}' % day.encode()
    records = [b'{"type":"RECORD","stream":"%s","record":%s}' % (stream.encode(), one) for one in [*latest, new]]
    with open_writer(storage, make.SOURCE, run="today") as writer:
        archiver = Archiver(writer, Settings(), lambda _: None)
        archiver.take([b'{"type":"STATE","value":{"bookmarks":{}}}', json.dumps(schema).encode(), *records])
        archiver.finish()
    after = Archive(root, make.SOURCE)
    assert (after.count(stream), after.view(stream, day)) == (known + 1, [*latest, new])
    assert after.log.pending == {}, "what a killed run has left is published"
    assert list(after.verify()) == []
    views = make.views(root)
    for place, was in noted(name).items():
        assert {seq: views[place][seq] for seq in was if seq != "head"} == {
            seq: view for seq, view in was.items() if seq != "head"
        }


def test_it_needs_no_mending_but_can_be(root: Path) -> None:
    storage = LocalStorage(root)
    assert repair(storage, make.SOURCE, run="r").mended == []
    file = next(file for file in open_log(storage, make.SOURCE).files if file.lines > 1)
    (root / open_log(storage, make.SOURCE).path(file)).unlink()
    (mended,) = repair(storage, make.SOURCE, run="r").mended
    assert mended.lost == file.lines
    assert list(Archive(root, make.SOURCE).verify()) == []


def test_the_one_of_todays_format_has_every_kind_of_commit() -> None:
    commits = [one for one, _ in read_commits(LocalStorage(make.HERE / FORMATS[-1]), make.SOURCE)]
    assert {one.kind for one in commits} == {"data", "publish", "repair", "pin", "acknowledge"}
    for field in ("gone", "same", "pins", "lost", "drift", "segments", "files", "streams"):
        assert any(getattr(one, field) for one in commits), field


@pytest.mark.parametrize("name", FORMATS)
def test_it_names_no_machine(name: str) -> None:
    assert (make.HERE / name / make.SOURCE / "_meta/lock").read_bytes() == b""
