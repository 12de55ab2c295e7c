"""What stands on a terminal: a pseudo-terminal takes the place of the person's."""

from __future__ import annotations

import os
import pty
import signal
from pathlib import Path

import pytest
from tests.daykeep.command import BIN, child, daykeep, environment, ids, run_record, until, write_tap


def on_terminal(*arguments: str | Path) -> tuple[int, int]:
    """Start the command with a terminal of its own; its process id, and the descriptor of the terminal's other side."""
    pid, descriptor = pty.fork()
    if pid == 0:
        env = environment(TERM="xterm-256color", COLUMNS="100")
        os.execve(BIN / "daykeep", ["daykeep", *map(str, arguments)], env)  # noqa: S606 - no shell is wanted
    return pid, descriptor


def output(pid: int, descriptor: int) -> tuple[int, str]:
    text = b""
    try:
        while part := os.read(descriptor, 4096):
            text += part
    except OSError:  # how Linux tells that the other side has gone
        pass
    os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text.decode(errors="replace")


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
class TestTerminal:
    def test_a_run_shows_its_streams_and_log_lines(self, tmp_path: Path) -> None:
        tap = write_tap(tmp_path, "schema(); records(*range(1234)); print('[red]hello', file=sys.stderr); state(1)")
        status, text = output(*on_terminal("run", tap, "--root", tmp_path / "archive"))
        assert status == 0
        assert "tap-things: [red]hello" in text
        assert "1,234" in text
        assert "complete in" in text

    def test_ctrl_c_ends_a_run_in_order(self, tmp_path: Path) -> None:
        body = "signal.signal(signal.SIGTERM, lambda *_: (records(2), state(2), sys.exit(0)))\n"
        body += "schema(); records(1); state(1); note('started')\nwhile True: time.sleep(1)"
        root = tmp_path / "archive"
        pid, descriptor = on_terminal("run", write_tap(tmp_path, body), "--root", root)
        until((tmp_path / "started").exists)
        os.write(descriptor, b"\x03")
        status, _ = output(pid, descriptor)
        assert status == 130
        assert ids(root) == [1, 2]

    def test_a_closed_terminal_ends_a_run_in_order(self, tmp_path: Path) -> None:
        body = (
            "schema(); records(1); state(1); note('started')\nwhile True: print(1, file=sys.stderr); time.sleep(0.01)"
        )
        root = tmp_path / "archive"
        pid, descriptor = on_terminal("run", write_tap(tmp_path, body), "--root", root)
        until((tmp_path / "started").exists)
        os.close(descriptor)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
        assert run_record(root)["status"] == "interrupted"
        assert child(1, "tap-things") is None
        assert ids(root) == [1]

    def test_the_calendar_has_colours(self, tmp_path: Path) -> None:
        schema = "say(type='SCHEMA', stream='s', schema={'type': 'object', 'properties': {'at': {'format': 'date'}}}, "
        body = schema + "key_properties=[], bookmark_properties=['at'])\n"
        body += "say(type='RECORD', stream='s', record={'at': '2024-03-01'})"
        assert daykeep("run", write_tap(tmp_path, body), "--root", tmp_path / "archive").returncode == 0
        status, text = output(*on_terminal("status", "--root", tmp_path / "archive"))
        assert status == 0
        assert "\x1b[33m▣\x1b[0m" in text
