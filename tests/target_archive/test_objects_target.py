"""`target-archive` as processes that archive into S3."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest
from tests.target_archive import stores

from target_archive.archive import Archive
from target_archive.storage import storage_of

# A lease of 3 seconds, so that what waits for one to run out does not take a minute.
TARGET = [
    sys.executable,
    "-c",
    "from target_archive import lease; lease.SECONDS = 3.0; from target_archive.target import main; main()",
]
SCHEMA = {
    "type": "SCHEMA",
    "stream": "events",
    "schema": {"properties": {"id": {"type": "integer"}, "at": {"type": "string", "format": "date-time"}}},
    "key_properties": ["id"],
    "bookmark_properties": ["at"],
}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with stores.moto() as url:
        yield url


@pytest.fixture
def root(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in stores.s3(moto).items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{uuid.uuid4().hex}"


def messages(numbers: range) -> bytes:
    lines = [json.dumps(SCHEMA).encode()]
    for number in numbers:
        record = b'{"id":%d,"at":"2024-05-%02dT00:00:00Z"}' % (number, 1 + number % 3)
        lines.append(b'{"type":"RECORD","stream":"events","record":%s}' % record)
    return b"\n".join([*lines, b'{"type":"STATE","value":{"done":%d}}\n' % numbers[-1]])


def start(root: str, **settings: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*TARGET, "--config", json.dumps({"root": root, "source": "src", **settings})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(root: str, numbers: range) -> tuple[int, bytes, str]:
    with start(root) as process:
        told, said = process.communicate(messages(numbers), timeout=60)
    return process.returncode, told, said.decode()


def tell(process: subprocess.Popen[bytes], numbers: range) -> bytes:
    """Give a target some records and wait for the STATE that covers them."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(messages(numbers))
    process.stdin.flush()
    return process.stdout.readline()


def held(root: str) -> list[int]:
    return sorted(json.loads(line)["id"] for line in Archive(root, "src").lines("events"))


def test_a_second_run_finds_what_the_first_one_archived(root: str) -> None:
    first, second = run(root, range(50)), run(root, range(60))
    assert (first[0], first[1]) == (0, b'{"done":49}\n')
    assert (second[0], second[1]) == (0, b'{"done":59}\n')
    assert "50 already held" in second[2]
    assert held(root) == list(range(60))
    archive = Archive(root, "src")
    assert archive.days("events") == ["2024-05-01", "2024-05-02", "2024-05-03"]
    assert list(archive.verify()) == []
    assert storage_of(root).names("src/events") == [f"2024-05-0{day}.jsonl.gz" for day in (1, 2, 3)]


@pytest.mark.case("A16")
@pytest.mark.case("A17")
def test_of_two_writers_at_once_the_second_one_ends_with_11(root: str) -> None:
    with start(root, commit_max_seconds=0.1) as first:
        assert tell(first, range(10)) == b'{"done":9}\n'
        status, told, said = run(root, range(100, 110))
        assert (status, told) == (11, b"")
        assert f"pid {first.pid} " in said
        assert first.communicate(messages(range(10, 20)), timeout=60)[0] == b'{"done":19}\n'
    assert first.returncode == 0
    assert held(root) == list(range(20))


@pytest.mark.case("A1")
def test_a_target_that_is_killed_is_followed_by_one_that_completes_its_work(root: str) -> None:
    with start(root, commit_max_seconds=0.1) as first:
        assert tell(first, range(10)) == b'{"done":9}\n'
        first.kill()
    assert storage_of(root).names("src/events") == []  # it was committed, and not yet published
    assert held(root) == list(range(10))
    status, told, _ = run(root, range(20))
    assert (status, told) == (0, b'{"done":19}\n')
    assert held(root) == list(range(20))
    assert list(Archive(root, "src").verify()) == []
    assert storage_of(root).names("src/_meta/packs") == []


@pytest.mark.case("A17")
def test_a_target_that_was_stopped_past_its_lease_ends_with_11_and_harms_nothing(root: str) -> None:
    with start(root, commit_max_seconds=0.1) as first:
        assert tell(first, range(10)) == b'{"done":9}\n'
        first.send_signal(signal.SIGSTOP)
        assert run(root, range(20))[0] == 0
        first.send_signal(signal.SIGCONT)
        assert first.communicate(messages(range(30, 40)), timeout=60)[0] == b""
    assert first.returncode == 11
    assert held(root) == list(range(20))
    assert list(Archive(root, "src").verify()) == []


def test_a_store_that_cannot_be_reached_ends_a_run_with_1_and_tells_no_state(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    status, told, said = run(root, range(3))
    assert (status, told) == (1, b"")
    assert root in said
    assert "Traceback" not in said
