"""Reading an archive, also while it is being written, and from the written format alone."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_archive import writer as writing
from target_archive.archive import Archive, sources
from target_archive.archiver import Archiver
from target_archive.errors import FormatError
from target_archive.settings import Settings
from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

SCHEMA = (
    b'{"type":"SCHEMA","stream":"s","schema":{"properties":{"t":{"format":"date-time"}}},'
    b'"key_properties":["id"],"bookmark_properties":["t"]}'
)


def record(number: int) -> bytes:
    return b'{"id":%d,"t":"2024-05-%02dT00:00:00Z","v":1.10}' % (number, 1 + number % 28)


def message(number: int) -> bytes:
    return b'{"type":"RECORD","stream":"s","record":%s}' % record(number)


def archive_all(root: Path, messages: list[bytes], *, commit_every: int = 10**9, source: str = "tap") -> None:
    with open_writer(LocalStorage(root), source, run="r") as writer:
        archiver = Archiver(writer, Settings(commit_max_records=commit_every), lambda _: None)
        for one in messages:
            archiver.take([one])
            archiver.commit_if_due()
        archiver.finish()


def held(root: Path, source: str = "tap") -> Counter[bytes]:
    return Counter(Archive(root, source).lines("s"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=40), st.lists(st.integers(1, 40), max_size=3), st.integers(1, 10))
def test_however_runs_are_split_the_archive_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], cuts: list[int], every: int
) -> None:
    whole, split = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("split")
    archive_all(whole, [SCHEMA, *map(message, numbers)])
    edges = [0, *sorted(cuts), len(numbers)]
    for begin, end in pairwise(edges):
        archive_all(split, [SCHEMA, *map(message, numbers[begin:end])], commit_every=every)
    archive_all(split, [SCHEMA])
    assert held(whole) == held(split) == Counter(map(record, set(numbers)))
    assert Archive(split, "tap").count("s") == len(set(numbers))


def test_a_stream_that_loses_its_key_in_mid_run_keeps_every_copy(tmp_path: Path) -> None:
    keyless = SCHEMA.replace(b'["id"]', b"[]")
    archive_all(tmp_path, [SCHEMA, message(1), keyless, message(1), message(1)], commit_every=1)
    assert held(tmp_path) == Counter({record(1): 3})


def test_a_day_past_the_size_of_a_part_goes_on_in_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PART_SIZE", 50)
    for number in range(0, 28 * 4, 28):
        archive_all(tmp_path, [SCHEMA, message(number)])
    names = sorted(path.name for path in (tmp_path / "tap/s").iterdir())
    assert names == [f"2024-05-01{part}.jsonl.gz" for part in ("", ".p002", ".p003", ".p004")]
    assert list(Archive(tmp_path, "tap").lines("s", "2024-05-01")) == [record(number) for number in range(0, 112, 28)]
    archive_all(tmp_path, [SCHEMA, *(message(number) for number in range(0, 112, 28))])
    assert len(held(tmp_path)) == 4
    assert Archive(tmp_path, "tap").count("s") == 4
    archive_all(tmp_path, [SCHEMA, message(1), message(29)])
    archive_all(tmp_path, [SCHEMA, message(57)])
    assert Archive(tmp_path, "tap").log.lines_of("s", "2024-05-02") == 3


def test_a_reader_sees_whole_days_while_a_writer_commits_and_publishes(tmp_path: Path) -> None:
    archive_all(tmp_path, [SCHEMA, message(0)])
    seen: list[int] = []
    problems: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        archive = Archive(tmp_path, "tap")
        while not done.is_set():
            try:
                lines = list(archive.lines("s", "2024-05-01"))
                assert lines == [record(28 * number) for number in range(len(lines))]
                seen.append(len(lines))
                archive = Archive(tmp_path, "tap")
            except Exception as error:  # noqa: BLE001 - it is looked at below
                problems.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(28, 28 * 60, 28):
        archive_all(tmp_path, [SCHEMA, message(number)])
    done.set()
    reader.join()
    assert problems == []
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


def test_sources_keep_their_names_however_odd(tmp_path: Path) -> None:
    names = ["tap-x@acme", "../up", "Ü" * 100, "CON"]
    for name in names:
        archive_all(tmp_path, [SCHEMA, message(1)], source=name)
    (tmp_path / "a file").write_text("")
    (tmp_path / "a folder").mkdir()
    assert sources(tmp_path) == sorted(names)
    for name in names:
        assert held(tmp_path, name) == Counter([record(1)])
    assert all(path.resolve().is_relative_to(tmp_path.resolve()) for path in tmp_path.rglob("*"))


def test_what_is_no_archive_or_a_newer_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no archive here"):
        sources(tmp_path)
    archive_all(tmp_path, [SCHEMA, message(1)])
    for text, words in (('{"archive":"daykeep","format":3,"source":"tap"}', "format 3"), ("{}", "not an archive")):
        (tmp_path / "tap/_meta/format.json").write_text(text)
        with pytest.raises(FormatError, match=words):
            archive_all(tmp_path, [SCHEMA])
    commit = tmp_path / "tap/_meta/commits/00000001.json"
    body = json.dumps({**json.loads(commit.read_text().splitlines()[0]), "format": 3})
    commit.write_text(f"{body}\n{hashlib.sha256(body.encode()).hexdigest()}\n")
    with pytest.raises(FormatError, match="format 3"):
        Archive(tmp_path, "tap")


def test_a_stranger_can_read_the_archive_by_its_written_format(tmp_path: Path) -> None:
    """Follows FORMAT.md with the standard library alone, an archive with published and pending data."""
    archive_all(tmp_path, [SCHEMA, *map(message, range(40))], commit_every=10)
    with open_writer(LocalStorage(tmp_path), "tap", run="r") as writer:
        archiver = Archiver(writer, Settings(), lambda _: None)
        archiver.take([SCHEMA, *map(message, range(40, 60))])
        writer.commit(None)
    meta = tmp_path / "tap/_meta"
    through: dict[tuple[str, str], int] = {}
    files: dict[tuple[str, str, int], dict[str, Any]] = {}
    pending: dict[tuple[str, str], list[tuple[int, dict[str, Any]]]] = {}
    folders: dict[str, str] = {}
    prev = ""
    for number, path in enumerate(sorted((meta / "commits").glob("*.json")), 1):
        body, digest = path.read_bytes().splitlines()
        commit = json.loads(body)
        assert digest.decode() == hashlib.sha256(body).hexdigest()
        assert (commit["seq"], commit["prev"]) == (number, prev)
        prev = digest.decode()
        folders |= {name: facts["folder"] for name, facts in commit.get("streams", {}).items()}
        for one in commit.get("segments", []):
            pending.setdefault((one["stream"], one["day"]), []).append((number, one))
        for one in commit.get("files", []):
            files[one["stream"], one["day"], one["part"]] = one
            through[one["stream"], one["day"]] = one["through"]
    lines: list[bytes] = []
    for (stream, _, _), one in sorted(files.items()):
        data = (tmp_path / "tap" / folders[stream] / one["name"]).read_bytes()[: one["size"]]
        assert hashlib.sha256(data).hexdigest() == one["sha256"]
        lines += gzip.decompress(data).splitlines()
    for key, segments in pending.items():
        for number, one in segments:
            if number > through.get(key, 0):
                pack = (meta / f"packs/{number:08d}.pack").read_bytes()
                lines += gzip.decompress(pack[one["offset"] : one["offset"] + one["size"]]).splitlines()
    assert Counter(lines) == Counter(map(record, range(60)))
