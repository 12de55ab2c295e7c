"""What answers mean."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tap_rest.page import Page
from tap_rest.request import Request
from tap_rest.verdicts import LONGEST_WAIT, Rule, judge, retry_after

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
    ],
)
def test_a_rule_decides_when_all_its_tests_hold(when: dict[str, Any], then: str | None) -> None:
    body = b'{"errors": [{"code": 88, "text": "Quota"}], "ok": false, "zero": 0}'
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
def test_an_error_in_a_200_is_what_the_declaration_says() -> None:
    rules = msgspec.convert([{"when": {"status": 200, "body": {"path": "errors"}}, "then": "retry"}], list[Rule])
    assert judge(page(200, b'{"errors": ["x"]}'), rules, now=NOW).kind == "retry"
    assert judge(page(200, b'{"errors": []}'), rules, now=NOW).kind == "ok"


@pytest.mark.parametrize("when", [{}, {"status": 1000}, {"status": "6xx"}, {"status": ["xx"]}, {"stat": 1}])
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
