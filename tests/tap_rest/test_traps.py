"""Defects seen elsewhere, each played against this tap: what a naive implementation gets wrong here.

Most traps are marked on the tests of the parts that avoid them; these are the ones that need a run of their own.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tests.tap_rest.command_line import config, declared, status_of
from tests.tap_rest.harness import FAST, ids, json_api, run
from tests.tap_rest.hostile import Hostile, response
from tests.tap_rest.rows import ASCENDING, CURSOR, OFFSET, bookmarked, by_cursor, by_offset

from tap_rest.engine.engine import RunIncomplete
from tap_rest.errors import Postponed, TapError


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock shows another time than UTC."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.case("trap:1.a")
@pytest.mark.case("trap:2.failed-pages-vanish")
@pytest.mark.case("R002-15")
@pytest.mark.case("R002-23")
@pytest.mark.parametrize("status", ["404 Not Found", "500 Oops"])
@pytest.mark.case("trap:3.2")
def test_an_error_between_pages_is_no_end(tmp_path: Path, status: str) -> None:
    """What came stays written, nothing is called complete and the bookmark does not move."""

    def broken(path: str, params: dict[str, str]) -> Any:
        return response(b"{}", status=status) if params.get("cursor") == "70" else by_cursor(path, params)

    state = bookmarked("2023-01-01T00:00:00Z")
    with json_api(broken) as server:
        declaration = FAST + ASCENDING
        result = run(tmp_path, server, declaration, state=state)
    assert result.error is not None
    assert result.error.exit_status == 1
    assert ids(result) == list(range(70))
    assert result.claim("rows")["status"] == "partial"
    assert state["bookmarks"]["rows"].items() <= result.states[-1]["bookmarks"]["rows"].items()


@pytest.mark.case("trap:1.j")
def test_a_field_that_changes_without_meaning_stays_in_the_record(tmp_path: Path) -> None:
    post = b'{"id":1,"score":7,"ups":9,"upvote_ratio":0.93,"selftext_html":null}'
    streams = "streams: {rows: {path: /r, records: $, volatile: [score, ups, upvote_ratio, selftext_html]}}"
    with Hostile(lambda _: [response(b"[" + post + b"]")]) as server:
        assert post in run(tmp_path, server, FAST + streams).output


@pytest.mark.case("trap:2.id-only-dedupe")
@pytest.mark.case("trap:3.16")
@pytest.mark.case("R003-15")
def test_an_update_with_a_known_id_is_a_record_like_any_other(tmp_path: Path) -> None:
    pages = iter(
        [
            {"items": [{"id": 1, "v": "a"}, {"id": 2, "v": "a"}], "next": "x"},
            {"items": [{"id": 1, "v": "b"}, {"v": "no id"}, {"v": "no id"}], "next": None},
        ]
    )
    with json_api(lambda *_: next(pages)) as server:
        result = run(tmp_path, server, FAST + CURSOR)
    assert [record["v"] for record in result.records()] == ["a", "a", "b", "no id", "no id"]


@pytest.mark.case("trap:2.naive-datetimes")
@pytest.mark.case("R002-27")
@pytest.mark.usefixtures("new_york")
def test_a_time_without_a_zone_is_utc_wherever_the_tap_runs(tmp_path: Path) -> None:
    rows = [{"id": 1, "t": "2024-03-10T02:30:00"}, {"id": 2, "t": "2024-11-03T01:30:00"}]
    state = bookmarked("2024-03-10T02:30:00")
    declaration = FAST + ASCENDING.replace("key: t,", "key: t, format: epoch_s,")
    with json_api(lambda *_: {"items": rows, "next": None}) as server:
        result = run(tmp_path, server, declaration, state=state)
    assert "since=1710037800" in server.seen[0]
    assert result.states[-1]["bookmarks"]["rows"]["replication_key_value"] == "2024-11-03T01:30:00"
    assert result.claim("rows")["to"] == "2027-01-15T08:00:00Z"


@pytest.mark.case("trap:2.error-count-never-resets")
@pytest.mark.case("R003-10")
def test_after_a_success_the_pauses_begin_small_again(tmp_path: Path) -> None:
    """Three failures on each of ten pages are never more than three in a row."""
    failures: dict[str, int] = {}

    def shaky(path: str, params: dict[str, str]) -> Any:
        at = params.get("cursor", "0")
        failures[at] = failures.get(at, 0) + 1
        return by_cursor(path, params) if failures[at] > 3 else response(b"{}", status="500 Oops")

    with json_api(shaky) as server:
        result = run(tmp_path, server, FAST + CURSOR)
    assert result.error is None
    assert ids(result) == list(range(100))
    assert result.engine.summary.retries == 30
    assert max(result.clock.waits) <= 4


@pytest.mark.case("trap:2.retry-inside-slot")
@pytest.mark.parametrize("slots", [1, 3])
def test_retries_with_all_slots_taken_come_to_an_end(tmp_path: Path, slots: int) -> None:
    """Each page fails once, side by side with others; a retry that waited inside its slot would wait for ever."""
    asked: set[str] = set()

    def shaky(path: str, params: dict[str, str]) -> Any:
        if params["offset"] not in asked:
            asked.add(params["offset"])
            return response(b"{}", status="503 Busy")
        return by_offset(path, params)

    limits = f"limits: [{{quota: 100000/s, concurrency: {slots}}}]\n"
    with json_api(shaky) as server:
        result = run(tmp_path, server, limits + OFFSET.replace("total: total", "total: total, stable: true"))
    assert result.error is None
    assert ids(result) == list(range(100))
    assert len(server.seen) == 20


@pytest.mark.case("trap:2.state-never-cleared")
def test_a_full_read_that_ended_begins_anew_in_the_next_run(tmp_path: Path) -> None:
    with json_api(by_cursor) as server:
        first = run(tmp_path, server, FAST + CURSOR)
        second = run(tmp_path, server, FAST + CURSOR, state=first.states[-1])
    assert ids(second) == ids(first) == list(range(100))


@pytest.mark.case("trap:2.headers-not-kept")
@pytest.mark.case("R002-16")
def test_a_captured_answer_has_all_its_headers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    headers = ['Link: </x?page=2>; rel="last"', 'ETag: "abc"', "Retry-After: 3", "X-RateLimit-Remaining: 7"]
    with Hostile(lambda _: [response(b'{"items":[],"next":null}', headers=headers)]) as server:
        assert status_of(config(declaration=declared(tmp_path, server.url), capture=str(tmp_path / "kept"))) == 0
    capsys.readouterr()
    (meta,) = (tmp_path / "kept").rglob("*.meta.json")
    kept = json.loads(meta.read_text())["headers"]
    assert {"link", "etag", "retry-after", "x-ratelimit-remaining"} <= kept.keys()


@pytest.mark.case("trap:3.13")
def test_discovery_needs_no_network_and_no_setting_and_closes_no_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", None)
    keyed = 'settings: {key: {required: true, sensitive: true}}\nauth: {type: bearer, token: "{settings.key}"}\n'
    assert status_of(config(declaration=declared(tmp_path, "http://127.0.0.1:9", keyed + CURSOR)), "--discover") == 0
    (stream,) = json.loads(capsys.readouterr().out)["streams"]
    assert stream["schema"]["additionalProperties"] is True


@pytest.mark.case("trap:4.1")
@pytest.mark.parametrize(
    ("around", "headers", "params"),
    [
        ({"next": "/rows?page=2"}, [], ""),
        ({"meta": {"next_cursor": "x"}}, [], ""),
        ({"has_more": True}, [], ""),
        ({"total": 1450}, [], ""),
        ({}, ['Link: </rows?page=2>; rel="next"'], ""),
        ({}, [], "params: {limit: 2}, "),
    ],
)
def test_a_forgotten_paginator_is_told_in_the_log_and_in_the_claim(
    tmp_path: Path, around: Any, headers: list[str], params: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"items": [{"id": 1}, {"id": 2}], **around}).encode()
    with Hostile(lambda _: [response(body, headers=headers)]) as server:
        result = run(tmp_path, server, f"{FAST}streams: {{rows: {{path: /rows, {params}records: items}}}}")
    (warning,) = result.claim("rows")["evidence"]["warnings"]
    assert "declare a paginator" in warning
    assert warning in caplog.text


@pytest.mark.case("trap:4.6")
@pytest.mark.case("trap:3.12")
@pytest.mark.case("R003-21")
def test_nothing_in_a_record_is_renamed_rewritten_dropped_or_added(tmp_path: Path) -> None:
    record = (
        b'{"ID":"1","__name__":"up","camelCase":1,"a.b":{"c d":{"e":null}},"t":"2024-01-01T00:00:00Z",'
        b'"local":"2024-01-01 00:00","none":null,"empty":"","deleted":true,"n":12345678901234567890123,'
        b'"price":100.10,"e":1E5,"list":[],"z":-0}'
    )
    schema = "{properties: {ID: {type: integer}, t: {type: string, format: date-time}}, additionalProperties: false}"
    streams = f"streams: {{rows: {{path: /r, records: $, primary_keys: [ID], schema: {schema}}}}}"
    with Hostile(lambda _: [response(b"[" + record + b"]")]) as server:
        assert b'"record":' + record + b',"time_extracted"' in run(tmp_path, server, FAST + streams).output


@pytest.mark.case("trap:4.8")
def test_a_query_is_on_the_wire_as_it_is_written(tmp_path: Path) -> None:
    """Blanks as %20, brackets and $ readable, repeats in order, JSON encoded once, a server's own link untouched."""
    params = """{$filter: "a b", "page[size]": 2, ids: [3, 1, 3], q: '["b c"]'}"""
    link = "/rows?sig=a%2fb%2Bc&x[]=1&y=%7e~&z=%C3%BC%20+"
    streams = f"streams: {{rows: {{path: /rows, records: items, params: {params}, PAGINATOR}}}}"
    streams = streams.replace("PAGINATOR", "paginator: {type: next_url, path: next}")

    def answer(request: str) -> list[bytes]:
        following = link if len(server.seen) == 1 else None
        return [response(json.dumps({"items": [{"id": len(server.seen)}], "next": following}).encode())]

    with Hostile(answer) as server:
        result = run(tmp_path, server, FAST + streams)
    assert result.error is None
    first, second = (seen.split()[1] for seen in server.seen)
    assert first.startswith("/rows?$filter=a%20b&page[size]=2&ids=3&ids=1&ids=3&q=")
    assert unquote(first.partition("&q=")[2]) == '["b c"]'
    assert second == link


@pytest.mark.case("trap:4.11")
@pytest.mark.case("C19")
@pytest.mark.parametrize("status", ["429 Slow", "503 Busy"])
@pytest.mark.parametrize(
    "wait",
    [
        *("0", "0.0", "Thu, 01 Jan 1970 00:00:00 GMT"),
        *("-5", "soon", ""),
    ],
)
def test_a_wait_of_nothing_is_no_hot_loop(tmp_path: Path, status: str, wait: str) -> None:
    """Refused for ever with a wait of nothing, the run ends after few requests, not after a million in a minute."""

    def busy(_: str) -> list[bytes]:
        flooded = len(server.seen) > 400
        refusal = "410 Gone" if flooded else status
        return [response(b"{}", status=refusal, headers=[f"Retry-After: {wait}"])]

    with Hostile(busy) as server:
        result = run(tmp_path, server, FAST + CURSOR, max_wait=600)
    assert isinstance(result.error, TapError)
    assert len(server.seen) <= 400


@pytest.mark.case("trap:4.11")
@pytest.mark.case("R003-4")
@pytest.mark.parametrize(
    "headers", [["X-RateLimit-Reset: 99999999999999"], ["X-RateLimit-Reset: -1"], ["Backoff: 1e9"]]
)
def test_an_absurd_reset_neither_stops_a_run_for_ever_nor_is_ignored(tmp_path: Path, headers: list[str]) -> None:
    def tired(path: str, params: dict[str, str]) -> Any:
        body = json.dumps(by_cursor(path, params)).encode()
        return response(body, headers=["X-RateLimit-Limit: 10", "X-RateLimit-Remaining: 0", *headers])

    with json_api(tired) as server:
        result = run(tmp_path, server, FAST + CURSOR)
    assert isinstance(result.error, Postponed) or ids(result) == list(range(100))
    assert all(wait <= 366 * 86400 for wait in result.clock.waits)


@pytest.mark.case("trap:1.twitter-88-lost")
@pytest.mark.case("R000-6")
def test_a_rate_limit_told_in_a_200_is_waited_for_and_the_request_is_sent_again(tmp_path: Path) -> None:
    rules = "errors: [{when: {body: {path: errors.0.code, equals: 88}}, then: wait}]\n"
    limited: set[str] = set()

    def answer(path: str, params: dict[str, str]) -> Any:
        at = params.get("cursor", "0")
        if at not in limited:
            limited.add(at)
            return {"errors": [{"code": 88}]}
        return by_cursor(path, params)

    with json_api(answer) as server:
        result = run(tmp_path, server, FAST + rules + CURSOR)
    assert result.error is None
    assert ids(result) == list(range(100))
    assert len(server.seen) == 20


@pytest.mark.case("trap:1.twitter-max-pages")
def test_a_page_cap_counts_all_pages_and_doubles_nothing(tmp_path: Path) -> None:
    with json_api(by_cursor) as server:
        result = run(tmp_path, server, FAST + CURSOR.replace("param: cursor", "param: cursor, max_pages: 4"))
    assert isinstance(result.error, RunIncomplete)
    assert (result.claim("rows")["status"], result.claim("rows")["evidence"]["reason"]) == ("partial", "max_pages")
    assert ids(result) == list(range(40))
    assert [len(state["bookmarks"]) for state in result.states[:-1]] == [1, 1, 1]
    assert result.messages[-1]["type"] == "STATE"
