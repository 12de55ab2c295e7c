"""`tap-archive`: what an archive holds goes into any target, byte for byte, and the next time only what has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.daykeep.command import BIN, WAIT_SECONDS, daykeep, environment, make_archive
from tests.target_archive import stores
from tests.target_archive.rereading import Source

from target_archive import layout
from target_archive.archive import Archive
from target_archive.archiver import Archiver
from target_archive.settings import Settings
from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

DAYS = [{"id": day, "at": f"2024-05-{day:02d}T10:00:00Z"} for day in range(1, 6)]


def tap(root: Path | str, *options: str | Path, **config: Any) -> subprocess.CompletedProcess[bytes]:
    command = [BIN / "tap-archive", "--config", json.dumps({"root": str(root), **config}), *options]
    return subprocess.run(command, capture_output=True, check=False, env=environment(), timeout=WAIT_SECONDS)


def said(root: Path, *options: str | Path, state: Any = None, **config: Any) -> list[bytes]:
    """The lines of a replay from a STATE on."""
    if state is not None:
        path = root.with_name("state.json")
        path.write_text(json.dumps(state))
        options = (*options, "--state", path)
    ended = tap(root, *options, **config)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def ids(lines: Sequence[bytes]) -> list[Any]:
    messages = [json.loads(line) for line in lines]
    return [one["record"]["id"] for one in messages if one["type"] == "RECORD"]


def last_state(lines: Sequence[bytes]) -> Any:
    return json.loads(lines[-1])["value"]


def archived(lines: Sequence[bytes], root: Path) -> None:
    """What was replayed, as `target-archive` takes it."""
    settings = json.dumps({"root": str(root), "source": "tap"})
    command, given = [str(BIN / "target-archive"), "--config", settings], b"\n".join([*lines, b""])
    ended = subprocess.run(
        command, input=given, capture_output=True, check=False, env=environment(), timeout=WAIT_SECONDS
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] in lines[-1]


def views(root: Path) -> dict[tuple[str, str], list[bytes]]:
    archive = Archive(root, "tap")
    days = [(stream, day) for stream in archive.streams() for day in [*archive.days(stream), layout.UNDATED]]
    return {(stream, day): view for stream, day in days if (view := archive.view(stream, day))}


def read(root: Path, stream: str, at: str, *records: dict[str, Any] | bytes, keys: Sequence[str] = ("id",)) -> None:
    Source(root, stream=stream, keys=keys, mode="changelog").read(at, records, claimed=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Streams with and without a key, changed, repeated, undated, and filed as nobody but the target was told."""
    root = tmp_path / "original"
    odd = b'{"id" : 7,"at":"2024-05-01T00:00:00Z", "x":1.10,"x":1e400, "t":"\\u00e9\xc3\xa9"}'
    read(root, "keyed", "2024-05-06T00:00:00", *DAYS, odd, {"id": 8, "at": "never"})
    read(root, "keyed", "2024-05-07T00:00:00", {**DAYS[0], "new": 1}, {**DAYS[1], "new": 1})
    read(root, "keyed", "2024-05-08T00:00:00", DAYS[0])
    copies = [{"id": 1, "at": "2024-05-01T10:00:00Z"}] * 3
    read(root, "keyless", "2024-05-06T00:00:00", *copies, DAYS[1], keys=())
    told = {"type": "SCHEMA", "stream": "tokyo/x", "schema": {"properties": {}}, "key_properties": ["id"]}
    record = {"type": "RECORD", "stream": "tokyo/x", "record": {"id": 1, "when": "2024-05-01T20:00:00Z"}}
    with open_writer(LocalStorage(root), "tap", run="run") as writer:
        asked = Settings(root=str(root), source="tap", day_field={"tokyo*": "when"}, timezone="Asia/Tokyo")
        archiver = Archiver(writer, asked, lambda _state: None)
        archiver.take([json.dumps(told).encode(), json.dumps(record).encode(), b"no message"])
        archiver.finish()
    return root


def test_a_copy_shows_what_the_original_shows_byte_for_byte(root: Path, tmp_path: Path) -> None:
    archived(said(root), tmp_path / "copy")
    assert views(tmp_path / "copy") == views(root)
    assert ("tokyo/x", "2024-05-02") in views(root)


def test_a_copy_of_all_versions_has_every_line_in_its_order(root: Path, tmp_path: Path) -> None:
    lines = said(root, versions="all")
    times = [json.loads(line)["time_extracted"] for line in lines if b'"RECORD","stream":"keyed"' in line]
    assert times == sorted(times)
    archived(lines, tmp_path / "copy")
    one, other = Archive(root, "tap"), Archive(tmp_path / "copy", "tap")
    for stream in one.streams():
        assert list(one.lines(stream)) == list(other.lines(stream))
    assert views(tmp_path / "copy") == views(root)


def test_a_record_has_the_time_of_its_commit(root: Path) -> None:
    lines = [json.loads(line) for line in said(root, streams=["keyed"])]
    times = {one["record"]["id"]: one["time_extracted"][:10] for one in lines if one["type"] == "RECORD"}
    assert times == {1: "2024-05-08", 2: "2024-05-07", 3: "2024-05-06", 4: "2024-05-06", 5: "2024-05-06"} | {
        7: "2024-05-06",
        8: "2024-05-06",
    }


def test_the_next_replay_sends_the_days_that_have_changed(root: Path, tmp_path: Path) -> None:
    lines = said(root)
    archived(lines, tmp_path / "copy")
    assert ids(said(root, state=last_state(lines))) == []
    read(root, "keyed", "2024-05-09T00:00:00", {**DAYS[2], "new": 2}, {"id": 33, "at": DAYS[2]["at"]})
    read(root, "keyless", "2024-05-09T00:00:00", *[DAYS[0]] * 4, keys=())
    more = said(root, state=last_state(lines))
    assert ids(more) == [3, 33, 1, 1, 1, 1]
    archived(more, tmp_path / "copy")
    assert views(tmp_path / "copy") == views(root)
    archived(more, tmp_path / "copy")  # a target that was killed may be sent the same again
    assert views(tmp_path / "copy") == views(root)


def test_all_versions_go_on_after_the_last_commit_and_lose_no_genuine_copy(root: Path, tmp_path: Path) -> None:
    lines = said(root, versions="all")
    archived(lines, tmp_path / "copy")
    read(root, "keyless", "2024-05-09T00:00:00", *[DAYS[0]] * 4, keys=())
    before = len(list(Archive(root, "tap").lines("keyless")))
    more = said(root, versions="all", state=last_state(lines))
    assert len(ids(more)) == before - len(list(Archive(tmp_path / "copy", "tap").lines("keyless")))
    archived(more, tmp_path / "copy")
    assert views(tmp_path / "copy") == views(root)


@pytest.mark.parametrize("versions", ["head", "all"])
def test_from_every_state_the_rest_is_sent(root: Path, tmp_path: Path, versions: str) -> None:
    lines = said(root, versions=versions)
    ends = [number for number, line in enumerate(lines, 1) if b'"type":"STATE"' in line]
    for number in ends[1 :: max(1, len(ends) // 4)]:
        copy = tmp_path / f"copy{number}"
        archived(lines[:number], copy)
        cut = last_state(lines[:number])
        rest = said(root, versions=versions, state=cut)
        assert ids([*lines[:number], *rest]) == ids(lines)
        archived(rest, copy)
        assert views(copy) == views(root)


def test_a_replay_that_was_cut_is_ended_as_it_was_begun_and_then_what_came_since_is_sent(root: Path) -> None:
    lines = said(root, streams=["keyed"])
    cut = next(number for number, line in enumerate(lines, 1) if b'"day":"2024-05-02"' in line)
    read(root, "keyed", "2024-05-09T00:00:00", {**DAYS[0], "new": 9}, {**DAYS[4], "new": 9})
    rest = said(root, streams=["keyed"], state=last_state(lines[:cut]))
    assert ids(rest) == [3, 4, 5, 8, 7, 1, 5]


def test_as_of_replays_what_was_known_with_the_schema_of_then(tmp_path: Path) -> None:
    source = Source(tmp_path / "a", mode="metric")
    source.read("2024-05-02T06:00:00", DAYS[:2])
    make_archive(
        tmp_path / "a",
        "tap",
        [{"type": "SCHEMA", "stream": "s", "schema": {"properties": {"later": {}}}, "key_properties": ["id"]}],
    )
    read(tmp_path / "a", "s", "2024-05-03T06:00:00", {**DAYS[0], "new": 1})
    read(tmp_path / "a", "newer", "2024-05-03T06:00:00", DAYS[0])
    lines = said(tmp_path / "a", as_of="2024-05-02")
    assert [json.loads(line).get("stream") for line in lines if b"SCHEMA" in line] == ["s"]
    assert [line for line in lines if b'"new"' in line or b"later" in line] == []
    assert ids(lines) == [1, 2]
    assert ids(said(tmp_path / "a", as_of=1)) == [1, 2]
    forward = said(tmp_path / "a", state=last_state(lines))
    assert ids(forward) == [1, 1]
    assert ids(said(tmp_path / "a", as_of="2024-05-02", state=last_state(forward))) == [1, 2]


def test_what_is_gone_is_not_sent_and_a_pin_sends_its_day_as_pinned(tmp_path: Path) -> None:
    source = Source(tmp_path / "a")
    first = [{"id": n, "at": "2024-05-01T10:00:00Z"} for n in (1, 2)]
    source.read("2024-05-02T06:00:00", first)
    source.read("2024-05-03T06:00:00", first[:1])
    lines = said(tmp_path / "a")
    assert ids(lines) == [1]
    assert daykeep("pin", "s", "2024-05-01", "--revision", "1", "--root", tmp_path / "a").returncode == 0
    pinned = said(tmp_path / "a", state=last_state(lines))
    assert ids(pinned) == [1, 2]
    daykeep("pin", "s", "2024-05-01", "--clear", "--root", tmp_path / "a")
    assert ids(said(tmp_path / "a", state=last_state(pinned))) == [1]


def test_a_snapshot_that_was_not_stored_again_is_sent_of_each_day(tmp_path: Path) -> None:
    source = Source(tmp_path / "a", mode="snapshot", bookmarks=())
    for day in ("2024-05-02", "2024-05-03"):
        source.read(f"{day}T06:00:00", [{"id": 1}], start=None, end=f"{day}T06:00:00Z")
    lines = [json.loads(line) for line in said(tmp_path / "a")]
    assert [one["time_extracted"][:10] for one in lines if one["type"] == "RECORD"] == ["2024-05-02", "2024-05-03"]


def test_days_streams_and_the_catalog_choose(root: Path, tmp_path: Path) -> None:
    some = said(root, streams=["keyed"], start_date="2024-05-02T00:00:00Z", end_date="2024-05-03")
    assert ids(some) == [2, 3]
    assert len(ids(said(root, streams=["keyed"], state=last_state(some)))) == 7  # another question, another beginning
    catalog = json.loads(b"\n".join(said(root, "--discover")))
    assert [one["tap_stream_id"] for one in catalog["streams"]] == ["keyed", "keyless", "tokyo/x"]
    for one in catalog["streams"]:
        one["metadata"][-1]["metadata"]["selected"] = one["stream"] == "tokyo/x"
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps(catalog))
    assert ids(said(root, "--catalog", path)) == [1]
    keyed = catalog["streams"][0]["metadata"]
    keyed[-1]["metadata"]["selected"] = True
    next(one for one in keyed if one["breadcrumb"] == ["properties", "at"])["metadata"]["selected"] = False
    path.write_text(json.dumps(catalog))
    ended = tap(root, "--catalog", path)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"records are replayed whole" in ended.stderr


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"rot": "x"}, "did you mean `root`"),
        ({"source": "tip"}, "did you mean `tap`"),
        ({"streams": ["keyt"]}, "did you mean `keyed`"),
        ({"as_of": "soon"}, "`soon` is not a time"),
        ({"start_date": "May"}, "`start_date` is not a day"),
        ({"versions": "some"}, "'some' is not one of"),
    ],
)
def test_a_wrong_setting_is_told_in_a_line(root: Path, config: dict[str, Any], words: str) -> None:
    ended = tap(root, **config)
    assert ended.returncode == 2
    assert b'"RECORD"' not in ended.stdout
    assert words in ended.stderr.decode()
    assert "Traceback" not in ended.stderr.decode()


@pytest.mark.parametrize(
    ("bookmark", "words"),
    [({"commit": 99}, "is it of another archive?"), ({"commit": "x"}, "not of this tap"), (3, "not of this tap")],
)
def test_a_strange_state_is_told(root: Path, tmp_path: Path, bookmark: Any, words: str) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"bookmarks": {"keyed": bookmark}}))
    ended = tap(root, "--state", tmp_path / "state.json")
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert words in ended.stderr.decode()


def test_several_sources_ask_for_one(root: Path) -> None:
    make_archive(root, "other", [{"type": "SCHEMA", "stream": "s", "schema": {"properties": {}}}])
    ended = tap(root)
    assert (ended.returncode, b"set `source`: other, tap" in ended.stderr) == (2, True)
    assert len(ids(said(root, source="tap", streams=["tokyo/x"]))) == 1


def test_a_reader_that_leaves_ends_it_with_a_line(tmp_path: Path) -> None:
    read(tmp_path / "a", "s", "2024-05-02T06:00:00", {"id": 1, "at": "2024-05-01T00:00:00Z", "x": "x" * 5_000_000})
    command = [str(BIN / "tap-archive"), "--config", json.dumps({"root": str(tmp_path / "a")})]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(10)
        process.stdout.close()
        words = process.stderr.read().decode()
    assert process.returncode == 1
    assert words.splitlines()[-1] == "tap-archive: nobody reads the output any more, the target may have ended"


def test_an_archive_in_an_object_store_is_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stores.s3_server() as store:
        for name, value in store.items():
            monkeypatch.setenv(name, value)
        read(tmp_path / "a", "s", "2024-05-06T00:00:00", *DAYS)
        settings = json.dumps({"root": "s3://bucket/archive", "source": "tap"})
        given = b"\n".join([*said(tmp_path / "a"), b""])
        command = [str(BIN / "target-archive"), "--config", settings]
        subprocess.run(command, input=given, capture_output=True, check=True, env=environment(), timeout=WAIT_SECONDS)
        ended = tap("s3://bucket/archive")
    assert ended.returncode == 0, ended.stderr
    assert ids(ended.stdout.splitlines()) == [1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def target_jsonl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PyPI's target-jsonl, which needs an old jsonschema and so an environment of its own."""
    folder = tmp_path_factory.mktemp("target-jsonl")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(folder / "bin/pip"), "install", "-q", "target-jsonl==0.1.4", "setuptools<81"]
    if subprocess.run(install, check=False, capture_output=True).returncode:
        pytest.skip("target-jsonl cannot be installed here")
    return folder / "bin/target-jsonl"


def test_another_target_takes_it(target_jsonl: Path, tmp_path: Path) -> None:
    read(tmp_path / "a", "s", "2024-05-06T00:00:00", *DAYS)
    (tmp_path / "config.json").write_text(json.dumps({"destination_path": str(tmp_path)}))
    lines = b"\n".join([*said(tmp_path / "a"), b""])
    command = [str(target_jsonl), "--config", str(tmp_path / "config.json")]
    ended = subprocess.run(command, input=lines, capture_output=True, check=True, timeout=WAIT_SECONDS)
    (written,) = tmp_path.glob("s-*.jsonl")
    assert [json.loads(line) for line in written.read_text().splitlines()] == DAYS
    assert json.loads(ended.stdout.splitlines()[-1])["bookmarks"]["s"]["commit"] > 0
