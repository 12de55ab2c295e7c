"""Limits on a clock of our own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tap_rest.harness import Collected, FastClock, HandClock, json_api, run
from tests.tap_rest.hostile import Hostile, response

from tap_rest.engine.engine import Engine, RunIncomplete
from tap_rest.engine.messages import RawLane
from tap_rest.engine.state import State
from tap_rest.engine.transport import Transport
from tap_rest.errors import Postponed, RequestRefused, TapError
from tap_rest.language.declaration import load
from tap_rest.language.verdicts import judge
from tap_rest.limits.books import OwnBooks
from tap_rest.limits.breaker import COOL_OFF, FAILURES, PAUSE
from tap_rest.limits.limits import LEASE, LOOK_AGAIN, POLITE_GAP, Hold, Limit, Limiter
from tap_rest.limits.quota_headers import LONGEST_WAIT
from tap_rest.page import Page
from tap_rest.request import Request

NOW = 1_700_000_100.0  # a quarter of an hour by the clock begins
REQUEST = Request("https://x.test/a")
T = TypeVar("T")


def elsewhere(do: Callable[[], T]) -> T:
    """What it gives, done in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(do).result()


class Sender:
    """Sends as the engine does, on a clock whose waits pass at once; an answer comes `latency` seconds after."""

    def __init__(self, *limits: dict[str, Any], base_url: str = "https://x.test", latency: float = 0.0) -> None:
        self.clock = HandClock(NOW)
        self.limiter = Limiter(msgspec.convert(list(limits), list[Limit]), self.clock.now, base_url)
        self.latency = latency

    def wait(self, path: str = "/a", method: str = "GET") -> float:
        """Seconds until such a request might go; one that may go at once is in flight, until the next call here."""
        hold = self.limiter.acquire(Request(f"https://x.test{path}", method))
        return 0.0 if hold is None else round(hold.seconds, 6)

    def send(
        self, path: str = "/a", status: int = 200, method: str = "GET", body: bytes = b"{}", **headers: str
    ) -> float:
        """Waits, sends and answers; gives the time of sending."""
        request = Request(f"https://x.test{path}", method)
        while (hold := self.limiter.acquire(request)) is not None:
            self.clock.passed += hold.seconds
        sent = self.clock.passed
        self.clock.passed += self.latency
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        page = Page(request, status, named, body)
        self.limiter.observe(page, judge(page, now=self.clock.now()))
        return sent


FAST = {"quota": "1000/s"}


@pytest.mark.case("R001-9")
def test_without_a_quota_requests_to_one_origin_keep_a_polite_distance() -> None:
    sender = Sender()
    assert sender.wait() == 0.0
    assert sender.wait() == POLITE_GAP
    assert sender.limiter.acquire(Request("https://y.test/a")) is None
    sender.clock.passed = 10.0
    assert sender.wait() == 0.0


@pytest.mark.case("R003-8")
@given(st.integers(1, 20), st.integers(1, 60), st.floats(0, 3), st.lists(st.floats(0, 30), min_size=1, max_size=60))
@pytest.mark.case("trap:2.bucket-never-deducts")
def test_no_stretch_of_time_holds_more_than_the_quota(
    count: int, window: int, latency: float, pauses: list[float]
) -> None:
    """Whenever within its latency the server counts a request: between the answer to one and the sending of another."""
    sender = Sender({"quota": f"{count}/{window}s"}, latency=latency)
    sent = []
    for pause in pauses:
        sender.clock.passed += pause
        sent.append(sender.send())
    assert all(later - earlier - latency >= window - 1e-5 for earlier, later in zip(sent, sent[count:], strict=False))


@pytest.mark.case("R003-8")
@given(st.integers(1, 20), st.integers(1, 60), st.lists(st.floats(0, 30), min_size=1, max_size=60))
def test_no_window_of_the_clock_holds_more_than_the_quota(count: int, window: int, pauses: list[float]) -> None:
    sender = Sender({"quota": f"{count}/{window}s", "window": "fixed"})
    sent: dict[int, int] = {}
    for pause in pauses:
        sender.clock.passed += pause
        number = int((NOW + sender.send()) // window)
        sent[number] = sent.get(number, 0) + 1
    assert max(sent.values()) <= count


@pytest.mark.case("R000-4")
def test_the_181st_request_waits_for_the_edge_of_the_window() -> None:
    sender = Sender({"quota": ["180/15min", "1000/d"], "window": "fixed"})
    sender.clock.passed = 100.0
    assert {sender.send() for _ in range(180)} == {100.0}
    assert sender.wait() == 801.0  # and a second, for clocks that differ
    for _ in range(1000 - 180):
        sender.send()
    day = 86400 - NOW % 86400
    assert sender.clock.passed < day
    assert sender.send() == pytest.approx(day + 1.0)


@pytest.mark.case("R000-4")
def test_several_windows_hold_together() -> None:
    for limits in ([{"quota": "2/s"}, {"quota": "3/min"}], [{"quota": ["2/s", "3/min"]}]):
        sender = Sender(*limits)
        assert [sender.send() for _ in range(4)] == pytest.approx([0.0, 0.0, 1.0, 60.0])


def test_a_huge_quota_is_spread_and_not_remembered_whole() -> None:
    sender = Sender({"quota": "1000000/d"})
    assert {sender.send() for _ in range(1000)} == {0.0}


@pytest.mark.case("trap:2.throttle-not-locked")
def test_threads_share_one_quota() -> None:
    sender = Sender({"quota": "10/s", "concurrency": 4})
    waits: list[float] = []
    threads = [threading.Thread(target=lambda: waits.extend(sender.wait() for _ in range(25))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [0.0] * 10 + [1.0] * 90


@pytest.mark.case("R000-5")
def test_an_exhausted_bucket_delays_no_other() -> None:
    sender = Sender(
        {"name": "core", "quota": "5000/h"},
        {"name": "search", "match": {"path": "/search/**"}, "quota": "2/min"},
        base_url="https://x.test/api/v3/",
    )
    for _ in range(2):
        sender.send("/api/v3/search/issues")
    hold = sender.limiter.acquire(Request("https://x.test/api/v3/search/issues"))
    assert hold is not None
    assert (round(hold.seconds), hold.reason) == (60, "the rate limit search")
    assert sender.wait("/api/v3/repos") == 0.0
    sender.send("/api/v3/search", 429, retry_after="300")
    assert sender.wait("/api/v3/search/code?q=1") == 300.0
    assert sender.wait("/api/v3/repos") == 0.0


@pytest.mark.case("R000-5")
def test_requests_that_no_limit_matches_are_not_held_back_by_those_that_one_does() -> None:
    sender = Sender({"match": {"path": "/search"}, "quota": "2/min"})
    sender.send("/search", 429, retry_after="300")
    assert sender.wait("/search") == 300.0
    assert sender.wait("/a") == 0.0


def test_a_limit_that_matches_everything_counts_beside_one_that_matches_a_part() -> None:
    sender = Sender(
        {"match": {"path": "/**"}, "quota": "3/min"},
        {"match": {"path": "/incremental/*", "method": "GET"}, "quota": "1/min"},
    )
    assert sender.wait("/incremental/tickets") == 0.0
    assert sender.wait("/incremental/users") == 60.0
    assert sender.wait("/incremental/users", "POST") == 0.0
    assert sender.wait("/incremental/users/7") == 0.0
    assert sender.wait("/tickets") == 60.0


def test_a_request_takes_its_weight_of_the_quota() -> None:
    sender = Sender({"match": [{"path": "/heavy", "weight": 5}, {}], "quota": "10/min"})
    sender.send("/heavy")
    for _ in range(4):
        sender.send("/light")
    assert sender.wait("/heavy") == 60.0
    assert sender.wait("/light") == 0.0
    assert sender.wait("/light") == 60.0


@pytest.mark.parametrize("path", ["/search", "/search/", "/search/a/b"])
def test_two_stars_at_the_end_hold_whatever_is_below(path: str) -> None:
    limit = msgspec.convert({"match": {"path": "/search/**"}}, Limit)
    assert limit.weight("GET", path) == 1
    assert limit.weight("GET", "/searches") is None


@pytest.mark.case("R000-17")
@pytest.mark.case("R003-8")
@pytest.mark.case("trap:2.sleeps-a-fixed-minute")
def test_nothing_is_sent_before_the_reset_and_then_at_once() -> None:
    sender = Sender(FAST)
    sender.send(x_ratelimit_remaining="1", x_ratelimit_reset="30")
    sender.send(x_ratelimit_remaining="0", x_ratelimit_reset="30")
    sender.send(x_ratelimit_remaining="99", x_ratelimit_reset="30")
    assert sender.clock.passed == 30.0
    assert sender.limiter.acquire(Request("https://y.test/")) is None


@pytest.mark.case("R003-8")
@pytest.mark.case("trap:2.adaptive-refill")
def test_an_answer_never_refills_a_quota_nor_shortens_a_wait() -> None:
    sender = Sender({"quota": "2/min"})
    sender.send(x_ratelimit_remaining="0", x_ratelimit_reset="90")
    page = Page(REQUEST, 200, {"x-ratelimit-remaining": "1000", "x-ratelimit-reset": "1"}, b"{}")
    sender.limiter.observe(page, judge(page, now=NOW))
    assert sender.wait() == 90.0


@pytest.mark.case("R003-9")
def test_a_reserve_is_left_for_others() -> None:
    sender = Sender({"quota": "1000/s", "reserve": 10})
    left = 60
    while sender.clock.passed == 0.0:
        left -= 1
        sender.send(x_ratelimit_limit="60", x_ratelimit_remaining=str(left), x_ratelimit_reset="60")
        if sender.wait():
            break
    assert left == 6


@pytest.mark.case("C19")
@pytest.mark.parametrize("status", [403, 429, 503])
def test_retry_after_holds_back_all_requests_to_the_origin(status: int) -> None:
    sender = Sender(FAST)
    sender.send("/a", status, retry_after="12")
    assert sender.wait("/b") == 12.0
    sender.clock.passed = 12.0
    assert sender.wait("/b") == 0.0


def test_a_rounded_reset_is_not_waited_for_where_a_declared_quota_says_it_exactly() -> None:
    sender = Sender({"quota": "2/s"}, latency=0.1)
    sender.send(ratelimit='"a";r=1;t=1')
    sender.send(ratelimit='"a";r=0;t=1')
    assert sender.wait() == pytest.approx(0.9)
    sender.clock.passed += 5
    sender.send(ratelimit='"a";r=0;t=1')
    assert sender.wait() == 1.0, "someone else has used the quota"


@pytest.mark.case("trap:4.11")
def test_a_success_may_ask_for_a_pause() -> None:
    sender = Sender(FAST)
    sender.send(backoff="10")
    assert sender.wait() == 10.0
    sender = Sender(FAST)
    sender.send(x_backoff="99999999999", retry_after="5")
    assert sender.wait() == LONGEST_WAIT


def test_only_the_declared_family_counts() -> None:
    waits = {}
    for family in ("auto", "x-ratelimit", "ratelimit", "none"):
        sender = Sender({"quota": "1000/s", "headers": family})
        sender.send(x_ratelimit_remaining="0", x_ratelimit_reset="30", ratelimit="r=0;t=60")
        waits[family] = sender.wait()
    assert waits == {"auto": 60.0, "x-ratelimit": 30.0, "ratelimit": 60.0, "none": 0.0}


@pytest.mark.case("R003-9")
def test_where_the_server_says_nothing_the_pace_falls_and_recovers_within_bounds() -> None:
    def gap(sender: Sender, status: int = 200) -> float:
        return -sender.send("/a", status) + sender.send("/a", status)

    sender = Sender({"quota": "10/s"})
    assert gap(sender) == 0.0
    sender.send("/a", 429)
    assert gap(sender) == pytest.approx(0.1 / 0.75, rel=0.05)
    for _ in range(50):
        began = sender.clock.passed
        sender.send("/a", 429)
    assert sender.clock.passed - began < 0.2, "refusals in a row are one"
    for _ in range(50):
        sender.send("/a", 429)
        sender.send("/a", 404)
    assert gap(sender) == pytest.approx(1.2, abs=0.4)
    for _ in range(600):
        sender.send()
    sender.clock.passed += 5
    assert gap(sender) == 0.0


def test_a_slow_quota_has_a_floor_of_its_own() -> None:
    sender = Sender({"quota": "1000/s"})
    for _ in range(100):
        sender.send("/a", 503)
        sender.send("/a", 400)
    assert sender.wait() <= 16 / 1000
    sender = Sender({"quota": "5/h"})
    for _ in range(5):
        sender.send("/a", 429)
    assert sender.wait() <= 3600.0


@pytest.mark.case("R000-3")
@pytest.mark.parametrize(
    ("status", "body", "held"),
    [
        (403, b"", True),
        (418, b"teapot", True),
        (451, b"<p>no", True),
        (200, b"<!DOCTYPE html>", True),
        (404, b"<html>", True),
        (403, b'{"message": "not yours"}', False),
        (404, b"", False),
        (400, b"<p>no", False),
    ],
)
def test_answers_in_a_row_that_look_like_a_block_bring_a_cool_off(status: int, body: bytes, held: bool) -> None:
    sender = Sender(FAST)
    for _ in range(3):
        assert sender.wait() == 0.0
        page = Page(REQUEST, status, {}, body)
        sender.limiter.observe(page, judge(page, now=NOW))
        sender.clock.passed += 1
    assert sender.wait() == (COOL_OFF - 1 if held else 0.0)


@pytest.mark.case("trap:2.breaker-trips-on-anything")
@pytest.mark.case("R003-11")
def test_the_circuit_is_broken_by_failures_and_not_by_refusals() -> None:
    sender = Sender(FAST)
    for _ in range(3 * FAILURES):
        sender.send("/a", 404, body=b'{"error": "no"}')
    assert sender.wait() == 0.0
    for _ in range(FAILURES):
        sender.limiter.failed(REQUEST)
    assert sender.wait() == PAUSE
    sender.clock.passed += PAUSE
    assert sender.wait() == 0.0, "the probe"
    assert elsewhere(sender.wait) > 0.0
    sender.limiter.failed(REQUEST)
    assert sender.wait() == 2 * PAUSE


@pytest.mark.case("R003-11")
def test_once_the_circuit_is_open_only_the_probe_decides() -> None:
    sender = Sender({**FAST, "concurrency": 4})
    assert sender.wait() == 0.0, "in flight before the circuit opens"
    for _ in range(FAILURES):
        elsewhere(lambda: sender.limiter.failed(REQUEST))
    late = Page(REQUEST, 200, {}, b"{}")
    sender.limiter.observe(late, judge(late, now=NOW))
    elsewhere(lambda: sender.limiter.failed(REQUEST))
    assert sender.wait() == PAUSE
    sender.clock.passed += PAUSE
    assert elsewhere(sender.wait) == 0.0, "the probe, whose thread then ends"
    assert sender.wait() == LOOK_AGAIN
    sender.clock.passed += LEASE + 1
    assert sender.wait() == 0.0, "a probe that got lost holds nobody back for ever"
    sender.limiter.observe(late, judge(late, now=NOW))
    assert elsewhere(sender.wait) == 0.0


@pytest.mark.case("R000-8")
def test_no_more_requests_are_in_flight_than_the_limit_allows() -> None:
    sender = Sender({**FAST, "concurrency": 3}, {"match": {"path": "/one"}, "quota": "1000/s"})
    assert sender.limiter.side_by_side == 3
    with ThreadPoolExecutor(4) as pool:
        together = threading.Barrier(4)

        def ask(path: str) -> float:
            together.wait()
            return sender.wait(path)

        assert sorted(pool.map(ask, ["/a"] * 4)) == [0.0, 0.0, 0.0, LOOK_AGAIN]
        assert sorted(pool.map(ask, ["/one"] * 4)) == [0.0, LOOK_AGAIN, LOOK_AGAIN, LOOK_AGAIN]
        assert sender.wait("/a") == 0.0, "each thread has given back what it had"


def test_without_a_word_about_it_requests_go_one_after_the_other() -> None:
    assert Sender().limiter.side_by_side == 1
    assert Sender(FAST, {"match": {"path": "/b"}}).limiter.side_by_side == 1


@pytest.mark.parametrize("how", ["observe", "failed", "release", "acquire"])
def test_whatever_becomes_of_a_request_its_place_is_given_back(how: str) -> None:
    sender = Sender({"quota": "1/min"})
    assert sender.wait() == 0.0
    assert elsewhere(sender.wait) == 60.0
    sender.clock.passed += 30.0
    page = Page(REQUEST, 200, {}, b"{}")
    ways: dict[str, Callable[[], object]] = {
        "observe": lambda: sender.limiter.observe(page, judge(page, now=NOW)),
        "failed": lambda: sender.limiter.failed(REQUEST),
        "release": sender.limiter.release,
        "acquire": sender.wait,
    }
    ways[how]()
    sender.limiter.release()
    sender.clock.passed += 30.0
    assert elsewhere(sender.wait) == 30.0, "it counts from when it came back"
    sender.clock.passed += 30.0
    assert elsewhere(sender.wait) == 0.0


def test_a_request_in_flight_counts_until_it_is_answered() -> None:
    sender = Sender({"quota": "1/s", "concurrency": 2})
    assert sender.wait() == 0.0
    sender.clock.passed += 5.0
    hold = elsewhere(lambda: sender.limiter.acquire(REQUEST))
    assert hold == Hold(1.0, "the rate limit")


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.sampled_from([200, 429, 500, 403])), max_size=30))
def test_a_clock_that_jumps_makes_no_wait_longer(jumps: list[tuple[float, int]]) -> None:
    sender = Sender({"quota": ["3/10s", "20/h"]}, {"match": {}, "quota": "5/min", "window": "fixed"})
    for jump, status in jumps:
        sender.clock.passed += jump
        assert sender.wait() <= 3600.0
        page = Page(REQUEST, status, {"retry-after": "1800"} if status == 429 else {}, b"")
        sender.limiter.observe(page, judge(page, now=sender.clock.now()))


def test_buckets_have_circuits_of_their_own() -> None:
    sender = Sender(FAST, {"match": {"path": "/search"}, "quota": "100/s"})
    for _ in range(FAILURES):
        sender.limiter.failed(Request("https://x.test/search"))
    assert sender.wait("/search") == PAUSE
    assert sender.wait("/a") == 0.0


@pytest.mark.parametrize(
    "limit",
    [
        *({"quota": text} for text in ("5000/hour", "0/s", "5000", "5/0s", "-1/s", "1.5/s", "5000/h ", ["5/s", "x"])),
        {"quota": ["100/min", "4/s"], "match": {"weight": 5}},
        {"match": {"weight": 0}},
        {"reserve": 91},
        {"concurrency": 0},
        {"window": "tumbling"},
    ],
)
def test_a_limit_that_is_not_one_is_refused(limit: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(limit, Limit)


ROWS = """
streams:
  rows: {path: /rows, records: $}
  more: {path: /more, records: $}
  last: {path: /last, records: $}
  held: {path: /held, records: $}
"""


@pytest.mark.case("R000-3")
def test_a_blocked_run_sends_nothing_more_and_is_postponed(tmp_path: Path) -> None:
    with Hostile(lambda _: [response(b"<html>who are you?", status="403 No")]) as server:
        result = run(tmp_path, server, ROWS, max_wait=600)
    assert isinstance(result.error, Postponed)
    assert "3 answers in a row that look like a block, asks to wait" in str(result.error)
    assert len(server.seen) == 3


def test_an_answer_that_a_rule_expects_is_no_block(tmp_path: Path) -> None:
    rule = "errors: [{when: {status: 403}, then: fail_stream}]"
    with Hostile(lambda _: [response(b"<html>not in your plan", status="403 No")]) as server:
        result = run(tmp_path, server, rule + ROWS, max_wait=600)
    assert isinstance(result.error, RunIncomplete)
    assert len(server.seen) == 4


def test_forbidden_streams_are_no_block(tmp_path: Path) -> None:
    with Hostile(lambda _: [response(b'{"message":"not yours"}', status="403 No")]) as server:
        result = run(tmp_path, server, ROWS, max_wait=600)
    assert isinstance(result.error, RunIncomplete)
    assert len(server.seen) == 4


@pytest.mark.case("R000-5")
def test_a_run_counts_each_request_against_the_limits_of_its_path(tmp_path: Path) -> None:
    limits = "limits: [{match: {path: /rows}, quota: 1/h}, {match: {path: '/*', weight: 2}, quota: 4/min}]"
    with json_api(lambda *_: []) as server:
        result = run(tmp_path, server, limits + ROWS)
    assert result.error is None
    assert len(server.seen) == 4
    assert result.clock.waits == pytest.approx([60.0])


def checked(folder: Path, server: Hostile, declaration: str, expected: list[type[TapError] | None]) -> list[float]:
    """What a check has waited, after as many of them as there are ways for it to end."""
    file = folder / "api.yaml"
    file.write_text(f"name: tap-test\nbase_url: {server.url}\ncheck: {{path: /me}}\n{declaration}{ROWS}")
    bound = load(file).bind({"tokens": "t0ken-a,t0ken-b"} if "pool" in declaration else {})
    assert bound.check is not None
    with closing(FastClock()) as clock, closing(Transport()) as transport:
        state, lane = State(None, now=clock.now()), RawLane(Collected())
        engine = Engine(bound, state=state, lane=lane, clock=clock, transport=transport, max_wait=600)
        for error in expected:
            if error is None:
                engine.sending.check(bound.check)
            else:
                with pytest.raises(error):
                    engine.sending.check(bound.check)
        return clock.waits


@pytest.mark.case("R000-3")
def test_a_check_sends_nothing_during_a_cool_off(tmp_path: Path) -> None:
    with Hostile(lambda _: [response(b"<html>who are you?", status="403 No")]) as server:
        checked(tmp_path, server, "", [*[RequestRefused] * 3, Postponed])
        assert len(server.seen) == 3


def test_a_check_without_an_answer_counts_as_a_failure(tmp_path: Path) -> None:
    with Hostile(lambda _: []) as server:
        checked(tmp_path, server, "", [*[TapError] * FAILURES, Postponed])
        assert len(server.seen) == FAILURES


@pytest.mark.parametrize("refused", ["", "t0ken-a"])
def test_the_check_of_each_credential_takes_of_its_own_quota(tmp_path: Path, refused: str) -> None:
    auth = """
settings: {tokens: {sensitive: true}}
auth: {type: pool, of: {type: bearer, token: "{settings.tokens}"}}
limits: [{quota: 1/5min}]
"""

    def answer(request: str) -> list[bytes]:
        return [response(b"{}", status="401 No" if refused and refused in request else "200 OK")]

    with Hostile(answer) as server:
        assert checked(tmp_path, server, auth, [None, None]) == [300.0]
        asked = ["t0ken-a" in request for request in server.seen]
    assert asked == ([True, False, False] if refused else [True, False, True, False])


def test_a_request_that_could_not_be_signed_holds_no_other_back(tmp_path: Path) -> None:
    auth = "auth: {type: oauth2, grant: client_credentials, token_url: /token, client_id: me, client_secret: s}\n"
    tokens = iter([response(b"{}", status="400 No"), response(b'{"access_token": "t0ken", "token_type": "Bearer"}')])
    books = OwnBooks()
    with Hostile(lambda request: [next(tokens) if "/token" in request else response(b"[]")]) as server:
        declaration = auth.replace("/token", f"{server.url}/token") + ROWS
        refused = run(tmp_path, server, declaration, books=books)
        assert isinstance(refused.error, TapError)
        assert elsewhere(lambda: run(tmp_path, server, declaration, books=books, max_wait=600)).error is None
