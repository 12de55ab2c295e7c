"""What answers mean."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from tests.tap_rest.harness import json_api, run
from tests.tap_rest.hostile import response

from tap_rest.language.verdicts import Action, Rule, judge
from tap_rest.limits.quota_headers import LONGEST_WAIT, retry_after
from tap_rest.page import Page
from tap_rest.request import Request

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


def page(status: int = 200, body: bytes = b'{"data": []}', **headers: str) -> Page:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Page(Request("https://x.test"), status, named, body)


@pytest.mark.case("R001-7")
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, "ok") for status in (200, 201, 206)),
        (304, "unchanged"),
        *((status, "retry") for status in (408, 425, 500, 502, 503, 504, 529)),
        (429, "wait"),
        (401, "reauth"),
        *((status, "fail_stream") for status in (204, 205, 301, 400, 402, 403, 404, 405, 407, 409, 410, 422, 451)),
    ],
)
def test_what_a_status_means_everywhere(status: int, kind: str) -> None:
    assert judge(page(status), now=NOW).kind == kind


@pytest.mark.case("C1")
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b" \r\n", "application/json"),
        (b"\xef\xbb\xbf", ""),
        (b"<html>", ""),
        (b"\n<!DOCTYPE html>", "application/json"),
        (b"Please log in", "text/html; charset=utf-8"),
        (b"{}", "Text/HTML"),
    ],
)
def test_a_success_that_is_no_data_is_asked_for_again(body: bytes, content_type: str) -> None:
    assert judge(page(200, body, content_type=content_type), now=NOW).kind == "retry"


@pytest.mark.parametrize(
    ("when", "then"),
    [
        ({"status": 404}, "empty"),
        ({"status": [403, "5xx"]}, None),
        ({"status": "4xx", "header": {"X-Left": "0"}}, "wait"),
        ({"status": 404, "header": {"x-left": "*"}}, "wait"),
        ({"header": {"x-left": "1"}}, None),
        ({"header": {"x-none": "*"}}, None),
        ({"body": {"path": "errors"}}, "retry"),
        ({"body": {"path": "errors.0.code", "equals": 88}}, "wait"),
        ({"body": {"path": "errors.0.code", "equals": [34, 88]}}, "wait"),
        ({"body": {"path": "errors.0.code", "equals": "88"}}, None),
        ({"body": {"path": "ok"}}, None),
        ({"body": {"path": "ok", "equals": False}}, "abort"),
        ({"body": {"path": "ok", "equals": 0}}, None),
        ({"body": {"path": "zero"}}, "skip_partition"),
        ({"content_type": "application/json"}, "ok"),
        ({"contains": "Quota"}, "wait"),
        ({"contains": "quota"}, None),
        ({"status": "400-417"}, "ok"),
        ({"status": [200, "404-404"]}, "ok"),
        ({"status": "405-499"}, None),
        ({"body": {"path": "ok", "exists": True}}, "ok"),
        ({"body": {"path": "nothing", "exists": True}}, "ok"),
        ({"body": {"path": "missing", "exists": True}}, None),
        ({"body": {"path": "missing", "exists": False}}, "empty"),
        ({"body": {"path": "nothing", "exists": False}}, None),
        ({"body": {"path": "errors.0.text", "contains": "uot"}}, "wait"),
        ({"body": {"path": "errors.0.text", "contains": ".uot"}}, None),
        ({"body": {"path": "errors.0.code", "contains": "8"}}, "wait"),
        ({"body": {"path": "errors", "contains": "Quota"}}, None),
        ({"body": {"path": "nothing", "contains": "None"}}, None),
        ({"body": {"path": "errors.0.text", "contains": "Q", "equals": "Quot"}}, None),
    ],
)
def test_a_rule_decides_when_all_its_tests_hold(when: dict[str, Any], then: str | None) -> None:
    body = b'{"errors": [{"code": 88, "text": "Quota"}], "ok": false, "zero": 0, "nothing": null}'
    answer = page(404, body, x_left="0", content_type="Application/JSON; charset=utf-8")
    rule = msgspec.convert({"when": when, "then": then or "abort"}, Rule)
    verdict = judge(answer, [rule], now=NOW)
    assert verdict.kind == (then or "fail_stream")


def test_the_first_rule_that_holds_decides_with_its_reason() -> None:
    rules = msgspec.convert(
        [
            {"when": {"status": 403}, "then": "abort"},
            {"when": {"status": 404}, "then": "empty", "reason": "gone"},
            {"when": {"status": "4xx"}, "then": "abort"},
        ],
        list[Rule],
    )
    verdict = judge(page(404), rules, now=NOW)
    assert (verdict.kind, verdict.reason) == ("empty", "gone")


@pytest.mark.case("C1")
@pytest.mark.case("trap:4.4")
def test_an_error_in_a_200_is_what_the_declaration_says() -> None:
    rules = msgspec.convert([{"when": {"status": 200, "body": {"path": "errors"}}, "then": "retry"}], list[Rule])
    assert judge(page(200, b'{"errors": ["x"]}'), rules, now=NOW).kind == "retry"
    assert judge(page(200, b'{"errors": []}'), rules, now=NOW).kind == "ok"


@pytest.mark.parametrize(
    "when",
    [
        {},
        {"status": []},
        {"status": 1000},
        {"status": "6xx"},
        {"status": ["xx"]},
        {"status": "417-400"},
        {"stat": 1},
        {"body": {"path": "a", "exists": False, "equals": 1}},
        {"body": {"path": "a", "contains": ""}},
    ],
)
def test_a_rule_that_can_not_mean_anything_is_refused(when: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"when": when, "then": "ok"}, Rule)


@pytest.mark.case("C19")
@pytest.mark.case("R002-9")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("+3", 3.0),
        ("-5", None),
        ("99999999999", LONGEST_WAIT),
        ("9" * 400, None),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),
        ("Tue Nov 14 22:14:20 2023", 60.0),
        ("Tue, 14 Nov 2023 22:12:20 GMT", 0.0),
        ("Fri, 14 Nov 2098 22:12:20 GMT", LONGEST_WAIT),
        ("Tue, 99 Nov 2023 99:99:99 GMT", None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("٣", None),
    ],
)
@pytest.mark.case("trap:2.retry-after-date")
@pytest.mark.case("trap:3.5")
def test_retry_after_is_read_in_both_forms_and_bounded(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, now=NOW) == seconds
    assert judge(page(429, retry_after=text), now=NOW).wait_seconds == seconds


@pytest.mark.case("C22")
def test_a_date_counts_from_the_servers_own_clock() -> None:
    headers = {"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT", "date": "Tue, 14 Nov 2023 22:14:00 GMT"}
    assert retry_after(headers, now=NOW) == 20.0


def test_a_server_error_can_say_when_to_come_back() -> None:
    verdict = judge(page(503, retry_after="7"), now=NOW)
    assert (verdict.kind, verdict.wait_seconds) == ("retry", 7.0)


@pytest.mark.case("R004-11")
@pytest.mark.parametrize("action", get_args(Action))
def test_a_rule_can_have_every_action(action: str) -> None:
    rule = msgspec.convert({"when": {"status": 400}, "then": action}, Rule)
    verdict = judge(page(400), [rule], now=NOW)
    assert (verdict.kind, verdict.declared) == (action, True)
    assert not judge(page(401), [rule], now=NOW).declared


@pytest.mark.parametrize(
    ("until", "seconds"),
    [
        ({"header": "X-Wait"}, 90.0),
        ({"header": "x-wait", "unit": "min"}, 5400.0),
        ({"header": "x-wait", "unit": "ms"}, 0.09),
        ({"header": "x-epoch", "unit": "min"}, 60.0),
        ({"header": "x-date"}, 60.0),
        ({"body": "error.regain", "unit": "min"}, 1140.0),
        ({"body": "error.at"}, 60.0),
        ({"body": "error.huge", "unit": "min"}, LONGEST_WAIT),
        ({"body": "error.negative"}, 0.0),
        ({"body": "error.yes"}, 7.0),
        ({"body": "error"}, 7.0),
        ({"body": "missing"}, 7.0),
        ({"body": "missing", "at_least": 60}, 60.0),
        ({"header": "x-wait", "at_least": 60}, 90.0),
        ({"at_least": 60}, 60.0),
    ],
)
def test_a_rule_says_where_the_answer_tells_how_long_to_wait(until: dict[str, Any], seconds: float) -> None:
    """Where nothing is told, `Retry-After` holds."""
    body = b'{"error": {"regain": 19, "at": "2023-11-14T22:14:20Z", "huge": 999999999, "negative": -5, "yes": true}}'
    headers = {"x_wait": "90", "x_epoch": "1700000060", "x_date": "Tue, 14 Nov 2023 22:14:20 GMT", "retry_after": "7"}
    rule = msgspec.convert({"when": {"status": 400}, "then": "wait", "until": until}, Rule)
    assert judge(page(400, body, **headers), [rule], now=NOW).wait_seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("until", "then"),
    [
        ({}, "wait"),
        ({"header": "a", "body": "b"}, "wait"),
        ({"header": "a", "unit": "h"}, "wait"),
        ({"at_least": -1}, "wait"),
        ({"header": "a"}, "empty"),
    ],
)
def test_a_wait_that_can_not_be_read_is_refused(until: dict[str, Any], then: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"when": {"status": 400}, "then": then, "until": until}, Rule)


@pytest.mark.parametrize(
    ("headers", "kind", "seconds"),
    [
        ({"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1700000030"}, "wait", 30.0),
        ({"retry_after": "60", "x_ratelimit_remaining": "9", "x_ratelimit_reset": "1700000030"}, "wait", 60.0),
        ({"x_ratelimit_remaining": "9", "x_ratelimit_reset": "1700000030"}, "fail_stream", None),
    ],
)
def test_forbidden_with_nothing_left_is_a_rate_limit(headers: dict[str, str], kind: str, seconds: float | None) -> None:
    verdict = judge(page(403, b"{}", **headers), now=NOW)
    assert (verdict.kind, verdict.wait_seconds) == (kind, seconds)


def test_xml_is_data_where_it_says_so() -> None:
    assert judge(page(200, b"<?xml version='1.0'?><rss/>", content_type="application/rss+xml"), now=NOW).kind == "ok"
    assert judge(page(200, b"<!DOCTYPE html><p>", content_type="application/xhtml+xml"), now=NOW).kind == "retry"


META = {
    "when": {"status": 400, "body": {"path": "error.code", "equals": [4, 17, 32, 613, *range(80000, 80015)]}},
    "then": "wait",
    "until": {"at_least": 60},
}


@pytest.mark.case("R004-11")
@pytest.mark.parametrize(
    ("code", "kind"), [(17, "wait"), (4, "wait"), (80004, "wait"), (190, "abort"), (100, "fail_stream")]
)
def test_a_code_in_the_body_tells_a_rate_limit_from_a_mistake(code: int, kind: str) -> None:
    revoked = {"when": {"body": {"path": "error.code", "equals": 190}}, "then": "abort"}
    rules = msgspec.convert([META, revoked], list[Rule])
    assert judge(page(400, b'{"error": {"code": %d}}' % code), rules, now=NOW).kind == kind


ROWS = """
  - {{when: {{status: 400, header: {{X-Kind: "*"}}}}, then: {action}}}
streams:
  rows: {{path: /rows, records: $}}
  more: {{path: /more, records: $}}
"""


@pytest.mark.case("R000-6")
@pytest.mark.parametrize(
    ("action", "asked", "exit_status", "claim"),
    [
        ("empty", 2, None, "complete"),
        ("retry", 7, 3, "partial"),
        ("reauth", 1, 1, "partial"),
        ("skip_record", 2, None, "complete"),
        ("skip_partition", 2, None, "skipped"),
        ("fail_stream", 2, 3, "partial"),
        ("abort", 1, 1, "partial"),
    ],
)
def test_an_action_does_what_it_says(
    tmp_path: Path, action: str, asked: int, exit_status: int | None, claim: str
) -> None:
    """The first of two streams gets the answer that the rule is for; only `reauth` and `abort` end the run with it."""

    def api(path: str, _: dict[str, str]) -> Any:
        return response(b"{}", status="400 No", headers=["X-Kind: q"]) if path == "/rows" else [{"id": 1}]

    with json_api(api) as server:
        result = run(tmp_path, server, "errors:" + ROWS.format(action=action))
    assert len(server.seen) == asked
    assert (None if result.error is None else result.error.exit_status) == exit_status
    assert result.claim("rows")["status"] == claim
    assert len(result.records("more")) == (0 if action in ("reauth", "abort") else 1)


def test_an_answer_may_be_read_though_its_status_is_an_error(tmp_path: Path) -> None:
    with json_api(lambda *_: response(b'[{"id": 1}]', status="400 No", headers=["X-Kind: q"])) as server:
        result = run(tmp_path, server, "errors:" + ROWS.format(action="ok"))
    assert result.error is None
    assert len(result.records()) == 2


@pytest.mark.case("R000-6")
def test_a_wait_named_in_the_body_is_waited_for_and_the_request_asked_again(tmp_path: Path) -> None:
    answers = iter([response(b'{"again_in": 2}', status="400 No", headers=["X-Kind: q"])] * 3)
    rule = ROWS.format(action="wait, until: {body: again_in, unit: min}")
    with json_api(lambda *_: next(answers, None) or [{"id": 1}]) as server:
        result = run(tmp_path, server, "limits: [{quota: 1000/s}]\nerrors:" + rule)
    assert result.error is None
    assert len(server.seen) == 5
    assert result.clock.waits == [120.0] * 3


@pytest.mark.case("C1")
@pytest.mark.parametrize(
    ("form", "body"),
    [
        ("{type: xml, lists: [data]}", b"<data><id>1</id></data>"),
        ("{type: json}", gzip.compress(b'{"data":[{"id":"1"}]}')),
    ],
    ids=["xml", "archive"],
)
def test_what_must_not_exist_is_looked_for_once_there_are_paths(tmp_path: Path, form: str, body: bytes) -> None:
    declaration = f"""
    errors: [{{when: {{body: {{path: data, exists: false}}}}, then: empty}}]
    streams: {{rows: {{path: /rows, records: data, format: {form}}}}}
    """
    with json_api(lambda *_: response(body)) as server:
        result = run(tmp_path, server, declaration)
        assert result.records() == [{"id": "1"}]


@pytest.mark.case("R000-6")
def test_an_answer_left_out_between_pages_does_not_make_the_stream_complete(tmp_path: Path) -> None:
    """The pages behind it are never asked for."""

    def api(_: str, params: dict[str, str]) -> Any:
        at = int(params.get("page", 1))
        return response(b"{}", status="404 No") if at == 2 else [{"id": at}] if at < 4 else []

    declaration = """
    errors: [{when: {status: 404}, then: skip_record}]
    streams: {rows: {path: /rows, records: $, paginator: {type: page_number, page_size: 1}}}
    """
    with json_api(api) as server:
        result = run(tmp_path, server, declaration)
    assert result.error is None
    assert result.claim("rows")["status"] == "skipped"
    assert result.claim("rows")["evidence"]["given_up"][0]["status"] == 404
