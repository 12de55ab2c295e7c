"""`tap-sample` as a process: the declared tap on its own API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import requests

from tap_sample.cli import started
from tap_sample.server import TOKEN, SampleServer
from tap_sample.tables import NAMES, tables

TAP = str(Path(sys.executable).with_name("tap-sample"))
BROKEN = {"TAP_SAMPLE_FAULTS": "nonsense"}
"""With this no server can be started, so whatever works with it has started none."""


def run(*options: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TAP_SAMPLE_")}
    return subprocess.run([TAP, *options], capture_output=True, timeout=120, check=False, env={**clean, **(env or {})})


def records(stdout: bytes) -> Mapping[str, set[bytes]]:
    found: dict[str, set[bytes]] = {name: set() for name in NAMES}
    for line in stdout.splitlines():
        if line.startswith(b'{"type":"RECORD","stream":"'):
            stream, _, rest = line.removeprefix(b'{"type":"RECORD","stream":"').partition(b'","record":')
            found[stream.decode()].add(rest.rpartition(b',"time_extracted":')[0])
    return found


ALL = {name: set(table.lines) for name, table in tables().items()}


def test_it_fetches_all_four_tables_byte_for_byte() -> None:
    ended = run()
    assert ended.returncode == 0, ended.stderr.decode()
    assert records(ended.stdout) == ALL


def test_it_fetches_the_same_from_an_api_that_fails() -> None:
    ended = run("--config", '{"faults": "0.1:7"}')
    assert ended.returncode == 0, ended.stderr.decode()
    assert records(ended.stdout) == ALL


@pytest.mark.parametrize("options", [["--help"], ["--about"], ["--discover"], ["--explain", "weather"]], ids=" ".join)
def test_no_server_is_started_to_tell_about_the_tap(options: list[str]) -> None:
    ended = run(*options, env=BROKEN)
    assert (ended.returncode, ended.stdout != b"") == (0, True), ended.stderr.decode()


def test_no_server_is_started_where_the_config_names_one() -> None:
    with SampleServer() as server:
        ended = run("--config", json.dumps({"base_url": server.base_url}), env=BROKEN)
        assert ended.returncode == 0, ended.stderr.decode()
        assert server.requests["/v1/weather"] == 53
    assert records(ended.stdout) == ALL


def test_bad_faults_are_status_2_and_one_line() -> None:
    ended = run(env=BROKEN)
    assert (ended.returncode, ended.stdout) == (2, b"")
    (line,) = [line for line in ended.stderr.decode().splitlines() if line.startswith("tap-sample: ")]
    assert "faults" in line
    assert line.endswith("such as 0.1:7, not 'nonsense'")
    assert b"Traceback" not in ended.stderr


def test_the_api_of_the_tap_wants_its_own_token() -> None:
    ended = run("--config", '{"token": "wrong"}')
    assert ended.returncode == 1
    assert b'"RECORD"' not in ended.stdout


def test_faults_come_from_the_config_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first fault of seed 7 is a server error."""
    for environment, config in (("nonsense", {"faults": "1:7"}), ("1:7", {"faults": None}), ("1:7", {})):
        monkeypatch.setenv("TAP_SAMPLE_FAULTS", environment)
        api = started(config)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert requests.get(f"{api['base_url']}/v1/me", headers=headers, timeout=10).status_code >= 500


def test_without_a_word_about_faults_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAP_SAMPLE_FAULTS", "")
    api = started({})
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert requests.get(f"{api['base_url']}/v1/me", headers=headers, timeout=10).json() == {"account": "sample"}
