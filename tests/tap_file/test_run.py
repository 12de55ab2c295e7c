"""`tap-file | target-archive` as real processes: what is read again, what is told, what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import zipfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.daykeep.command import BIN, daykeep, environment, until
from tests.tap_file.harness import SOURCE, TWEETS, archived, array, held, held_state, messages, tap, tweet
from tests.tap_rest.harness import Collected, FastClock

from tap_file.files import Export
from tap_file.run import Run
from tap_rest.engine.messages import RawLane
from tap_rest.formats.records import SingleRecords
from tap_rest.language.declaration import BoundStream, Stream
from tap_sample.tables import tables
from target_archive.archive import Archive

MIB = 1 << 20


def config(folder: Path, pattern: str = "*.json", **options: Any) -> dict[str, Any]:
    return {"files": [{"path": str(folder / pattern), **TWEETS, **options}]}


def test_a_takeout_is_archived_byte_for_byte_once_and_then_what_is_new(tmp_path: Path) -> None:
    root, first, more = tmp_path / "archive", [tweet(1), tweet(2)], [tweet(3)]
    (tmp_path / "a.json").write_bytes(array(*first))
    (tmp_path / "b.json").write_bytes(array(*more))
    wanted = config(tmp_path)
    status, read, said = archived(root, wanted)
    assert (status, read) == (0, {"tweets": 3}), said
    assert held(root) == Counter([*first, *more])
    assert archived(root, wanted)[:2] == (0, {})
    (tmp_path / "a.json").write_bytes(array(*first, tweet(4)))
    (tmp_path / "c.json").write_bytes(array(tweet(5)))
    assert archived(root, wanted)[:2] == (0, {"tweets": 4})
    assert held(root) == Counter([*first, *more, tweet(4), tweet(5)])
    assert set(Archive(root, SOURCE).days("tweets")) == {f"2013-01-0{day}" for day in (2, 3, 4, 5, 6)}
    assert archived(root, {"files": [{**wanted["files"][0], "records": {"type": "root"}}]})[:2] == (0, {}), "the same"


def test_a_bad_file_does_not_stop_the_others_and_is_tried_again(tmp_path: Path) -> None:
    root, wanted = tmp_path / "archive", config(tmp_path)
    wanted["files"] += [{"path": "/nowhere/*.json", "stream": "likes"}, {"path": str(tmp_path / "x"), "stream": "x"}]
    for name in "abc":
        (tmp_path / f"{name}.json").write_bytes(array(tweet(ord(name))))
    (tmp_path / "x").write_bytes(b"[{}]")
    (tmp_path / "b.json").write_bytes(array(tweet(7), tweet(8))[:-1])
    status, read, said = archived(root, wanted)
    assert (status, read) == (3, {"tweets": 2, "x": 1})
    assert f"{tmp_path}/b.json: the file is not whole JSON" in said
    assert "/nowhere/*.json: there is no such file" in said
    assert said.splitlines()[-1].startswith("tap-file: 2 of 5 files could not be read")
    assert "Traceback" not in said
    (tmp_path / "b.json").write_bytes(array(tweet(7), tweet(8)))
    assert archived(root, wanted)[:2] == (3, {"tweets": 2})
    assert held(root).total() == 4


@pytest.mark.parametrize(
    ("entry", "status", "said"),
    [
        ({"path": "/nowhere", "stream": "x"}, 1, "tap-file: 1 of 1 files could not be read"),
        ({"path": "/nowhere"}, 2, "`stream` is missing at files[0]"),
        ({"path": "x", "stream": "x", "form": {}}, 2, "unknown key `form` at files[0].form: did you mean `format`?"),
        ({"path": "x", "stream": "x", "format": {"type": "tsv"}}, 2, "`tsv` is not a known type"),
        ({"path": "x", "stream": "x", "mode": "events"}, 2, "`events` is not a known value"),
        ({"path": "x", "stream": "x", "covers": {"to": "soon"}}, 2, "covers is from a time to a time"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_status(entry: dict[str, Any], status: int, said: str) -> None:
    ended = tap({"files": [entry]})
    assert ended.returncode == status, ended.stderr
    assert said in ended.stderr.splitlines()[-1]


def test_entries_that_are_at_odds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"[]")
    one = config(tmp_path)["files"][0]
    for other, said in (
        ({**one, "primary_keys": ["key"]}, "differ in `primary_keys`"),
        ({**one, "path": str(tmp_path / "a*")}, "2 entries read this file"),
    ):
        ended = tap({"files": [one, other]})
        assert ended.returncode == 2
        assert said in ended.stderr
        assert not ended.stdout


@pytest.mark.case("A1")
@pytest.mark.parametrize("keys", [["id"], []], ids=["keyed", "keyless"])
def test_a_run_after_a_kill_loses_and_doubles_nothing(tmp_path: Path, keys: list[str]) -> None:
    root, many = tmp_path / "archive", [tweet(number, "z" * 900) for number in range(40_000)]
    for at in range(4):
        (tmp_path / f"{at}.json").write_bytes(array(*many[at::4]))
    wanted = config(tmp_path, primary_keys=keys)
    settings = json.dumps({"root": str(root), "source": SOURCE, "commit_max_records": 1000})
    reader = subprocess.Popen(
        [BIN / "tap-file", "--config", json.dumps(wanted)],
        stdout=subprocess.PIPE,
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    target = subprocess.Popen(
        [BIN / "target-archive", "--config", settings],
        stdin=reader.stdout,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    assert reader.stdout
    reader.stdout.close()
    until(lambda: len(list((root / SOURCE / "_meta/commits").glob("0*"))) >= 15)
    reader.kill()
    reader.wait()
    target.wait()
    before = held(root).total()
    assert 0 < before < len(many)
    state = held_state(root)
    assert len(state["files"]["tweets"]) in (1, 2, 3)
    status, read, said = archived(root, wanted)
    assert status == 0, said
    assert read["tweets"] == (4 - len(state["files"]["tweets"])) * 10_000
    assert held(root) == Counter(many)


def test_without_keys_equal_records_are_kept_and_a_file_that_changes_doubles_nothing(tmp_path: Path) -> None:
    root, wanted = tmp_path / "archive", config(tmp_path, primary_keys=[])
    (tmp_path / "a.json").write_bytes(array(tweet(1), tweet(1)))
    (tmp_path / "b.json").write_bytes(array(tweet(1)))
    assert archived(root, wanted)[0] == 0
    assert held(root) == {tweet(1): 3}
    (tmp_path / "c.json").write_bytes(array(tweet(1), tweet(2)))
    assert archived(root, wanted)[:2] == (0, {"tweets": 2})
    assert held(root) == {tweet(1): 4, tweet(2): 1}, "a new file's records are new, whatever they say"
    (tmp_path / "a.json").write_bytes(array(tweet(1), tweet(1), tweet(1), tweet(3)))
    (tmp_path / "b.json").write_bytes(array(tweet(1))[:-1])
    assert archived(root, wanted)[0] == 3
    (tmp_path / "b.json").write_bytes(array(tweet(1)))
    assert archived(root, wanted)[0] == 0
    assert held(root) == {tweet(1): 5, tweet(2): 1, tweet(3): 1}
    assert archived(root, wanted)[:2] == (0, {})


def test_without_keys_what_was_read_of_a_file_that_then_was_bad_is_not_doubled(tmp_path: Path) -> None:
    root, wanted = tmp_path / "archive", config(tmp_path, "*.x", primary_keys=[])
    (tmp_path / "a.x").write_bytes(array(tweet(1)))
    (tmp_path / "c.x").write_bytes(array(tweet(1)))
    for cut, status in ((-1, 3), (None, 0), (None, 0)):
        with zipfile.ZipFile(tmp_path / "b.x", "w") as archive:
            archive.writestr("1.json", array(tweet(1), tweet(2)))
            archive.writestr("2.json", array(tweet(3))[:cut])
        assert archived(root, wanted)[0] == status
    assert held(root) == {tweet(1): 3, tweet(2): 1, tweet(3): 1}


@pytest.mark.case("A4")
def test_a_signal_ends_the_run_with_the_state_of_the_files_that_were_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(array(tweet(1)))
    (tmp_path / "b.json").write_bytes(array(*(tweet(number, "z" * 500) for number in range(100_000))))
    command = [str(BIN / "tap-file"), "--config", json.dumps(config(tmp_path))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert process.stdout
    lines = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert b"interrupted by SIGTERM" in said.splitlines()[-1]
    told = [json.loads(line) for line in [*lines, *rest.splitlines()]]
    assert len(told) < 100_000
    states = [one["value"] for one in told if one["type"] == "STATE"]
    assert list(states[-1]["files"]["tweets"]) == [str(tmp_path / "a.json")]


def peak(folder: Path, wanted: dict[str, Any]) -> tuple[int, int]:
    """The most memory that a run holds, in MiB, and how many records it writes."""
    out = folder / "out"
    with out.open("wb") as file:
        process = subprocess.Popen([BIN / "tap-file", "--config", json.dumps(wanted)], stdout=file, env=environment())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    with out.open("rb") as file:
        return used.ru_maxrss * 1024 // MIB, sum(line.startswith(b'{"type":"RECORD"') for line in file)


def test_memory_is_bounded_whatever_the_size_of_a_file_and_of_a_zip(tmp_path: Path) -> None:
    rows = 200_000
    with (tmp_path / "large.js").open("wb") as file:
        file.write(b"window.part0 = [" + tweet(0))
        file.writelines(b",\n" + tweet(number, "z" * 960) for number in range(1, rows))
        file.write(b"]")
    assert (tmp_path / "large.js").stat().st_size > 200_000_000
    (tmp_path / "small.json").write_bytes(array(tweet(1)))
    least, _ = peak(tmp_path, config(tmp_path, "small.json"))
    most, count = peak(tmp_path, config(tmp_path, "large.js", prefix="window.part* ="))
    assert count == rows
    assert most - least < 60
    with zipfile.ZipFile(tmp_path / "many.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for member in range(40):
            archive.writestr(f"{member}.json", array(*(tweet(number, "z" * 960) for number in range(5_000))))
    most, count = peak(tmp_path, config(tmp_path, "many.zip"))
    assert count == rows
    assert most - least < 60


def test_a_stream_comes_from_its_api_and_from_a_takeout_into_one_archive(tmp_path: Path) -> None:
    root, lines = tmp_path / "archive", tables()["weather"].lines
    news = b'{"origin":"JFK","time_hour":"2012-12-31T10:00:00Z","temp":1.10}'
    assert daykeep("run", "tap-sample", "--root", root, "--", "--stream", "weather").returncode == 0
    (tmp_path / "weather.json").write_bytes(array(news, *lines))
    (tmp_path / "config.json").write_text(
        json.dumps({"declaration": "sample", "files": [{"path": str(tmp_path / "weather.json"), "stream": "weather"}]})
    )
    takeout = ("run", "tap-file", "--source", "tap-sample", "--root", root, "--", "--config", tmp_path / "config.json")
    counts = []
    for command in (takeout, ("run", "tap-sample", "--root", root, "--", "--stream", "weather"), takeout):
        ended = daykeep(*command)
        assert ended.returncode == 0, ended.stderr
        assert "breaking" not in ended.stderr
        run = max((root / "tap-sample/_meta/runs").iterdir())
        counts.append(json.loads(run.read_text())["streams"].get("weather", {}).get("received", 0))
    assert counts[0] == len(lines) + 1
    assert counts[1] < 10, "the API's bookmark is still there"
    assert counts[2] == 0, "and the file's mark"
    assert held(root, "weather", "tap-sample") == Counter([news, *lines])


def test_what_files_cover_is_proved(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    (tmp_path / "a.json").write_bytes(array(tweet(1), tweet(7)))
    (tmp_path / "b.json").write_bytes(array(tweet(2))[:-1])
    wanted = config(tmp_path, covers={"from": "2013-01-02", "to": "2013-01-10"})
    assert archived(root, wanted)[0] == 3
    assert "claims" not in held_state(root), "not all of it could be read"
    (tmp_path / "b.json").write_bytes(array(tweet(2)))
    assert archived(root, wanted)[0] == 0
    (claim,) = held_state(root)["claims"]["tweets"]
    assert (claim["from"], claim["to"], claim["status"]) == ("2013-01-02", "2013-01-10", "complete")
    assert (claim["evidence"]["files"], claim["evidence"]["records"]) == (2, 3)
    assert claim["evidence"]["changes_only"], "it proves nothing gone that it lacks"
    assert Archive(root, SOURCE).gaps("tweets")[0].first == "2013-01-10"
    assert archived(root, wanted)[0] == 0
    assert Archive(root, SOURCE).gaps("tweets")[0].first == "2013-01-10"


def test_it_is_a_singer_tap(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(array(tweet(1), tweet(2)))
    entry = config(tmp_path)["files"][0]
    wanted = {"files": [{**entry, "mode": "event"}, {"path": entry["path"], "stream": "copies"}]}
    catalog = json.loads(tap(wanted, "--discover").stdout)
    shape = {one["tap_stream_id"]: one for one in catalog["streams"]}
    assert shape["tweets"]["key_properties"] == ["id"]
    for data in shape["copies"]["metadata"]:
        data["metadata"]["selected"] = False
    (tmp_path / "catalog").write_text(json.dumps(catalog))
    chosen = tap(wanted, "--catalog", tmp_path / "catalog")
    (schema,) = messages(chosen, "SCHEMA")
    assert (schema["schema"]["x-daykeep-mode"], schema["schema"]["x-daykeep-day"]["field"]) == ("event", "at")
    assert {one["stream"] for one in messages(chosen, "RECORD")} == {"tweets"}
    looked = tap(wanted, "--stream", "copies", "--limit", "1")
    assert [one["stream"] for one in messages(looked, "RECORD")] == ["copies"]
    assert not messages(looked, "STATE")
    assert len(messages(tap(wanted, "--test"), "RECORD")) == 2
    mapped = tap({**wanted, "stream_maps": {"tweets": {"id": "id", "__else__": None}}}, "--stream", "tweets")
    assert [one["record"] for one in messages(mapped, "RECORD")] == [{"id": "1"}, {"id": "2"}]
    about = json.loads(tap(wanted, "--about", "--format=json").stdout)
    assert set(about["settings"]["properties"]) >= {"files", "declaration"}
    assert "--har" not in tap(wanted, "--help").stdout


def test_the_config_may_be_yaml_and_a_declaration_knows_the_streams(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"[]")
    for stream, status, said in (("planes", 0, ""), ("plane", 2, "no stream 'plane': did you mean `planes`?")):
        wanted = {"declaration": "sample", "files": [{"path": str(tmp_path / "a.json"), "stream": stream}]}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(wanted))
        command = [str(BIN / "tap-file"), "--config", str(tmp_path / "config.yaml")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
        assert ended.returncode == status
        assert said in ended.stderr
        schemas = messages(ended, "SCHEMA")
        assert [(one["key_properties"], one["schema"]["x-daykeep-mode"]) for one in schemas] == (
            [] if status else [(["tailnum"], "snapshot")]
        )


def test_state_of_many_files_stays_small_and_is_not_written_after_each(tmp_path: Path) -> None:
    for number in range(2_000):
        (tmp_path / f"{number}.json").write_bytes(tweet(number))
    entry = Export(path=str(tmp_path / "*.json"), stream="tweets", records=SingleRecords())
    declared = Stream(path="/", records=SingleRecords(), primary_keys=["id"])
    bound = BoundStream(name="tweets", declared=declared, base_url="", values={}, fingerprint="")
    output, clock = Collected(), FastClock()
    with closing(clock):
        Run({}, RawLane(output), output, clock).read({"tweets": bound}, [entry])
    states = [line for line in output.text.splitlines() if line.startswith(b'{"type":"STATE"')]
    assert len(states) < 400, "once it is heavy, one a second"
    assert len(json.loads(states[-1])["value"]["files"]["tweets"]) == 2_000
    assert len(states[-1]) < 2_000 * (len(str(tmp_path)) + 60)
