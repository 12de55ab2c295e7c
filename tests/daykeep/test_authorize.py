"""`daykeep authorize`: the tap does it; what it is given, and how its ending becomes ours."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from tests.daykeep.command import child, daykeep, start, until, write_tap

NOTE = "note('given', json.dumps(sys.argv[1:]))\n"


@pytest.mark.parametrize("separator", [[], ["--"]], ids=["plain", "after --"])
def test_the_tap_is_given_all_options_and_asked_to_log_in(tmp_path: Path, separator: list[str]) -> None:
    tap = write_tap(tmp_path, f"{NOTE}print('Open this page', file=sys.stderr)")
    ended = daykeep("authorize", tap, *separator, "--config", "x.json", "--config=ENV")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == "Open this page\n"
    assert json.loads((tmp_path / "given").read_text()) == ["--config", "x.json", "--config=ENV", "--authorize"]


def test_it_needs_no_archive_and_makes_none(tmp_path: Path) -> None:
    assert daykeep("authorize", write_tap(tmp_path, NOTE), cwd=tmp_path).returncode == 0
    assert not (tmp_path / "archive").exists()


@pytest.mark.parametrize(("ending", "status"), [("sys.exit(2)", 2), ("os.kill(os.getpid(), signal.SIGTERM)", 143)])
def test_the_taps_exit_status_is_ours(tmp_path: Path, ending: str, status: int) -> None:
    assert daykeep("authorize", write_tap(tmp_path, ending)).returncode == status


def test_a_tap_that_is_not_there_is_named() -> None:
    ended = daykeep("authorize", "tap-smaple")
    assert ended.returncode == 2
    assert "there is no command `tap-smaple`" in ended.stderr
    assert "did you mean `tap-sample`?" in ended.stderr


def test_interrupted_it_ends_and_leaves_no_tap_behind(tmp_path: Path) -> None:
    process = start("authorize", write_tap(tmp_path, "note('started')\ntime.sleep(600)"))
    until((tmp_path / "started").exists)
    tap = child(process.pid, "tap-things")
    assert tap
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    until(lambda: not Path(f"/proc/{tap}").exists())
