"""`daykeep run`: real taps, real pipes, real signals."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.daykeep.command import child, daykeep, end, ids, run_record, start, until, write_tap

from target_archive.storage import LocalStorage
from target_archive.writer import open_writer

WELL = "schema(); records(1, 2, 3); state(1)"
BUSY = "schema(); records(1); state(1); note('started')\n"


def test_a_run_that_ends_well_is_complete_and_recorded(tmp_path: Path) -> None:
    root, tap = tmp_path / "archive", write_tap(tmp_path, WELL)
    ended = daykeep("run", tap, "--root", root)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ""
    assert "things 3" in ended.stderr.splitlines()[-1]
    assert ids(root) == [1, 2, 3]
    record = run_record(root)
    assert record["status"] == "complete"
    assert record["exit_status"] == record["tap_exit"] == record["target_exit"] == 0
    assert record["streams"] == {"things": {"received": 3, "repeats": 0}}
    assert (record["first_commit"], record["error"], record["words"]) == (1, "", [])
    assert record["last_commit"] == len(list((root / "tap-things/_meta/commits").glob("0*.json")))
    assert record["command"] == ["tap-things"]


def test_the_tap_gets_the_archives_own_state_in_a_file_that_only_we_may_read(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    tap = write_tap(
        tmp_path,
        """
path = given_state()
if path:
    note("state", json.dumps([oct(os.stat(path).st_mode & 0o777), json.load(open(path)), path]))
schema(); records(1); state(os.environ["AT"])
""",
    )
    daykeep("run", tap, "--root", root, env={"AT": "one"})
    assert not (tmp_path / "state").exists(), "there was no STATE to give"
    daykeep("run", tap, "--root", root, env={"AT": "two"})
    mode, state, path = json.loads((tmp_path / "state").read_text())
    assert (mode, state) == ("0o600", {"bookmarks": {"things": {"at": "one"}}})
    assert not Path(path).exists()
    (tmp_path / "state").unlink()
    daykeep("run", tap, "--root", root, "--full", env={"AT": "three"})
    assert not (tmp_path / "state").exists(), "--full leaves the STATE out"
    assert run_record(root)["full"] is True


@pytest.mark.parametrize(
    ("tap_status", "status", "word"),
    [(3, 3, "partial"), (9, 1, "failed")],
)
def test_a_taps_exit_status_becomes_the_runs(tmp_path: Path, tap_status: int, status: int, word: str) -> None:
    root = tmp_path / "archive"
    tap = write_tap(tmp_path, f"{WELL}; print('no more today', file=sys.stderr); sys.exit({tap_status})")
    ended = daykeep("run", tap, "--root", root)
    assert ended.returncode == status
    assert "tap-things: no more today" in ended.stderr
    assert ended.stderr.splitlines()[-1].endswith("no more today")
    record = run_record(root)
    assert (record["status"], record["exit_status"], record["tap_exit"]) == (word, status, tap_status)
    assert record["words"] == ["tap-things: no more today"]
    assert ids(root) == [1, 2, 3], "what it had sent is kept"


@pytest.mark.case("A1")
def test_a_killed_tap_fails_the_run_and_what_it_had_sent_is_kept(tmp_path: Path) -> None:
    root, tap = tmp_path / "archive", write_tap(tmp_path, f"{WELL}; os.kill(os.getpid(), signal.SIGKILL)")
    ended = daykeep("run", tap, "--root", root)
    assert ended.returncode == 1
    assert "tap-things was killed by signal 9" in ended.stderr
    assert run_record(root)["tap_exit"] == -9
    assert ids(root) == [1, 2, 3]


@pytest.mark.case("A1")
@pytest.mark.parametrize("tap_then", ["while True: records(2)", "time.sleep(600)"], ids=["writing", "silent"])
def test_a_killed_target_ends_the_tap_and_fails_the_run(tmp_path: Path, tap_then: str) -> None:
    root, tap = tmp_path / "archive", write_tap(tmp_path, BUSY + tap_then)
    process = start("run", tap, "--root", root)
    until((tmp_path / "started").exists)
    tap_pid = child(process.pid, "tap-things")
    assert tap_pid
    os.kill(until(lambda: child(process.pid, "target-archive")), signal.SIGKILL)
    stderr = end(process)
    assert process.returncode == 1
    assert "target-archive was killed by signal 9" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr.splitlines()[-1]
    assert not Path(f"/proc/{tap_pid}").exists()
    assert run_record(root)["target_exit"] == -9


@pytest.mark.case("A4")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_asked_to_stop_it_lets_the_tap_finish_and_keeps_all(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    root = tmp_path / "archive"
    tap = write_tap(
        tmp_path,
        """
def finish(*_):
    records(2); state(2); sys.exit(0)
signal.signal(signal.SIGTERM, finish)
signal.signal(signal.SIGINT, lambda *_: note("interrupted"))
"""
        + BUSY
        + "while True: time.sleep(1)",
    )
    process = start("run", tap, "--root", root)
    until((tmp_path / "started").exists)
    process.send_signal(number)
    end(process)
    assert process.returncode == status
    assert ids(root) == [1, 2]
    assert run_record(root)["status"] == "interrupted", "the tap's exit status of 0 does not make the run complete"
    assert not (tmp_path / "interrupted").exists(), "a terminal's Ctrl-C must not reach the tap beside us"


@pytest.mark.case("A5")
def test_a_second_signal_ends_what_does_not_listen_and_keeps_what_came(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    tap = write_tap(
        tmp_path,
        "signal.signal(signal.SIGTERM, lambda *_: note('asked'))\n" + BUSY + "while True: time.sleep(1)",
    )
    process = start("run", tap, "--root", root)
    until((tmp_path / "started").exists)
    process.terminate()
    until((tmp_path / "asked").exists)
    process.send_signal(signal.SIGINT)
    end(process)
    assert process.returncode == 143
    record = run_record(root)
    assert (record["status"], record["tap_exit"]) == ("interrupted", -9)
    assert ids(root) == [1]


def test_a_shell_script_around_a_tap_is_stopped_with_what_it_has_started(tmp_path: Path) -> None:
    root, tap = tmp_path / "archive", write_tap(tmp_path, BUSY + "time.sleep(600)", name="inner")
    outer = tmp_path / "tap-things"
    outer.write_text(f'#!/bin/sh\n{tap} "$@"\nexit $?\n')
    outer.chmod(0o755)
    process = start("run", outer, "--root", root)
    until((tmp_path / "started").exists)
    process.terminate()
    end(process)
    assert process.returncode == 143
    assert ids(root) == [1]


@pytest.mark.case("A1")
def test_after_daykeep_itself_was_killed_status_tells_and_the_next_run_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    body = """
begin = 1 if not given_state() else json.load(open(given_state()))["bookmarks"]["things"]["at"] + 1
schema()
for number in range(begin, 40):
    records(number); state(number)
    if number == 20 and not given_state():
        note("started"); time.sleep(2)
"""
    process = start("run", write_tap(tmp_path, body), "--root", root)
    until((tmp_path / "started").exists)
    names = ("tap-things", "target-archive")
    until(lambda: all(child(process.pid, name) for name in names))
    orphans = [child(process.pid, name) for name in names]
    process.kill()
    end(process)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
    assert not (root / "tap-things/_meta/runs").exists()
    if list((root / "tap-things/_meta/commits").glob("0*")):
        assert "not recorded" in daykeep("status", "--root", root).stdout
    ended = daykeep("run", tmp_path / "tap-things", "--root", root)
    assert ended.returncode == 0, ended.stderr
    assert sorted(ids(root)) == list(range(1, 40))


def test_output_that_is_not_singer_is_kept_as_dead_letters_and_fails_the_run(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    tap = write_tap(tmp_path, "print('hello'); schema(); records(1); print('{not json'); records(2); state(1)")
    ended = daykeep("run", tap, "--root", root)
    assert ended.returncode == 1
    assert "target-archive ended with status 1" in ended.stderr.splitlines()[-1]
    record = run_record(root)
    assert (record["status"], record["tap_exit"], record["target_exit"]) == ("failed", 0, 1)
    assert any("not a Singer message" in word for word in record["words"])
    assert ids(root) == [1, 2]
    assert "dead letters: 2" in daykeep("status", "--root", root).stdout


@pytest.mark.case("A16")
def test_a_locked_archive_is_told_before_the_tap_starts(tmp_path: Path) -> None:
    root, tap = tmp_path / "archive", write_tap(tmp_path, "note('started'); " + WELL)
    with open_writer(LocalStorage(root), "tap-things", run="other"):
        ended = daykeep("run", tap, "--root", root)
    assert ended.returncode == 11
    assert f"pid {os.getpid()}" in ended.stderr
    assert not (tmp_path / "started").exists()


@pytest.mark.case("A21")
def test_a_root_that_cannot_be_written_is_told_before_the_tap_starts(tmp_path: Path) -> None:
    root, tap = tmp_path / "archive", write_tap(tmp_path, "note('started'); " + WELL)
    root.write_text("a file in the way")
    ended = daykeep("run", tap, "--root", root)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert str(root) in ended.stderr
    assert not (tmp_path / "started").exists()


def test_a_wrong_setting_of_the_target_is_told_before_the_tap_starts(tmp_path: Path) -> None:
    tap = write_tap(tmp_path, "note('started'); " + WELL)
    ended = daykeep("run", tap, "--root", tmp_path / "archive", env={"TARGET_ARCHIVE_COMPRESSION": "zip"})
    assert ended.returncode == 2
    assert "compression" in ended.stderr
    assert not (tmp_path / "started").exists()


def test_the_targets_settings_come_from_the_project_and_the_environment(tmp_path: Path) -> None:
    tap = write_tap(tmp_path, WELL)
    project = {"plugins": {"loaders": [{"name": "target-archive", "config": {"root": "kept", "compression": "none"}}]}}
    (tmp_path / "meltano.yml").write_text(json.dumps(project))
    assert daykeep("run", tap, cwd=tmp_path).returncode == 0
    assert [path.suffix for path in (tmp_path / "kept/tap-things/things").iterdir()] == [".jsonl"]
    env = {"TARGET_ARCHIVE_COMPRESSION": "gzip"}
    assert daykeep("run", tap, "--source", "other", cwd=tmp_path, env=env).returncode == 0
    assert [path.suffix for path in (tmp_path / "kept/other/things").iterdir()] == [".gz"]


def test_a_tap_that_does_not_exist_is_told_with_the_nearest_that_does(tmp_path: Path) -> None:
    ended = daykeep("run", "tap-sampel", "--root", tmp_path / "archive")
    assert ended.returncode == 2
    assert "did you mean `tap-sample`?" in ended.stderr
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize("content", ["no shebang", "#!/no/such/interpreter\n"])
def test_a_tap_that_cannot_be_started_ends_in_one_line(tmp_path: Path, content: str) -> None:
    tap = tmp_path / "tap-things"
    tap.write_text(content)
    assert "cannot be executed" in daykeep("run", tap, "--root", tmp_path / "archive").stderr
    tap.chmod(0o755)
    ended = daykeep("run", tap, "--root", tmp_path / "archive")
    assert ended.returncode == 2
    assert "tap-things cannot be started" in ended.stderr.splitlines()[-1]


def test_a_state_of_the_users_own_is_refused(tmp_path: Path) -> None:
    ended = daykeep("run", "tap-sample", "--root", tmp_path / "archive", "--", "--state", "mine.json")
    assert ended.returncode == 2
    assert "--full" in ended.stderr


@pytest.mark.case("X14")
def test_control_characters_of_a_tap_do_not_reach_the_terminal(tmp_path: Path) -> None:
    tap = write_tap(tmp_path, f"{WELL}; print('a\\x1b[2Jb', file=sys.stderr); sys.exit(5)")
    ended = daykeep("run", tap, "--root", tmp_path / "archive")
    assert "\x1b" not in ended.stderr
    assert "a\\x1b[2Jb" in ended.stderr


@pytest.mark.case("X4")
def test_secrets_of_the_command_line_do_not_reach_the_record(tmp_path: Path) -> None:
    root, tap = tmp_path / "archive", write_tap(tmp_path, WELL)
    options = [
        "--config",
        '{"token": "canary1"}',
        "--api-key",
        "canary2",
        "--password=canary3",
        "https://me:canary4@host/",
    ]
    ended = daykeep("run", tap, "--root", root, "--", *options)
    assert ended.returncode == 0, ended.stderr
    written = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert b"canary" not in written
    assert "canary" not in ended.stderr
    assert run_record(root)["command"] == [
        "tap-things", "--config", "{…}", "--api-key", "***", "--password=***", "https://***@host/",
    ]  # fmt: skip


def test_the_run_goes_on_when_nobody_reads_its_standard_error(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    body = "schema()\nfor number in range(2000):\n    records(number); print('x' * 200, file=sys.stderr)\nstate(1)"
    reading, writing = os.pipe()
    process = start("run", write_tap(tmp_path, body), "--root", root, stderr=writing)
    os.close(writing)
    os.close(reading)
    end(process)
    assert process.returncode == 0
    assert run_record(root)["streams"]["things"]["received"] == 2000


def test_a_long_line_of_a_tap_is_cut_and_not_kept_in_memory(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    ended = daykeep(
        "run", write_tap(tmp_path, WELL + "; sys.stderr.write('x' * 1_000_000); sys.exit(1)"), "--root", root
    )
    assert ended.returncode == 1
    assert max(map(len, run_record(root)["words"])) <= 66_000


def test_a_tap_that_says_nothing_is_a_run_without_records(tmp_path: Path) -> None:
    ended = daykeep("run", write_tap(tmp_path, ""), "--root", tmp_path / "archive")
    assert ended.returncode == 0
    assert "no records" in ended.stderr


@pytest.mark.case("A14")
def test_a_damaged_log_is_told_before_the_tap_starts(tmp_path: Path) -> None:
    root, tap = tmp_path / "archive", write_tap(tmp_path, "note('started'); " + WELL)
    daykeep("run", tap, "--root", root)
    (tmp_path / "started").unlink()
    commit = root / "tap-things/_meta/commits/00000001.json"
    commit.write_bytes(commit.read_bytes().replace(b"things", b"thinks"))
    ended = daykeep("run", tap, "--root", root)
    assert ended.returncode == 1
    assert "00000001.json" in ended.stderr
    assert not (tmp_path / "started").exists()
