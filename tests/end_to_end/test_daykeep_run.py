"""`daykeep run tap-sample`: the whole way, from HTTP to the day files, and what is left of it after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.daykeep.command import child, daykeep, end, run_record, start, until

from target_archive.archive import Archive

SOURCE = "tap-sample"
COUNTS = {"airlines": 16, "airports": 1_458, "planes": 3_322, "weather": 26_115}
PAGE = 500


def counts(root: Path) -> dict[str, int]:
    archive = Archive(root, SOURCE)
    return {stream: archive.count(stream) for stream in archive.streams()}


def started(root: Path) -> subprocess.Popen[str]:
    """A run in the midst of `weather`: some of it is committed."""
    process = start("run", "tap-sample", "--root", root, env={"TARGET_ARCHIVE_COMMIT_MAX_RECORDS": "1000"})
    until(lambda: len(list((root / SOURCE / "_meta/commits").glob("0*"))) >= 6)
    return process


def test_the_sample_is_archived_once_however_often_it_is_run(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    for options in ([], [], ["--full"]):
        ended = daykeep("run", "tap-sample", "--root", root, *options)
        assert ended.returncode == 0, ended.stderr
        assert counts(root) == COUNTS
    assert len(Archive(root, SOURCE).days("weather")) == 364
    record = run_record(root, SOURCE)
    assert record["streams"]["weather"] == {"received": 26_115, "repeats": 26_115}
    status = json.loads(daykeep("status", "--root", root, "--json").stdout)[0]
    weather = next(stream for stream in status["streams"] if stream["stream"] == "weather")
    held = weather["statuses"]
    assert (held["present"], held["empty_suspect"], weather["frontier"]) == (364, 28, "2014-01-28")
    assert status["last_run"]["status"] == "complete"
    assert "weather: 2013-12-31 to 2014-01-27, 28 days: empty suspect" in daykeep("gaps", "--root", root).stdout
    assert daykeep("verify", "--root", root).returncode == 0


@pytest.mark.case("A1")
@pytest.mark.parametrize("victims", [("tap-sample",), ("target-archive",), ("tap-sample", "target-archive")])
def test_a_run_after_a_kill_completes_the_archive(tmp_path: Path, victims: tuple[str, ...]) -> None:
    root = tmp_path / "archive"
    process = started(root)
    pids = [child(process.pid, name) for name in victims]
    for pid in pids:
        assert pid
        os.kill(pid, signal.SIGKILL)
    end(process)
    assert process.returncode == 1
    assert run_record(root, SOURCE)["status"] == "failed"
    before = counts(root)["weather"]
    ended = daykeep("run", "tap-sample", "--root", root)
    assert ended.returncode == 0, ended.stderr
    assert counts(root) == COUNTS
    received = run_record(root, SOURCE)["streams"]["weather"]["received"]
    assert received <= COUNTS["weather"] - before + PAGE, "at most a page is read again"


@pytest.mark.case("A4")
def test_an_interrupted_run_is_gone_on_with(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    process = started(root)
    process.terminate()
    end(process)
    assert process.returncode == 143
    assert run_record(root, SOURCE)["status"] == "interrupted"
    assert daykeep("run", "tap-sample", "--root", root).returncode == 0
    assert counts(root) == COUNTS


def test_a_wrong_token_ends_in_one_line_that_does_not_hold_it(tmp_path: Path) -> None:
    ended = daykeep("run", "tap-sample", "--root", tmp_path, "--", "--config", '{"token": "canary-token"}')
    assert ended.returncode == 1
    assert "401" in ended.stderr.splitlines()[-1]
    assert "canary" not in ended.stderr
    assert "canary" not in json.dumps(run_record(tmp_path, SOURCE))
