"""Limits that several processes keep together, and that outlive a process."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tap_rest.harness import HandClock

from tap_rest.language.verdicts import judge
from tap_rest.limits import shared_books
from tap_rest.limits.breaker import COOL_OFF
from tap_rest.limits.limits import LEASE, LOOK_AGAIN, POLITE_GAP, Limit, Limiter
from tap_rest.limits.shared_books import SharedBooks
from tap_rest.page import Page
from tap_rest.request import Request

NOW = 1_700_000_000.0
REQUEST = Request("https://x.test/a")
FAST = {"quota": "1000/s", "concurrency": 32}

PROCESS = """
import json, sys, threading
from pathlib import Path
import msgspec
from tap_rest.engine.signals import Waiter
from tap_rest.engine.transport import Transport
from tap_rest.language.verdicts import judge
from tap_rest.limits.limits import Limit, Limiter
from tap_rest.limits.shared_books import SharedBooks
from tap_rest.request import Request

file, url, limits, times = sys.argv[1:]
clock, transport = Waiter(), Transport()
limits = msgspec.convert(json.loads(limits), list[Limit])
limiter, request = Limiter(limits, clock.now, books=SharedBooks(Path(file))), Request(url)

def ask():
    for _ in range(int(times)):
        while (hold := limiter.acquire(request)) is not None:
            if hold.seconds > 60:
                print(hold.seconds, flush=True)
                return
            clock.wait(hold.seconds)
        page = transport.send(request)
        limiter.observe(page, judge(page, now=clock.now()))

threads = [threading.Thread(target=ask) for _ in range(limiter.side_by_side)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


class Counting(ThreadingHTTPServer):
    """Answers `{}` after `latency` seconds, and counts."""

    def __init__(self, latency: float = 0.0, status: int = 200) -> None:
        self.times: list[float] = []
        self.most = self.now = 0
        counted = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(handler) -> None:  # noqa: N805 - the server is `self` here
                with counted:
                    self.times.append(time.monotonic())
                    self.now += 1
                    self.most = max(self.most, self.now)
                time.sleep(latency)
                with counted:
                    self.now -= 1
                handler.send_response(status)
                handler.send_header("Content-Length", "2")
                handler.end_headers()
                handler.wfile.write(b"{}" if status == 200 else b"no")

            def log_message(handler, *_: Any) -> None:  # noqa: N805
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)
        self.block_on_close = False
        self.url = f"http://127.0.0.1:{self.server_address[1]}/rows"


@contextmanager
def serving(**how: Any) -> Iterator[Counting]:
    with Counting(**how) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def process(file: Path, url: str, times: int, **limit: Any) -> subprocess.Popen[str]:
    """A process that asks so many times in each of its threads."""
    args = [sys.executable, "-c", PROCESS, str(file), url, json.dumps([limit]), str(times)]
    return subprocess.Popen(args, stdout=subprocess.PIPE, text=True)


def said(asking: subprocess.Popen[str]) -> str:
    text, _ = asking.communicate(timeout=60)
    assert asking.returncode == 0
    return text


class Runs:
    """Several runs with one file and one clock, as processes would have them."""

    def __init__(self, file: Path, *limits: dict[str, Any]) -> None:
        self.file, self.clock = file, HandClock(NOW)
        self._limits = msgspec.convert(list(limits), list[Limit])

    def run(self, identity: str = "") -> Limiter:
        return Limiter(self._limits, self.clock.now, books=SharedBooks(self.file), identity=(identity,))


def wait(limiter: Limiter, request: Request = REQUEST) -> float:
    """Seconds until a request might go; one that may go at once is in flight."""
    hold = limiter.acquire(request)
    return 0.0 if hold is None else round(hold.seconds, 6)


def answer(limiter: Limiter, status: int = 200, body: bytes = b"{}", now: float = NOW, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    page = Page(REQUEST, status, named, body)
    limiter.observe(page, judge(page, now=now))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "limits.sqlite"


@pytest.mark.case("R000-3")
@pytest.mark.case("R000-27")
def test_four_processes_together_stay_below_a_ceiling(file: Path) -> None:
    with serving() as server:
        running = [process(file, server.url, 4, quota="10/s", concurrency=3) for _ in range(4)]
        assert [said(each) for each in running] == [""] * 4
    assert len(server.times) == 4 * 3 * 4
    stretches = [later - earlier for earlier, later in zip(server.times, server.times[10:], strict=False)]
    assert min(stretches) > 0.999, "a second, but for what sets the wall clock right meanwhile"


@pytest.mark.case("R000-8")
@pytest.mark.case("R000-27")
def test_processes_together_have_no_more_in_flight_than_the_limit_allows(file: Path) -> None:
    with serving(latency=0.03) as server:
        running = [process(file, server.url, 8, **FAST | {"concurrency": 3}) for _ in range(3)]
        for each in running:
            said(each)
    assert len(server.times) == 3 * 3 * 8
    assert server.most == 3


@pytest.mark.case("R000-27")
def test_a_killed_process_holds_nobody_back(file: Path) -> None:
    with serving(latency=60.0) as server:
        killed = process(file, server.url, 1, quota="1000/s")
        while not server.times:
            time.sleep(0.01)
        limiter = Limiter([Limit(quota="1000/s")], books=SharedBooks(file))
        assert wait(limiter, Request(server.url)) == LOOK_AGAIN
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert wait(limiter, Request(server.url)) == 0.0


def test_a_request_of_another_machine_is_waited_for_no_longer_than_a_lease(file: Path) -> None:
    runs = Runs(file, {"quota": "1000/s"})
    there = SharedBooks(file)
    there.holder = "another-machine:1:abcd"
    assert Limiter(runs._limits, runs.clock.now, books=there, identity=("",)).acquire(REQUEST) is None
    here = runs.run()
    assert wait(here) == LOOK_AGAIN
    runs.clock.passed += LEASE + 1 - 86400.0
    assert wait(here) == LOOK_AGAIN, "the clock was set back"
    runs.clock.passed += LEASE + 1
    assert wait(here) == 0.0


@pytest.mark.case("R000-3")
def test_a_cool_off_outlives_the_process(file: Path) -> None:
    with serving(status=403) as server:
        first = process(file, server.url, 5, quota="1000/s")
        assert float(said(first)) == pytest.approx(COOL_OFF, abs=5)
        assert len(server.times) == 3
        assert float(said(process(file, server.url, 5, quota="1000/s"))) == pytest.approx(COOL_OFF, abs=30)
        assert len(server.times) == 3


@pytest.mark.case("R000-3")
def test_a_cool_off_that_one_run_brings_holds_for_all_and_one_probe_ends_it(file: Path) -> None:
    runs = Runs(file, FAST)
    one, two = runs.run(), runs.run()
    for _ in range(3):
        assert wait(one) == 0.0
        answer(one, 403, b"no")
    assert [wait(one), wait(two)] == [COOL_OFF, COOL_OFF]
    runs.clock.passed += COOL_OFF
    assert [wait(two), wait(one)] == [0.0, LOOK_AGAIN]
    answer(two)
    assert wait(one) == 0.0


@pytest.mark.case("R000-17")
def test_what_a_server_says_to_one_run_holds_for_all(file: Path) -> None:
    runs = Runs(file, {**FAST, "name": "core"}, {**FAST, "name": "search", "match": {"path": "/search"}})
    one, two = runs.run(), runs.run()
    assert wait(one) == 0.0
    answer(one, x_ratelimit_remaining="0", x_ratelimit_reset="120")
    assert wait(two) == 120.0
    assert wait(two, Request("https://x.test/search")) == 0.0
    assert wait(two, Request("https://y.test/a")) == 0.0
    assert wait(runs.run("another credential")) == 0.0


@pytest.mark.case("R001-9")
def test_the_polite_distance_is_kept_between_runs(file: Path) -> None:
    runs = Runs(file)
    one, two = runs.run(), runs.run()
    assert wait(one) == 0.0
    answer(one)
    assert wait(two) == POLITE_GAP


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 9), st.sampled_from([200, 200, 429, 503])), max_size=40))
def test_several_runs_are_held_as_one_would_be(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, float, int]]
) -> None:
    limits = ({"quota": ["3/5s", "20/h"]}, {"match": {}, "quota": "4/10s", "window": "fixed"})
    runs = Runs(tmp_path_factory.mktemp("runs") / "limits.sqlite", *limits)
    several, alone = [runs.run() for _ in range(3)], Limiter(runs._limits, runs.clock.now)
    for number, pause, status in steps:
        runs.clock.passed += pause
        together = several[number].acquire(REQUEST)
        assert together == alone.acquire(REQUEST)
        if together is None:
            for limiter in (several[number], alone):
                answer(limiter, status, now=runs.clock.now())


def test_a_clock_that_is_set_back_makes_no_run_wait_longer(file: Path) -> None:
    runs = Runs(file, {"quota": "2/min"})
    one = runs.run()
    for _ in range(2):
        assert wait(one) == 0.0
        answer(one)
    runs.clock.passed -= 86400.0
    assert wait(runs.run()) == 60.0
    runs.clock.passed += 60.0
    assert wait(runs.run()) == 0.0


def test_the_file_is_for_its_owner_alone_and_holds_no_credential(file: Path) -> None:
    runs = Runs(file, {"name": "core"})
    limiter = runs.run("hunter2-and-more")
    assert wait(limiter) == 0.0
    assert file.parent.stat().st_mode & 0o777 == 0o700
    files = list(file.parent.iterdir())
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}
    assert not any(b"hunter2" in each.read_bytes() for each in files)
    ((key,),) = sqlite3.connect(file).execute("SELECT key FROM books_1").fetchall()
    assert key.startswith("https://x.test:443 core 1 ")


def test_its_size_is_bounded(file: Path) -> None:
    runs = Runs(file, {"quota": ["1000000/d", "100000/h"]})
    limiter = runs.run()
    for _ in range(3000):
        runs.clock.passed += 30
        assert wait(limiter) == 0.0
        answer(limiter)
    db = sqlite3.connect(file)
    ((size,),) = db.execute("SELECT length(books) FROM books_1").fetchall()
    assert size < 4096
    others = ((f"older {number}", NOW + number, b"") for number in range(1500))
    db.executemany("INSERT INTO books_1 VALUES (?, ?, ?)", others)
    db.commit()
    SharedBooks(file).close()
    assert db.execute("SELECT count(*), max(written) FROM books_1").fetchone() == (1000, runs.clock.now())


def _locked(file: Path) -> Any:
    SharedBooks(file).close()
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    return db


def _damaged(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"this is no database" * 100)


def _damaged_row(file: Path) -> None:
    runs = Runs(file, FAST)
    assert wait(runs.run()) == 0.0
    with sqlite3.connect(file) as db:
        db.execute("UPDATE books_1 SET books = x'93c1'")


def _a_folder(file: Path) -> None:
    file.mkdir(parents=True)


def _no_folder(file: Path) -> None:
    file.parent.write_text("")


def _another_table(file: Path) -> None:
    file.parent.mkdir()
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE books_1 (key TEXT)")


@pytest.mark.parametrize("spoil", [_locked, _damaged, _damaged_row, _a_folder, _no_folder, _another_table])
def test_without_a_usable_file_a_run_says_so_once_and_keeps_its_own_books(
    file: Path, spoil: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_books, "LONGEST_LOCK", 0.05)
    held = spoil(file)
    runs = Runs(file, {"quota": "2/min"})
    with caplog.at_level(logging.WARNING):
        limiter = runs.run()
        for _ in range(2):
            assert wait(limiter) == 0.0
            answer(limiter)
    assert wait(limiter) == 60.0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "limits are not shared with other runs" in caplog.text
    assert str(file) in caplog.text
    del held


def test_a_file_that_goes_bad_in_the_middle_loses_nothing_of_the_own_books(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_books, "LONGEST_LOCK", 0.05)
    runs = Runs(file, {"quota": "2/min"})
    limiter = runs.run()
    assert wait(limiter) == 0.0
    answer(limiter)
    held = _locked(file)
    for seconds in (0.0, 60.0):
        assert wait(limiter) == seconds
        answer(limiter)
    assert len(caplog.records) == 1
    held.close()


def test_a_run_that_may_not_write_keeps_its_own_books(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    SharedBooks(file).close()
    file.chmod(0o400)
    if os.access(file, os.W_OK):
        pytest.skip("this user may write to everything")
    assert wait(Runs(file, FAST).run()) == 0.0
    assert len(caplog.records) == 1


def test_processes_that_begin_together_make_one_file(tmp_path: Path) -> None:
    code = "import sys, pathlib; from tap_rest.limits.shared_books import SharedBooks; sys.stdin.readline(); "
    code += "books = SharedBooks(pathlib.Path(sys.argv[1]))\nfor _ in range(20):\n"
    code += "    with books.opened(['k']) as (found,):\n        found.latest += 1\n"
    file = tmp_path / "limits.sqlite"
    running = [
        subprocess.Popen([sys.executable, "-c", code, file], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    time.sleep(1.0)
    ended = list(itertools.starmap(subprocess.Popen.communicate, [(each, "\n") for each in running]))
    assert {errors for _, errors in ended} == {""}
    with SharedBooks(file).opened(["k"]) as (found,):
        assert found.latest == 6 * 20
