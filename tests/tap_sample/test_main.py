"""`python -m tap_sample` as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

HEADERS = {"Authorization": "Bearer daykeep-sample"}


@contextmanager
def process(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The base URL that it printed, and the process."""
    command = [sys.executable, "-m", "tap_sample", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        try:
            yield running.stdout.readline().strip(), running
        finally:
            running.kill()


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tap_sample", *options], capture_output=True, text=True, timeout=30, check=False
    )


def test_it_prints_its_base_url_serves_and_ends_quietly_at_ctrl_c() -> None:
    with process() as (base_url, running):
        assert requests.get(f"{base_url}/v1/me", headers=HEADERS, timeout=10).json() == {"account": "sample"}
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=10) == ("", "")
        assert running.returncode == 130


def test_its_options_reach_the_server() -> None:
    options = [
        "--token",
        "mine",
        "--rate",
        "4/60",
        "--page-size-cap",
        "7",
        "--faults",
        "1:3",
        "--fault-kinds",
        "html_200",
    ]
    mine = {"Authorization": "Bearer mine"}
    with process(*options) as (base_url, _):
        assert requests.get(f"{base_url}/v1/me", headers=HEADERS, timeout=10).status_code == 401
        refused = requests.get(f"{base_url}/v1/planes?limit=8", headers=mine, timeout=10)
        assert "from 1 to 7" in refused.json()["error"]["message"]
        answers = [requests.get(f"{base_url}/v1/planes", headers=mine, timeout=10) for _ in range(4)]
        assert [answer.headers["Content-Type"].split(";")[0] for answer in answers[:3]] == ["text/html"] * 3
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]


def test_a_smaller_cap_is_the_default_page_size_too() -> None:
    with process("--page-size-cap", "7") as (base_url, _):
        assert len(requests.get(f"{base_url}/v1/planes", headers=HEADERS, timeout=10).json()["items"]) == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--faults", "often"], "such as 0.1:7, not 'often'"),
        (["--faults", "1", "--fault-kinds", "cutt"], "no such kind of fault: cutt"),
        (["--rate", "10 per minute"], "REQUESTS/SECONDS such as 2000/10"),
        (["--port", "70000"], "--port"),
        (["--page-size-cap", "0"], "--page-size-cap"),
        (["--colour"], "--colour"),
    ],
)
def test_a_wrong_option_is_status_2_and_one_clear_error(options: list[str], said: str) -> None:
    ended = run(*options)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_taken_port_is_status_1_and_one_line() -> None:
    with process() as (base_url, _):
        port = base_url.rpartition(":")[2]
        ended = run("--port", port)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_an_address_of_nobody_is_status_1_and_one_line() -> None:
    ended = run("--host", "no.such.host.invalid")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert ended.stderr.startswith("Error: cannot listen on no.such.host.invalid:0: ")


def test_help_names_every_endpoint_and_kind_of_fault() -> None:
    said = " ".join(run("--help").stdout.split())
    for word in [
        "/v1/weather 26,115 rows limit, cursor, since, until",
        "/v1/me",
        "2000/10",
        "daykeep-sample",
        "shifted",
    ]:
        assert word in said
