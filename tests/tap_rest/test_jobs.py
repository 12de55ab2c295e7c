"""Report jobs against a server that has some: ordered, asked about, read, cleaned up, whatever goes wrong between."""

from __future__ import annotations

import gzip
import json
import signal
import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.command_line import config, declared, messages, status_of
from tests.tap_rest.harness import NOW, FastClock, Run, run, written
from tests.tap_rest.hostile import Hostile, head, response

from tap_rest.engine.engine import RunIncomplete
from tap_rest.engine.signals import Interrupted
from tap_rest.errors import DeclarationError, Postponed, UnexpectedPage
from tap_rest.language.declaration import load
from tap_rest.language.jobs import Job
from tap_rest.page import Page
from tap_rest.request import Request

ROWS = [{"id": str(number), "v": f"row {number}"} for number in range(25)]
FILE = "id,v\n" + "".join(f"{row['id']},{row['v']}\n" for row in ROWS)


class Reports:
    """A model of an API with report jobs; `plan` says what becomes of each job, in the order of their making.

    Attributes:
        jobs: What each job that was ever made was ordered with, by its id.
        deleted: The ids of those that were deleted, in order.
        files: Where the files are; other servers' URLs are given out as they are.
        faults: Raw answers to be given instead, by `METHOD /path`, one after another.
    """

    def __init__(self, *plan: Sequence[str], polls: Sequence[str] = ("queued", "running", "done")) -> None:
        self.plan, self._polls = list(plan), polls
        self.jobs: dict[str, dict[str, Any]] = {}
        self.deleted: list[str] = []
        self.counts = Counter[str]()
        self.faults: dict[str, list[bytes]] = {}
        self.files = "/files/"
        self._left: dict[str, list[str]] = {}
        self.expired: set[str] = set()

    def __call__(self, request: str) -> list[bytes]:
        method, target, _ = request.split(" ", 2)
        path, _, query = target.partition("?")
        self.counts[key := f"{method} {path}"] += 1
        self.counts["requests"] += 1
        made = self._made(request) if key == "POST /reports" else ""
        if fault := self.faults.get(key):
            answer = fault.pop(0)
            if answer.startswith(b"HTTP/1.1 4"):
                self.jobs.pop(made, None)
            return [answer] if answer else []
        if made:
            return [_json({"report_id": made}, "202 Accepted")]
        kind, id_, *rest = path.strip("/").split("/")
        if id_ not in self.jobs or id_ in self.deleted:
            return [_json({"error": "no such report"}, "404 Not Found")]
        if method == "DELETE":
            self.deleted.append(id_)
            return [head("Content-Length: 0", status="204 No Content")]
        if rest == ["rows"]:
            at = int(query.partition("cursor=")[2] or 0)
            return [_json({"items": ROWS[at : at + 10], "next": str(at + 10) if at < 20 else None})]
        if kind == "files":
            spent = query in self.expired
            return [_json({}, "403 Expired") if spent else response(FILE.encode())]
        left = self._left[id_]
        status = left.pop(0) if len(left) > 1 else left[0]
        self.counts["polls"] += 1
        url = f"{self.files}{id_}?X-Amz-Signature=canary{self.counts['polls']}"
        return [_json({"status": status, "file_url": url if status == "done" else None})]

    def _made(self, request: str) -> str:
        id_ = f"r{len(self.jobs) + 1}"
        self.jobs[id_] = json.loads(request.partition("\r\n\r\n")[2] or "{}")
        self._left[id_] = list(self.plan.pop(0) if self.plan else self._polls)
        return id_

    @property
    def ordered(self) -> int:
        """How many jobs were ever made."""
        return len(self.jobs)


def _json(value: Any, status: str = "200 OK", *headers: str) -> bytes:
    return response(json.dumps(value).encode(), status=status, headers=headers)


JOB = """
      id: report_id
      poll: /reports/{job.id}
      status: status
      running: [queued, running]
      done: [done]
      failed: [failed, expired]
      timeout: 5min
      delete: /reports/{job.id}
"""
PAGES = f"""
streams:
  rows:
    path: /reports
    method: POST
    body: {{kind: all}}
    job:{JOB}
      result: /reports/{{job.id}}/rows
    records: items
    paginator: {{type: cursor, path: next, param: cursor}}
    primary_keys: [id]
"""
FILES = f"""
streams:
  rows:
    path: /reports
    method: POST
    job:{JOB}
      url: file_url
    records: $
    format: {{type: csv}}
    primary_keys: [id]
"""
BOTH = pytest.mark.parametrize("declaration", [PAGES, FILES], ids=["pages", "file"])


@pytest.fixture
def reports() -> Reports:
    return Reports()


def rows(result: Run) -> list[dict[str, Any]]:
    return result.records("rows")


def phases(result: Run) -> list[str]:
    """The phase in which each STATE but the last would go on."""
    pages = [state["bookmarks"].get("rows", {}).get("page") for state in result.states]
    return [page["errand"].get("phase", "submit") for page in pages if page]


@BOTH
def test_a_report_is_ordered_asked_about_read_and_deleted(tmp_path: Path, reports: Reports, declaration: str) -> None:
    with Hostile(reports) as server:
        result = run(tmp_path, server, declaration)
    assert result.error is None
    assert rows(result) == ROWS
    assert (reports.ordered, reports.counts["polls"], reports.deleted) == (1, 3, ["r1"])
    evidence = result.claim("rows")["evidence"]
    assert result.claim("rows")["status"] == "complete"
    assert evidence["requests"] == len(server.seen)
    assert result.engine.summary.pages == evidence["pages"]
    assert (evidence["pages"], evidence["records"], evidence["unique_keys"]) == (
        3 if declaration is PAGES else 1,
        25,
        25,
    )
    assert result.states[-1]["bookmarks"] == {}
    assert [wait for wait in result.clock.waits if wait == 10.0] == [10.0] * 3
    pages = ["page"] * 3 if declaration is PAGES else ["poll"]
    assert [*dict.fromkeys(phases(result))] == [*dict.fromkeys(["poll", *pages, "clean_up"])]


@BOTH
def test_from_every_state_the_same_job_is_gone_on_with(tmp_path: Path, reports: Reports, declaration: str) -> None:
    """Whatever phase a run is killed in: no job more is ordered, and all rows come."""
    with Hostile(reports) as server:
        whole = run(tmp_path, server, declaration)
        for number, state in enumerate(whole.states[:-1]):
            reports.deleted.clear()
            written = {json.dumps(row) for row in _before(whole, number)}
            rest = run(tmp_path, server, declaration, state=json.loads(json.dumps(state)))
            assert rest.error is None
            assert written | {json.dumps(row) for row in rows(rest)} == {json.dumps(row) for row in ROWS}
            assert not written & {json.dumps(row) for row in rows(rest)}
            assert reports.deleted == ["r1"]
            assert rest.claim("rows")["evidence"]["records"] == 25
            assert rest.claim("rows")["status"] == "complete"
    assert len(whole.states) > 5
    assert reports.ordered == 1


def _before(result: Run, number: int) -> list[dict[str, Any]]:
    """The records before a STATE."""
    found, states = [], 0
    for message in result.messages:
        states += message["type"] == "STATE"
        if states > number:
            break
        found += [message["record"]] if message["type"] == "RECORD" else []
    return found


@BOTH
def test_a_job_that_is_gone_when_a_run_goes_on_is_ordered_anew_once(
    tmp_path: Path, reports: Reports, declaration: str
) -> None:
    with Hostile(reports) as server:
        whole = run(tmp_path, server, declaration)
        for state in whole.states[:-1]:
            before, again = reports.ordered, run(tmp_path, server, declaration, state=state)
            assert again.error is None
            done = state["bookmarks"]["rows"]["page"]["errand"]["phase"] == "clean_up"
            assert reports.ordered - before == (0 if done else 1)
            assert rows(again) == ([] if done else ROWS)
            assert again.claim("rows")["status"] == "complete"


def test_a_page_in_flight_is_its_difference_from_the_first_of_the_result(tmp_path: Path, reports: Reports) -> None:
    with Hostile(reports) as server:
        result = run(tmp_path, server, PAGES.replace("job:", "params: {verbose: 1}\n    job:"))
    pages = [state["bookmarks"].get("rows", {}).get("page", {}) for state in result.states]
    steps = [page["step"] for page in pages if page.get("errand", {}).get("phase") == "page"]
    assert steps == [{}, {"params": [["cursor", "10"]]}, {"params": [["cursor", "20"]]}]


def test_a_job_whose_result_can_not_be_gone_on_with_is_deleted(tmp_path: Path, reports: Reports) -> None:
    with Hostile(reports) as server:
        state = run(tmp_path, server, PAGES).states[-3]
        reports.deleted.clear()
        reports.faults["GET /reports/r1/rows"] = [_json({}, "400 Cursor")]
        rest = run(tmp_path, server, PAGES, state=state)
    assert rows(rest) == ROWS
    assert (reports.ordered, reports.deleted) == (2, ["r1", "r2"])


def test_a_status_that_is_a_flag_is_no_number() -> None:
    job = Job(id="id", poll="/p", status="done", running=[False], done=[True], failed=[0, "x"], result="/r")
    asked = Request("https://x.test")
    for text, meaning in {b"true": "done", b"false": "running", b"0": "failed", b'"x"': "failed"}.items():
        assert job.polled(Page(asked, 200, {}, b'{"done":%b}' % text))[0] == meaning
    with pytest.raises(UnexpectedPage, match="status '1'"):
        job.polled(Page(asked, 200, {}, b'{"done":1}'))


def test_a_run_that_is_interrupted_while_it_waits_leaves_the_job_to_the_next(tmp_path: Path, reports: Reports) -> None:
    clock = FastClock()
    reports.plan = [["running"] * 50]

    def answer(request: str) -> list[bytes]:
        if reports.counts["polls"] == 3:
            clock._handle(signal.SIGTERM, None)
        return reports(request)

    with Hostile(answer) as server:
        first = run(tmp_path, server, PAGES, clock=clock)
        assert isinstance(first.error, Interrupted)
        reports._left["r1"] = ["done"]
        second = run(tmp_path, server, PAGES, state=first.states[-1])
    assert rows(first) == []
    assert rows(second) == ROWS
    assert (reports.ordered, reports.deleted) == (1, ["r1"])


@BOTH
def test_a_job_that_fails_twice_is_ordered_a_third_time(tmp_path: Path, declaration: str) -> None:
    reports = Reports(["running", "failed"], ["expired"])
    with Hostile(reports) as server:
        result = run(tmp_path, server, declaration)
    assert result.error is None
    assert rows(result) == ROWS
    assert (reports.ordered, reports.deleted) == (3, ["r1", "r2", "r3"])
    claim = result.claim("rows")
    assert claim["status"] == "complete"
    assert claim["evidence"]["warnings"] == ["the job r1 ended as failed", "the job r2 ended as expired"]


@BOTH
@pytest.mark.parametrize("lost", [0, 1], ids=["after", "before"])
def test_wherever_a_run_ends_at_most_one_job_more_is_ordered(tmp_path: Path, declaration: str, lost: int) -> None:
    """Ended after each of its requests, its STATE written after that or not, and with a job that fails on the way."""
    plan, asked = [["running", "failed"]], 0
    while True:
        asked += 1
        reports, clock = Reports(*plan), FastClock()

        def answer(
            request: str, reports: Reports = reports, clock: FastClock = clock, last: int = asked
        ) -> list[bytes]:
            found = reports(request)
            if reports.counts["requests"] == last:
                clock._handle(signal.SIGTERM, None)
            return found

        with Hostile(answer) as server:
            first = run(tmp_path, server, declaration, clock=clock)
            states = first.states[: len(first.states) - lost]
            kept = _before(first, len(states) - 1)
            if first.error is None:
                break
            rest = run(tmp_path, server, declaration, state=states[-1] if states else None)
        assert rest.error is None
        assert {row["id"] for row in [*kept, *rows(rest)]} == {row["id"] for row in ROWS}
        assert reports.ordered <= 3
        assert reports.ordered == 2 or lost
        assert rest.claim("rows")["status"] == "complete"
    assert asked > 9


def test_jobs_that_all_fail_fail_the_unit_and_the_next_run_orders_a_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reports = Reports(["failed"], ["failed"], ["failed"])
    with Hostile(reports) as server:
        first = run(tmp_path, server, PAGES)
        assert isinstance(first.error, RunIncomplete)
        assert (reports.ordered, reports.deleted) == (3, ["r1", "r2", "r3"])
        assert first.claim("rows")["status"] == "partial"
        assert "page" not in first.states[-1]["bookmarks"].get("rows", {})
        second = run(tmp_path, server, PAGES, state=first.states[-1])
    assert rows(second) == ROWS
    assert 'rows: the job r3 ended as failed: the API said {"status": "failed"' in caplog.text


@BOTH
def test_a_job_that_takes_too_long_has_failed(tmp_path: Path, declaration: str) -> None:
    reports = Reports(["running"])
    with Hostile(reports) as server:
        result = run(tmp_path, server, declaration)
    assert rows(result) == ROWS
    assert reports.deleted == ["r1", "r2"]
    assert result.claim("rows")["evidence"]["warnings"] == ["the job r1 is still running after 5min"]


def test_a_job_that_was_done_in_the_meantime_has_not_taken_too_long(tmp_path: Path, reports: Reports) -> None:
    reports.plan = [["queued"] * 5]
    with Hostile(reports) as server:
        first = run(tmp_path, server, PAGES, max_wait=40)
        assert isinstance(first.error, Postponed)
        reports._left["r1"] = ["done"]
        second = run(tmp_path, server, PAGES, state=first.states[-1], clock=FastClock(NOW + 7200))
    assert rows(second) == ROWS
    assert reports.ordered == 1
    assert "warnings" not in second.claim("rows")["evidence"]


def test_a_wait_beyond_max_wait_postpones_the_run_and_keeps_the_job(tmp_path: Path, reports: Reports) -> None:
    reports.plan = [["running"] * 20]
    with Hostile(reports) as server:
        first = run(tmp_path, server, PAGES, max_wait=95)
    assert isinstance(first.error, Postponed)
    assert "the job r1, running," in str(first.error)
    assert first.clock.waits.count(10.0) == 9
    assert first.states[-1]["bookmarks"]["rows"]["page"]["errand"]["id"] == "r1"


def test_the_time_that_a_job_took_is_not_counted_against_the_reading_of_its_result(
    tmp_path: Path, reports: Reports
) -> None:
    with Hostile(reports) as server:
        result = run(tmp_path, server, PAGES, max_wait=30)
    assert result.clock.waits.count(10.0) == 3
    assert result.error is None
    assert rows(result) == ROWS


def test_a_server_that_says_when_to_ask_again_is_believed(tmp_path: Path, reports: Reports) -> None:
    reports.faults["GET /reports/r1"] = [_json({"status": "running"}, "200 OK", "Retry-After: 77")]
    with Hostile(reports) as server:
        result = run(tmp_path, server, PAGES)
    assert rows(result) == ROWS
    assert 77.0 in result.clock.waits


@pytest.mark.parametrize("status", ["500 Broken", "403 No", "401 No"])
@BOTH
def test_a_job_that_can_not_be_deleted_is_a_warning(
    tmp_path: Path, reports: Reports, declaration: str, status: str
) -> None:
    reports.faults["DELETE /reports/r1"] = [_json({}, status) for _ in range(9)]
    with Hostile(reports) as server:
        result = run(tmp_path, server, declaration)
    assert result.error is None
    assert rows(result) == ROWS
    claim = result.claim("rows")
    assert claim["status"] == "complete"
    assert claim["evidence"]["warnings"][0].startswith("the job r1 could not be deleted: ")


@BOTH
def test_an_unknown_status_is_an_error_that_names_it_and_those_that_are_known(
    tmp_path: Path, declaration: str, caplog: pytest.LogCaptureFixture
) -> None:
    reports = Reports(["running", "halted"])
    with Hostile(reports) as server:
        first = run(tmp_path, server, declaration)
        assert isinstance(first.error, RunIncomplete)
        assert "status 'halted', which the declaration does not know: running ['queued', 'running']" in caplog.text
        assert "done ['done'], failed ['failed', 'expired']: add it to" in caplog.text
        reports._left["r1"] = ["done"]
        second = run(tmp_path, server, declaration, state=first.states[-1])
    assert rows(second) == ROWS
    assert reports.ordered == 1


@pytest.mark.parametrize(
    ("key", "answer", "said"),
    [
        ("POST /reports", {"id": 1}, "the body has no report_id: the body is an object: its members are id"),
        ("POST /reports", {"report_id": ""}, "report_id is a text, not the id of a job"),
        ("POST /reports", {"report_id": {"a": 1}}, "a text or number was expected at report_id"),
        ("POST /reports", {"report_id": "../x"}, "can't be put into a path"),
        ("GET /reports/r1", {"state": "done"}, "the body has no status: the body is an object: its members are state"),
        ("GET /reports/r1", {"status": True}, "status 'True', which the declaration does not know"),
        ("GET /reports/r1", {"status": "done", "file_url": None}, "file_url is null, not the URL of a file"),
        ("GET /reports/r1", {"status": "done", "file_url": "ftp://x"}, "file_url is not an http(s) URL"),
        ("GET /reports/r1", {"status": "done", "file_url": "http://[::1"}, "file_url is not an http(s) URL"),
        (
            "GET /reports/r1",
            {"status": "done", "file_url": "https://x.test/f"},
            "the file is at https://x.test, another",
        ),
    ],
)
def test_an_answer_that_is_not_as_declared_is_an_error(
    tmp_path: Path, reports: Reports, key: str, answer: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    reports.faults[key] = [_json(answer)]
    with Hostile(reports) as server:
        result = run(tmp_path, server, FILES)
    assert isinstance(result.error, RunIncomplete)
    assert said in caplog.text
    assert rows(result) == []
    assert reports.ordered == 1
    assert result.claim("rows")["status"] == "partial"


@pytest.mark.parametrize(
    "lost",
    [b"", _json({"report_id": "r1"})[:-4], _json({}, "502 Bad"), response(b""), response(b'{"report_id": ')],
    ids=["hung up", "cut", "502", "empty", "half"],
)
def test_an_order_whose_answer_is_lost_is_not_repeated_more_often_than_declared(
    tmp_path: Path, reports: Reports, lost: bytes
) -> None:
    reports.faults["POST /reports"] = [lost, lost]
    with Hostile(reports) as server:
        result = run(tmp_path, server, PAGES)
    assert rows(result) == ROWS
    assert (reports.ordered, reports.deleted) == (3, ["r3"])
    assert result.claim("rows")["evidence"]["warnings"][0].startswith("a job may have been ordered that is not known")
    reports.faults["POST /reports"] = [lost] * 9
    with Hostile(reports) as server:
        result = run(tmp_path, server, PAGES)
    assert isinstance(result.error, RunIncomplete)
    assert reports.ordered == 6


@pytest.mark.parametrize("busy", ["503 Busy", "429 Slow", "408 Late"])
def test_an_order_that_was_turned_away_is_no_job(tmp_path: Path, reports: Reports, busy: str) -> None:
    reports.faults["POST /reports"] = [_json({}, busy) for _ in range(5)]
    with Hostile(reports) as server:
        result = run(tmp_path, server, PAGES.replace("timeout:", "tries: 1\n      timeout:"))
    assert rows(result) == ROWS
    assert "warnings" not in result.claim("rows")["evidence"]


def test_what_the_declaration_says_to_repeat_is_repeated(tmp_path: Path, reports: Reports) -> None:
    reports.faults["POST /reports"] = [_json({}, "500 Broken") for _ in range(5)]
    rule = "    errors: [{when: {status: 500}, then: retry}]\n"
    with Hostile(reports) as server:
        result = run(tmp_path, server, f"{PAGES}{rule}")
    assert rows(result) == ROWS
    assert reports.counts["POST /reports"] == 6


@pytest.mark.parametrize("then", ["empty", "skip_partition", "skip_record"])
@pytest.mark.parametrize("at", ["POST /reports", "GET /reports/r1"])
def test_a_rule_may_say_that_there_is_no_data(tmp_path: Path, reports: Reports, then: str, at: str) -> None:
    reports.faults[at] = [_json({"status": "cancelled"})]
    rule = f"    errors: [{{when: {{body: {{path: status, equals: cancelled}}}}, then: {then}}}]\n"
    with Hostile(reports) as server:
        result = run(tmp_path, server, f"{PAGES}{rule}")
    assert result.error is None
    assert rows(result) == []
    assert result.claim("rows")["status"] == ("skipped" if then == "skip_partition" else "complete")
    assert result.claim("rows")["evidence"]["reason"] == then
    assert reports.deleted == ([] if at.startswith("POST") else ["r1"])


# --- files ----------------------------------------------------------------------------------------------------------


KEYED = f"""
settings: {{key: {{sensitive: true, default: s3cret-key}}}}
auth: {{type: api_key, name: X-Key, key: "{{settings.key}}"}}
headers: {{X-Client: client-7}}
{FILES}"""


def test_a_file_at_another_origin_is_asked_for_without_credentials_and_headers(
    tmp_path: Path, reports: Reports
) -> None:
    with Hostile(lambda _: [response(gzip.compress(FILE.encode()))]) as store, Hostile(reports) as server:
        reports.files = f"{store.url}/bucket/"
        allowed = KEYED.replace("url: file_url", f"url: file_url\n      origins: ['{store.url}']")
        result = run(tmp_path, server, allowed)
    assert rows(result) == ROWS
    assert all("s3cret-key" in text and "client-7" in text for text in server.seen)
    (asked,) = store.seen
    assert asked.startswith("GET /bucket/r1?X-Amz-Signature=canary3 ")
    assert "s3cret-key" not in asked
    assert "client-7" not in asked
    assert "\r\nAccept: text/csv" in asked


def test_a_file_at_the_same_origin_is_asked_for_with_credentials(tmp_path: Path, reports: Reports) -> None:
    with Hostile(reports) as server:
        assert rows(run(tmp_path, server, KEYED)) == ROWS
    (asked,) = (text for text in server.seen if text.startswith("GET /files/"))
    assert "s3cret-key" in asked
    assert "client-7" in asked
    assert all(("Accept: text/csv" in text) == (text is asked) for text in server.seen)


def test_only_the_order_has_the_type_of_its_body(tmp_path: Path, reports: Reports) -> None:
    with Hostile(reports) as server:
        run(tmp_path, server, PAGES)
    assert ["Content-Type: application/json" in text for text in server.seen] == [True] + [False] * 7


def test_a_file_at_an_origin_that_is_not_named_is_not_asked_for(
    tmp_path: Path, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    with Hostile(lambda _: [response(FILE.encode())]) as store, Hostile(reports) as server:
        reports.files = f"{store.url}/"
        result = run(tmp_path, server, FILES.replace("url: file_url", "url: file_url\n      origins: ['https://*']"))
    assert isinstance(result.error, RunIncomplete)
    assert f"the file is at {store.url}, another origin: name it in `origins`" in caplog.text
    assert store.seen == []


@pytest.mark.parametrize(
    ("status", "elsewhere"),
    [("403 Expired", True), ("401 Expired", True), ("404 Gone", True), ("403 Expired", False), ("404 Gone", False)],
)
def test_an_expired_url_is_asked_for_once_more(
    tmp_path: Path, reports: Reports, status: str, *, elsewhere: bool
) -> None:
    answers = iter([_json({}, status), response(FILE.encode())])
    with Hostile(lambda _: [next(answers)]) as store:

        def answer(request: str) -> list[bytes]:
            return [next(answers)] if request.startswith("GET /files") else reports(request)

        with Hostile(answer) as server:
            reports.files = f"{store.url}/" if elsewhere else "/files/"
            allowed = FILES.replace("url: file_url", f"url: file_url\n      origins: ['{store.url}']")
            result = run(tmp_path, server, allowed)
    assert result.error is None
    assert rows(result) == ROWS
    assert (reports.ordered, reports.counts["polls"]) == (1, 4)


@pytest.mark.case("X4")
def test_the_signature_of_a_url_is_in_no_state_and_no_log(
    tmp_path: Path, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="tap_rest")
    with Hostile(lambda _: [_json({}, "403 Expired")]) as store, Hostile(reports) as server:
        reports.files = f"{store.url}/"
        allowed = FILES.replace("url: file_url", f"url: file_url\n      origins: ['{store.url}']")
        result = run(tmp_path, server, allowed)
    assert isinstance(result.error, RunIncomplete)
    assert len(store.seen) == 2
    assert "canary" in store.seen[0]
    assert b"canary" not in result.output
    assert "canary" not in caplog.text
    assert "canary" not in str(result.error)
    assert result.claim("rows")["evidence"]["given_up"][-1]["url"] == f"{server.url}/reports"
    assert result.states[-1]["bookmarks"]["rows"]["page"]["errand"]["id"] == "r1"


# --- with the rest of the language ----------------------------------------------------------------------------------


@BOTH
def test_a_replay_orders_and_reads_the_same_without_a_network(
    tmp_path: Path, declaration: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what went wrong: an answer that was lost, an expired URL at another origin, a clean-up."""
    reports = Reports(polls=("done",))
    quick = "limits: [{quota: 1000/s}]\n" + declaration.replace("timeout:", "every: 1s\n      timeout:")
    answers = iter([_json({}, "403 Expired"), response(FILE.encode())])
    reports.faults = {"POST /reports": [b""], "DELETE /reports/r2": [_json({}, "403 No")]}
    with Hostile(lambda _: [next(answers)]) as store, Hostile(reports) as server:
        reports.files = f"{store.url}/"
        file = declared(tmp_path, server.url, quick.replace("url: f", f"origins: ['{store.url}']\n      url: f"))
        assert status_of(config(declaration=file, capture=str(tmp_path / "kept"))) == 0
    wanted = capsys.readouterr().out
    monkeypatch.setattr(socket.socket, "connect", None)
    assert status_of(config(declaration=file, replay=str(tmp_path / "kept"))) == 0
    assert capsys.readouterr().out == wanted
    found = messages(wanted)
    assert [message["record"] for message in found if message["type"] == "RECORD"] == ROWS
    assert len(found[-1]["value"]["claims"]["rows"][0]["evidence"]["warnings"]) == 2
    kept = [json.loads(path.read_text())["request"] for path in (tmp_path / "kept").rglob("*.meta.json")]
    assert {request["method"] for request in kept} == {"POST", "GET", "DELETE"}
    assert not [request for request in kept if "canary" in request["url"]]


DAILY = f"""
limits: [{{quota: 1000/s, concurrency: 4}}]
streams:
  rows:
    for_each: {{items: [a, b, c], as: account}}
    path: /reports
    method: POST
    body: {{account: "{{account}}", since: "{{bookmark|date}}", until: "{{until|date}}"}}
    job:{JOB}
      result: /reports/{{job.id}}/rows?account={{account}}&job={{job.id}}
    records: items
    include: {{account: "{{account}}"}}
    primary_keys: [account, id]
    replication: {{key: day, start: 2026-01-01, window: 5d, until_param: null, granularity: 1d}}
"""


def test_every_window_of_every_partition_is_a_job_of_its_own(tmp_path: Path) -> None:
    class Daily(Reports):
        def __call__(self, request: str) -> list[bytes]:
            target = request.split()[1]
            path, _, query = target.partition("?")
            if not path.endswith("/rows"):
                return super().__call__(request)
            id_ = path.split("/")[2]
            assert query == f"account={self.jobs[id_]['account']}&job={id_}"
            order = self.jobs[id_]
            return [_json({"items": [{"id": f"{id_}", "day": order["since"], "to": order["until"]}]})]

    reports = Daily()
    with Hostile(reports) as server:
        result = run(tmp_path, server, DAILY, end_date="2026-01-13")
    assert result.error is None
    spans = ["2026-01-01", "2026-01-06", "2026-01-11"]
    assert sorted((row["account"], row["day"]) for row in rows(result)) == [
        (one, day) for one in "abc" for day in spans
    ]
    assert (reports.ordered, len(reports.deleted)) == (9, 9)
    assert {row["to"] for row in rows(result)} == {"2026-01-05", "2026-01-10", "2026-01-12"}
    assert result.claim("rows")["partitions"] == {"complete": 3, "skipped": 0, "failed": 0}


def test_whoever_reads_only_the_beginning_leaves_no_job_behind(tmp_path: Path, reports: Reports) -> None:
    with Hostile(reports) as server:
        result = run(tmp_path, server, PAGES, limit=3)
    assert rows(result) == ROWS[:3]
    assert reports.deleted == ["r1"]


def test_the_records_of_a_report_can_be_parents(tmp_path: Path) -> None:
    reports, once = Reports(["failed"]), FILES.replace("  rows:", "  rows:\n    mode: event")
    child = "  parts: {for_each: {stream: rows, as: row}, path: '/parts/{row.id}', records: $, primary_keys: [id]}\n"

    def answer(request: str) -> list[bytes]:
        return [_json([{"id": 1}])] if request.startswith("GET /parts/") else reports(request)

    with Hostile(answer) as server:
        result = run(tmp_path, server, once + child, only=["parts"])
    assert result.error is None
    assert len(result.records("parts")) == 25
    assert (reports.ordered, reports.deleted) == (2, ["r1", "r2"])


def test_a_result_that_goes_round_in_circles_is_cleaned_up(tmp_path: Path, reports: Reports) -> None:
    loop = [_json({"items": ROWS[:1], "next": "0"})]
    with Hostile(lambda text: loop if "/rows" in text else reports(text)) as server:
        result = run(tmp_path, server, PAGES)
    assert isinstance(result.error, RunIncomplete)
    assert (reports.ordered, reports.deleted) == (1, ["r1"])
    assert "page" not in result.states[-1]["bookmarks"].get("rows", {})


def test_a_result_that_lacks_rows_is_ordered_anew(tmp_path: Path, reports: Reports) -> None:
    short = iter([_json({"total": 25, "items": ROWS[:20]})])

    def answer(request: str) -> list[bytes]:
        if "/rows" not in request:
            return reports(request)
        return [next(short, _json({"total": 25, "items": ROWS}))]

    counted = PAGES.replace("{type: cursor, path: next, param: cursor}", "{type: single_page, total: total}")
    with Hostile(answer) as server:
        result = run(tmp_path, server, counted)
    assert result.error is None
    assert result.claim("rows")["evidence"]["records"] == 25
    assert (reports.ordered, reports.deleted) == (2, ["r1", "r2"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("      url: file_url\n", "", "a job needs one of `url` and `result`"),
        ("url: file_url", "url: file_url\n      result: /x", "a job needs one of `url` and `result`"),
        ("url: file_url", "result: /x\n      origins: ['https://x.test']", "`origins` are those of a file"),
        ("url: file_url", "url: file_url\n      every: 0s", "`every` is at least 1s"),
        ("done: [done]", "done: [done, running]", "the status 'running' is named twice"),
        ("poll: /reports/{job.id}", "poll: /reports/{job.nr}", "`{job.nr}` is not there to put in"),
        ("path: /reports", "path: /reports/{job.id}", "`{job.id}` is not there to put in"),
        ("id: report_id", "id: '{job.id}'", "`{job.id}` is not there to put in"),
        ("records: $", "records: $\n    conditional: true", "`job` goes with neither `conditional`"),
        ("records: $", "records: $\n    for_each: {items: [a], as: job}", "`job` already has a meaning"),
    ],
)
def test_a_mistake_in_a_job_is_answered(tmp_path: Path, old: str, new: str, said: str) -> None:
    text = f"name: x\nbase_url: https://x.test\n{FILES}"
    assert old in text
    (tmp_path / "x.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(DeclarationError) as caught:
        load(tmp_path / "x.yaml")
    assert said.replace("`", "") in str(caught.value).replace("`", "")


@pytest.mark.parametrize(
    ("id_", "path", "query"),
    [("a/b c", "a/b%20c", "a%2Fb%20c"), ("a?b#c&d", "a%3Fb%23c%26d", "a%3Fb%23c%26d"), ("a+b", "a+b", "a%2Bb")],
)
def test_an_id_stays_what_it_is_in_a_path_and_in_a_query(tmp_path: Path, id_: str, path: str, query: str) -> None:
    seen = list[str]()

    def answer(request: str) -> list[bytes]:
        seen.append(request.split()[1])
        if request.startswith("POST"):
            return [_json({"report_id": id_})]
        return [_json([{"id": 1}] if "/rows" in seen[-1] else {"status": "done"})]

    asked = PAGES.replace("poll: /reports/{job.id}", "poll: /status?job={job.id}&x=1").replace("items", "$")
    with Hostile(answer) as server:
        assert len(rows(run(tmp_path, server, asked))) == 1
    assert seen[1:] == [f"/status?job={query}&x=1", f"/reports/{path}/rows", f"/reports/{path}"]


def test_a_heavy_state_is_written_after_the_order_as_well(
    tmp_path: Path, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_rest.engine.telling.LIGHT_STATE", -1)
    with Hostile(reports) as server:
        result = run(tmp_path, server, PAGES)
    page = result.states[0]["bookmarks"]["rows"]["page"]
    assert (page["errand"]["id"], page["evidence"]["requests"]) == ("r1", 1)


def test_a_file_may_be_at_the_origins_that_are_named_and_nowhere_else(tmp_path: Path) -> None:
    text = FILES.replace("url: file_url", "url: file_url\n      origins: ['https://*.s3.test', 'http://s3.test:8080']")
    job = load(written(tmp_path, text, "https://api.test")).streams["rows"].job
    assert job is not None
    asked = Request("https://api.test/reports/r1", headers=(("X-Client", "7"),))
    for url, headers in {
        "https://a.b.s3.test:443/f?x=1": (),
        "https://A.S3.test/f": (),
        "http://s3.test:8080/f": (),
        "https://api.test:443/f": asked.headers,
        "/f?x=1": asked.headers,
    }.items():
        found = job.file(asked, Page(asked, 200, {}, json.dumps({"file_url": url}).encode()))
        assert found.headers == headers
        assert found.url.rpartition("/")[2].startswith("f")
    for url in ["http://a.s3.test/f", "https://s3.test/f", "https://a.s3.test:8443/f", "https://a.s3.test.evil.test/f"]:
        with pytest.raises(UnexpectedPage, match="another origin"):
            job.file(asked, Page(asked, 200, {}, json.dumps({"file_url": url}).encode()))


@pytest.mark.parametrize("status", ["202 Accepted", "500 Broken"])
def test_an_order_whose_answer_shows_no_job_is_not_repeated_because_it_says_when(
    tmp_path: Path, reports: Reports, status: str
) -> None:
    reports.faults["POST /reports"] = [head("Content-Length: 0", "Retry-After: 5", status=status)] * 9
    with Hostile(reports) as server:
        result = run(tmp_path, server, PAGES)
    assert isinstance(result.error, RunIncomplete)
    assert reports.counts["POST /reports"] == 3
