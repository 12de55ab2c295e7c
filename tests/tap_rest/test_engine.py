"""The engine: what is written, when it ends, what it asks again and what it never takes for the end."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.harness import FAST, NOW, FastClock, ids, json_api, params_of, run
from tests.tap_rest.hostile import Hostile, framed, payload, response
from tests.tap_rest.rows import (
    ASCENDING,
    CURSOR,
    DESCENDING,
    OFFSET,
    ROWS,
    also,
    bookmarked,
    by_cursor,
    by_offset,
    since,
)

from tap_rest.engine.engine import RunIncomplete
from tap_rest.engine.reader import STALE_TRIES
from tap_rest.engine.sending import TRIES, RunAborted
from tap_rest.engine.signals import Interrupted
from tap_rest.errors import CredentialsRefused, Postponed, TapError
from tap_rest.limits.breaker import BLOCKS


@pytest.mark.case("trap:2.float64-ids")
def test_a_record_is_written_as_the_api_wrote_it(tmp_path: Path) -> None:
    odd = b'{"id": 123456789012345678901234567890, "price":1.10,"b":1.10,"b":"\\u00fc\\ud800/\\/" , "z":-0.0}'
    with Hostile(lambda _: [response(b'{"items":[' + odd + b', {"id":2}]}')]) as server:
        result = run(tmp_path, server, CURSOR)
    lines = result.output.splitlines()
    assert lines[1].startswith(b'{"type":"RECORD","stream":"rows","record":' + odd + b',"time_extracted":"2027-01-15T')
    assert lines[2].endswith(b'"record":{"id":2},"time_extracted":"2027-01-15T08:00:00.000000Z"}')
    assert [message["type"] for message in result.messages] == ["SCHEMA", "RECORD", "RECORD", "STATE"]


@pytest.mark.case("trap:1.b")
@pytest.mark.case("R002-1")
def test_each_page_is_followed_by_a_state_and_the_last_by_a_claim(tmp_path: Path) -> None:
    with json_api(by_offset) as server:
        result = run(tmp_path, server, OFFSET)
    assert result.error is None
    assert ids(result) == list(range(100))
    kinds = "".join(message["type"][0] + message["type"][1] for message in result.messages)
    assert kinds == "SC" + ("RE" * 10 + "ST") * 10
    assert [state["bookmarks"]["rows"]["page"]["evidence"]["pages"] for state in result.states[:-1]] == list(
        range(1, 10)
    )
    assert result.states[-1]["bookmarks"] == {}
    claim = result.claim("rows")
    assert (claim["partition"], claim["from"], claim["to"]) == (None, None, "2027-01-15T08:00:00Z")
    assert claim["status"] == "complete"
    counts = {"pages": 10, "requests": 10, "records": 100, "unique_keys": 100, "declared_total": 100}
    assert counts.items() <= claim["evidence"].items()
    assert claim["evidence"]["reason"] == "total_reached"


@pytest.mark.parametrize("also", [slice(1), slice(9, 10), slice(10), slice(5, 10)])
@pytest.mark.parametrize("first", [True, False])
def test_records_that_are_in_the_body_twice_hide_nothing_around_them(
    tmp_path: Path, also: slice, *, first: bool
) -> None:
    def twice(path: str, params: dict[str, str]) -> Any:
        page = by_cursor(path, params)
        again = {"again": page["items"][also]}
        return {**again, "next": page["next"], "items": page["items"]} if first else {**page, **again}

    with json_api(twice) as server:
        result = run(tmp_path, server, CURSOR)
    assert result.error is None
    assert ids(result) == list(range(100))


@pytest.mark.parametrize(("declaration", "answer"), [(OFFSET, by_offset), (CURSOR, by_cursor)])
@pytest.mark.case("trap:3.11")
@pytest.mark.case("R004-1")
def test_from_every_state_the_rest_is_read_and_nothing_else(tmp_path: Path, declaration: str, answer: Any) -> None:
    with json_api(answer) as server:
        whole = run(tmp_path, server, declaration)
        for number, state in enumerate(whole.states[:-1], start=1):
            asked = len(server.seen)
            rest = run(tmp_path, server, declaration, state=json.loads(json.dumps(state)))
            assert ids(rest) == list(range(number * 10, 100))
            assert len(server.seen) - asked == 10 - number
            evidence = rest.claim("rows")["evidence"]
            assert (evidence["pages"], evidence["records"], evidence["unique_keys"]) == (10, 100, None)
            assert evidence["digest"] == whole.claim("rows")["evidence"]["digest"]


def test_a_resume_moves_with_the_base_url(tmp_path: Path) -> None:
    with json_api(by_cursor) as server:
        state = run(tmp_path, server, CURSOR).states[4]
    assert server.url not in json.dumps(state)
    with json_api(by_cursor) as elsewhere:
        assert ids(run(tmp_path, elsewhere, CURSOR, state=state)) == list(range(50, 100))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda page: page.update(saved="2020-01-01T00:00:00+00:00"), id="a token too old"),
        pytest.param(lambda page: page.update(saved="2999-01-01T00:00:00+00:00"), id="saved in the future"),
        pytest.param(lambda page: page.update(declaration="0" * 16), id="another declaration"),
        pytest.param(lambda page: page.update(version=99), id="another version"),
        pytest.param(lambda page: page.update(start="2024-01-01"), id="another start"),
        pytest.param(lambda page: page.clear(), id="nothing in it"),
        pytest.param(lambda page: page.update(step=[1, 2]), id="another shape"),
        pytest.param(lambda page: page.update(saved="soon"), id="no time"),
    ],
)
@pytest.mark.case("C31")
def test_a_checkpoint_that_does_not_fit_starts_the_unit_again(tmp_path: Path, spoil: Any) -> None:
    with json_api(by_offset) as server:
        state = run(tmp_path, server, OFFSET).states[3]
        spoil(state["bookmarks"]["rows"]["page"])
        again = run(tmp_path, server, OFFSET, state=state)
    assert again.error is None
    assert ids(again) == list(range(100))


@pytest.mark.case("R004-13")
def test_a_cursor_that_the_server_no_longer_knows_starts_the_unit_again(tmp_path: Path) -> None:
    with json_api(by_cursor) as server:
        state = run(tmp_path, server, CURSOR).states[3]

    def forgetful(path: str, params: dict[str, str]) -> Any:
        if params.get("cursor") == "40":
            params["cursor"] = "40" if any("cursor=30" in seen for seen in server.seen) else ""
        return by_cursor(path, params) if params.get("cursor") != "" else response(b"{}", status="400 Bad Request")

    with json_api(forgetful) as server:
        again = run(tmp_path, server, CURSOR, state=state)
    assert again.error is None
    assert ids(again) == list(range(100))


@pytest.mark.case("C10")
@pytest.mark.parametrize("period", [1, 2, 3, 7, 50])
@pytest.mark.case("R002-4")
def test_a_circle_of_cursors_ends_the_stream_loudly(tmp_path: Path, period: int) -> None:
    def circle(_: str, params: dict[str, str]) -> Any:
        at = int(params.get("cursor", 0))
        return {"items": [{"id": at}], "next": str((at + 1) % period or period)}

    with json_api(circle) as server:
        result = run(tmp_path, server, CURSOR)
    assert isinstance(result.error, RunIncomplete)
    assert result.error.exit_status == 1
    assert len(server.seen) <= period + 1 + STALE_TRIES
    assert result.claim("rows")["status"] == "partial"
    assert "page" not in result.states[-1]["bookmarks"].get("rows", {})


@pytest.mark.case("C10")
@pytest.mark.case("trap:3.7")
@pytest.mark.case("R002-4")
def test_a_server_that_ignores_the_page_parameter_ends_the_stream_loudly(tmp_path: Path) -> None:
    with json_api(lambda *_: {"items": ROWS[:10], "next": f"n{len(server.seen)}"}) as server:
        result = run(tmp_path, server, CURSOR)
    assert isinstance(result.error, RunIncomplete)
    assert "same records" in result.claim("rows")["evidence"]["reason"]
    assert len(server.seen) == 1 + STALE_TRIES


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("whole_page", [True, False])
def test_a_stale_page_is_asked_again(tmp_path: Path, *, whole_page: bool, resumed: bool) -> None:
    """Once the server repeats the page before, with that page's cursor or with the right one."""
    spoiled = iter([False] * 3 + [True] + [False] * 99)

    def stale(path: str, params: dict[str, str]) -> Any:
        page = by_cursor(path, params)
        if int(params.get("cursor", 0)) == 30 and next(spoiled):
            old = by_cursor(path, {"cursor": "20"})
            return old if whole_page else {**page, "items": old["items"]}
        return page

    with json_api(stale) as server:
        states = run(tmp_path, server, CURSOR).states
    spoiled = iter([True] + [False] * 99)
    with json_api(stale) as server:
        result = run(tmp_path, server, CURSOR, state=states[2] if resumed else None)
    assert result.error is None
    assert ids(result) == list(range(30 if resumed else 0, 100))
    assert result.engine.summary.retries == 1


@pytest.mark.case("C12")
@pytest.mark.case("C13")
@pytest.mark.case("R002-3")
def test_rows_missing_from_the_total_are_read_again(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def shifted(path: str, params: dict[str, str]) -> Any:
        asked[params["offset"]] += 1
        page = by_offset(path, params)
        if params["offset"] == "50" and asked["50"] == 1:
            page["items"] = ROWS[48:58]
        return page

    with json_api(shifted) as server:
        result = run(tmp_path, server, OFFSET)
    assert result.error is None
    assert sorted(set(ids(result))) == list(range(100))
    assert result.claim("rows")["evidence"]["unique_keys"] == 100
    assert len(server.seen) == 20


@pytest.mark.case("C12")
@pytest.mark.parametrize("rows", [ROWS[:90], [*ROWS[:99], ROWS[0]]], ids=["ten never come", "one comes twice"])
def test_a_total_that_is_never_reached_is_partial(tmp_path: Path, rows: list[Any]) -> None:
    def short(_: str, params: dict[str, str]) -> Any:
        start = int(params["offset"])
        return {"total": 100, "items": rows[start : start + 10]}

    with json_api(short) as server:
        result = run(tmp_path, server, OFFSET)
    assert isinstance(result.error, RunIncomplete)
    claim = result.claim("rows")
    assert claim["status"] == "partial"
    assert "of 100 rows are missing" in claim["evidence"]["reason"]
    assert result.states[-1]["bookmarks"] == {}


@pytest.mark.case("trap:4.2")
def test_a_server_that_caps_its_pages_is_read_to_its_end(tmp_path: Path) -> None:
    with json_api(lambda path, params: by_offset(path, {**params, "limit": "3"})) as server:
        result = run(tmp_path, server, OFFSET)
    assert result.error is None
    assert ids(result) == list(range(100))


@pytest.mark.case("C1")
@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"code":"x"}}',
        b"<html>log in</html>",
        b"",
        b"null",
        b"{}",
        b"[]",
        b'{"items":null}',
        b'{"items":{}}',
        b'{"items":[{"id":1}',
        b'{"items":[1,2]}',
        b'{"items":[]} trailing',
        b"\xff\xfe{}",
        b'{"items":[{"id":"\xff"}]}',
    ],
)
@pytest.mark.case("trap:2.exceptions-become-nothing")
@pytest.mark.case("trap:2.json-errors-ignored")
def test_no_other_body_is_an_empty_page(tmp_path: Path, body: bytes) -> None:
    with Hostile(lambda _: [response(body)]) as server:
        result = run(tmp_path, server, CURSOR)
    assert isinstance(result.error, RunIncomplete)
    assert result.records() == []
    assert result.claim("rows")["status"] == "partial"
    assert len(server.seen) == (BLOCKS + 1 if b"<html>" in body else TRIES)


@pytest.mark.case("C2")
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.case("R002-27")
def test_whatever_is_cut_off_no_record_is_lost(tmp_path: Path, framing: str, encoding: str) -> None:
    """Each page is cut somewhere else the first time it is asked for."""
    asked: Counter[str] = Counter()

    def cut(request: str) -> Iterator[bytes]:
        params = params_of(request)
        body = json.dumps(by_cursor("", params)).encode()
        size = len(payload(framed(body, framing, encoding)))
        cursor = params.get("cursor", "0")
        asked[cursor] += 1
        at = int(cursor) * (size - 6) // 100
        yield framed(body, framing, encoding, cut=at if asked[cursor] == 1 else None)

    with Hostile(cut) as server:
        result = run(tmp_path, server, CURSOR)
    assert result.error is None
    assert ids(result) == list(range(100))
    assert result.engine.summary.retries == 10


@pytest.mark.case("C30")
@pytest.mark.case("R002-18")
@pytest.mark.case("R003-22")
def test_one_failing_stream_stops_no_other_and_keeps_its_bookmark(tmp_path: Path) -> None:
    bookmark = {"replication_key": "t", "replication_key_value": "2023-01-01T00:00:00Z"}

    def answer(path: str, params: dict[str, str]) -> Any:
        return by_offset(path, params) if path == "/rows" else response(b'{"why":"x"}', status="404 Not Found")

    with json_api(answer) as server:
        declaration = OFFSET + also("broken", ASCENDING)
        result = run(tmp_path, server, declaration, state={"bookmarks": {"broken": bookmark}})
    assert isinstance(result.error, RunIncomplete)
    assert result.error.exit_status == 3
    assert ids(result) == list(range(100))
    assert result.states[-1]["bookmarks"]["broken"] == bookmark
    assert result.claim("broken")["status"] == "partial"
    assert sum("/broken" in seen for seen in server.seen) == 1


@pytest.mark.case("R002-24")
@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found"])
@pytest.mark.case("trap:2.4xx-hot-loop")
def test_a_refusal_is_asked_for_once(tmp_path: Path, status: str) -> None:
    with Hostile(lambda _: [response(b'{"message":"no"}', status=status)]) as server:
        result = run(tmp_path, server, CURSOR)
    assert result.error is not None
    assert result.error.exit_status == 1
    assert len(server.seen) == 1


@pytest.mark.case("C18")
@pytest.mark.parametrize(
    ("status", "rules", "error"),
    [
        ("401 Unauthorized", "", CredentialsRefused),
        ("418 Teapot", "errors: [{when: {status: 418}, then: abort, reason: blocked}]\n", RunAborted),
    ],
)
def test_refused_credentials_and_a_rule_to_abort_end_the_whole_run(
    tmp_path: Path, status: str, rules: str, error: type[TapError]
) -> None:
    with Hostile(lambda _: [response(b"{}", status=status)]) as server:
        result = run(tmp_path, server, rules + CURSOR + also("more"))
    assert isinstance(result.error, error)
    assert len(server.seen) == 1


@pytest.mark.case("trap:2.5xx-never-retried")
@pytest.mark.case("R000-18")
def test_a_server_error_is_asked_again_with_growing_pauses_then_given_up(tmp_path: Path) -> None:
    with Hostile(lambda _: [response(b"", status="500 Oops")]) as server:
        result = run(tmp_path, server, FAST + CURSOR)
    assert len(server.seen) == TRIES
    assert all(0 <= wait <= 2**number for number, wait in enumerate(result.clock.waits))


@pytest.mark.case("C19")
def test_retry_after_is_waited_for_and_is_no_failed_try(tmp_path: Path) -> None:
    left = iter(range(20))

    def busy(path: str, params: dict[str, str]) -> Any:
        if next(left, None) is not None:
            return response(b"{}", status="429 Slow", headers=["Retry-After: 7"])
        return by_cursor(path, params)

    with json_api(busy) as server:
        result = run(tmp_path, server, CURSOR)
    assert result.error is None
    assert ids(result) == list(range(100))
    assert result.clock.waits[:2] == [7.0, 7.0]


@pytest.mark.case("C20")
@pytest.mark.case("R004-10")
@pytest.mark.parametrize("headers", [["Retry-After: 99999"], ["Retry-After: 300"], []])
@pytest.mark.parametrize("status", ["429 Slow", "503 Busy"])
@pytest.mark.case("trap:2.429-without-retry-after")
@pytest.mark.case("trap:2.backoff-shorter-than-the-limit")
def test_limits_without_end_postpone_the_run_with_its_state(tmp_path: Path, headers: list[str], status: str) -> None:
    def busy(path: str, params: dict[str, str]) -> Any:
        if params.get("cursor") == "50":
            return response(b"{}", status=status, headers=headers)
        return by_cursor(path, params)

    with json_api(busy) as server:
        result = run(tmp_path, server, CURSOR, max_wait=3600)
    if status == "503 Busy" and not headers:
        assert isinstance(result.error, RunIncomplete)
    else:
        assert isinstance(result.error, Postponed)
        assert result.error.exit_status == 75
        assert sum(result.clock.waits) <= 3600 + 10
    assert result.states[-1]["bookmarks"]["rows"]["page"]["evidence"]["records"] == 50
    with json_api(by_cursor) as server:
        clock = FastClock(NOW + sum(result.clock.waits))
        assert ids(run(tmp_path, server, CURSOR, state=result.states[-1], clock=clock)) == list(range(50, 100))


@pytest.mark.case("X4")
@pytest.mark.case("R004-14")
@pytest.mark.case("trap:2.token-in-urls")
def test_no_credential_gets_into_state_or_errors(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The server echoes the key in its links, in the body's cursor and in its error message."""
    declaration = """
        settings: {key: {kind: string, sensitive: true}}
        auth: {type: api_key, in: query, name: apikey, key: "{settings.key}"}
    """
    links = CURSOR.replace("type: cursor, path: next, param: cursor", "type: next_url, path: next")
    for pages in (CURSOR, links):

        def echo(_: str, params: dict[str, str]) -> Any:
            at = int(params.get("at", params.get("cursor", "0").partition("canary")[0] or 0))
            if at == 30 and pages is links:  # noqa: B023 - called in this round
                return response(b'{"message":"canary-7 was refused"}', status="403 Forbidden")
            if at == 30:
                return {"items": [], "next": {"key": "canary-7"}}
            return {"items": ROWS[at : at + 10], "next": link.format(at=at + 10)}  # noqa: B023 - called in this round

        link = "/rows?apikey=canary-7&at={at}" if pages is links else "{at}canary-7"
        with json_api(echo) as server:
            text = "\n".join(line.strip() for line in declaration.splitlines()) + pages
            result = run(tmp_path, server, text, settings={"key": "canary-7"})
        assert "apikey=canary-7" in server.seen[1]
        assert ids(result) == list(range(30))
        assert result.claim("rows")["status"] == "partial"
        assert ("page" in result.states[0]["bookmarks"].get("rows", {})) == (pages is links), (
            "a link is stripped, a cursor is not"
        )
        assert "canary" not in result.output.decode() + caplog.text + str(result.error)


@pytest.mark.case("R000-25")
@pytest.mark.case("trap:3.1")
def test_a_signal_lets_the_page_be_finished_and_its_state_be_written(tmp_path: Path) -> None:
    clock = FastClock()

    def answer(path: str, params: dict[str, str]) -> Any:
        if params.get("cursor") == "30":
            clock._handle(signal.SIGTERM, None)
        return by_cursor(path, params)

    with json_api(answer) as server:
        result = run(tmp_path, server, CURSOR, clock=clock)
        assert isinstance(result.error, Interrupted)
        assert result.error.exit_status == 143
        assert ids(result) == list(range(40))
        assert ids(run(tmp_path, server, CURSOR, state=result.states[-1])) == list(range(40, 100))


# --- incremental ------------------------------------------------------------------------------------------------------


@pytest.mark.case("C26")
@pytest.mark.case("trap:2.since-never-used")
@pytest.mark.case("trap:2.millisecond-skips-ties")
@pytest.mark.case("trap:3.4")
def test_the_bookmark_is_asked_for_inclusively_and_moves_when_the_unit_is_complete(tmp_path: Path) -> None:
    with json_api(since(ROWS[:55])) as server:
        first = run(tmp_path, server, ASCENDING)
    assert all("replication_key_value" not in state["bookmarks"]["rows"] for state in first.states[:-1])
    assert first.states[-1]["bookmarks"]["rows"] == {"replication_key": "t", "replication_key_value": ROWS[54]["t"]}
    with json_api(since(ROWS)) as server:
        second = run(tmp_path, server, ASCENDING, state=first.states[-1])
    assert second.messages[0] == {"type": "STATE", "value": first.states[-1]} or "claims" in first.states[-1]
    assert ids(second) == list(range(54, 100))
    assert second.claim("rows")["from"] == ROWS[54]["t"]
    assert second.states[-1]["bookmarks"]["rows"]["replication_key_value"] == ROWS[99]["t"]


@pytest.mark.case("C27")
def test_lookback_reads_that_much_again(tmp_path: Path) -> None:
    state = bookmarked(ROWS[50]["t"])
    with json_api(since(ROWS)) as server:
        result = run(tmp_path, server, ASCENDING.replace("key: t,", "key: t, lookback: 20s,"), state=state)
    assert ids(result) == list(range(30, 100))


@pytest.mark.case("R003-18")
def test_start_and_end_date_bound_a_stream_without_a_bookmark(tmp_path: Path) -> None:
    with json_api(since(ROWS)) as server:
        result = run(tmp_path, server, ASCENDING, start_date=ROWS[20]["t"], end_date=ROWS[40]["t"])
    assert ids(result) == list(range(20, 40))
    assert (result.claim("rows")["from"], result.claim("rows")["to"]) == (ROWS[20]["t"], ROWS[40]["t"])


def test_a_bookmark_beyond_the_end_date_asks_for_nothing(tmp_path: Path) -> None:
    state = bookmarked(ROWS[50]["t"])
    with json_api(since(ROWS)) as server:
        result = run(tmp_path, server, ASCENDING, state=state, end_date=ROWS[40]["t"])
    assert (result.error, server.seen) == (None, [])


def test_newest_first_is_read_until_the_bookmark(tmp_path: Path) -> None:
    state = bookmarked(ROWS[75]["t"])
    with json_api(since(ROWS, descending=True)) as server:
        result = run(tmp_path, server, DESCENDING, state=state)
    assert result.error is None
    assert min(ids(result)) == 70
    assert len(server.seen) == 3
    assert result.claim("rows")["evidence"]["reason"] == "bookmark_reached"
    assert result.states[-1]["bookmarks"]["rows"]["replication_key_value"] == ROWS[99]["t"]


@pytest.mark.case("C28")
@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_a_stream_that_is_not_sorted_as_declared_is_read_whole_and_told(tmp_path: Path, order: str) -> None:
    shuffled = sorted(ROWS, key=lambda row: str(row["t"])[::-1])
    state = bookmarked(ROWS[75]["t"])
    with json_api(since(shuffled)) as server:
        result = run(tmp_path, server, DESCENDING.replace("descending", order), state=state)
    assert sorted(ids(result)) == list(range(100))
    assert "not sorted so" in result.claim("rows")["evidence"]["warnings"][0]
    assert result.states[-1]["bookmarks"]["rows"]["replication_key_value"] == ROWS[99]["t"]


@pytest.mark.case("C24")
def test_a_record_without_a_replication_key_is_kept_and_counted(tmp_path: Path) -> None:
    rows = [*ROWS[:5], {"id": 5, "t": None}, {"id": 6}, {"id": 7, "t": "soon"}, {"id": 8, "t": {"a": 1}}]
    with Hostile(lambda _: [response(json.dumps({"items": rows}).encode())]) as server:
        result = run(tmp_path, server, ASCENDING)
    assert ids(result) == list(range(9))
    assert result.claim("rows")["evidence"]["unplaced"] == 4
    assert result.states[-1]["bookmarks"]["rows"]["replication_key_value"] == ROWS[4]["t"]


@pytest.mark.case("C25")
@pytest.mark.case("trap:3.9")
def test_a_record_from_the_future_does_not_drag_the_bookmark_along(tmp_path: Path) -> None:
    rows = [*ROWS[:5], {"id": 5, "t": "2099-01-01T00:00:00Z"}]
    with json_api(since(rows)) as server:
        result = run(tmp_path, server, ASCENDING)
    assert len(result.records()) == 6
    assert result.states[-1]["bookmarks"]["rows"]["replication_key_value"] == "2027-01-15T08:00:00Z"


@pytest.mark.case("C31")
@pytest.mark.parametrize(
    "bookmarks",
    [
        {"rows": "what"},
        {"rows": [1]},
        {"rows": {"replication_key": "t", "replication_key_value": {"a": 1}}},
        {"rows": {"replication_key": "t", "replication_key_value": "garbage"}},
        {"rows": {"replication_key": "other", "replication_key_value": "2024-01-01"}},
        {"rows": {"partitions": [{"context": {"a": 1}}], "starting_replication_value": None}},
        {"rows": {"replication_key": "t", "page": "x"}},
        [],
        "text",
        None,
    ],
)
def test_a_strange_state_reads_more_rather_than_less(tmp_path: Path, bookmarks: Any) -> None:
    state = {"bookmarks": bookmarks, "currently_syncing": "x"}
    with json_api(since(ROWS)) as server:
        result = run(tmp_path, server, ASCENDING, state=state)
    assert result.error is None
    assert ids(result) == list(range(100))
    assert result.states[-1]["bookmarks"]["rows"]["replication_key_value"] == ROWS[99]["t"]
    assert result.states[-1]["currently_syncing"] == "x"


@pytest.mark.case("C31")
def test_a_bookmark_in_the_future_gives_no_record_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = bookmarked("2999-01-01T00:00:00Z")
    with json_api(since(ROWS)) as server:
        result = run(tmp_path, server, ASCENDING, state=state)
    assert (result.error, result.records()) == (None, [])
    assert "in the future" in caplog.text
    assert result.states[-1]["bookmarks"]["rows"]["replication_key_value"] == "2999-01-01T00:00:00Z"


def test_bookmarks_of_streams_that_are_not_read_are_kept_and_old_claims_are_not(tmp_path: Path) -> None:
    state = {"bookmarks": {"other": {"x": 1}}, "claims": {"other": [{"status": "complete"}]}}
    with json_api(by_cursor) as server:
        result = run(tmp_path, server, CURSOR, state=state)
    assert all(found["bookmarks"]["other"] == {"x": 1} for found in result.states)
    assert all("other" not in found.get("claims", {}) for found in result.states)


def test_declared_members_are_included_where_they_are_absent(tmp_path: Path) -> None:
    with Hostile(lambda _: [response(b'{"items":[{"id":1},{"id":2,"source":"own"}]}')]) as server:
        result = run(tmp_path, server, CURSOR + "    include: {source: test}\n")
    assert result.records() == [{"source": "test", "id": 1}, {"id": 2, "source": "own"}]


@pytest.mark.case("R002-30")
def test_an_api_that_announces_its_end_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def ending(path: str, params: dict[str, str]) -> Any:
        body = json.dumps(by_cursor(path, params)).encode()
        return response(body, headers=["Sunset: Sat, 31 Dec 2027 23:59:59 GMT", "Deprecation: true"])

    with json_api(ending) as server:
        result = run(tmp_path, server, CURSOR)
    assert result.error is None
    warnings = str(result.claim("rows")["evidence"]["warnings"])
    assert "sunset: Sat, 31 Dec 2027" in warnings
    assert "deprecation: true" in warnings
    assert caplog.text.count("sunset:") == 1


@pytest.mark.case("C22")
@pytest.mark.parametrize(
    ("date", "said"),
    [
        ("Fri, 15 Jan 2027 07:50:00 GMT", "600 s ahead of"),
        ("Fri, 15 Jan 2027 08:05:00 GMT", "300 s behind"),
        ("Fri, 15 Jan 2027 08:00:30 GMT", ""),
    ],
)
def test_clocks_that_are_apart_are_told(tmp_path: Path, date: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    with json_api(lambda *_: response(b'{"items":[]}', headers=[f"Date: {date}"])) as server:
        run(tmp_path, server, CURSOR)
    assert ("clock is" in caplog.text) == bool(said)
    assert said in caplog.text


@pytest.mark.case("C11")
@pytest.mark.parametrize(
    ("rows", "said"), [([], "pages in a row are empty"), (ROWS[:10], "the same pages come again and again")]
)
def test_a_server_that_never_ends_is_left(tmp_path: Path, rows: list[Any], said: str) -> None:
    """Ever new cursors, with nothing on the pages or with two pages in turns."""

    def endless(_: str, params: dict[str, str]) -> Any:
        number = int(params.get("cursor", 0))
        return {"items": rows[:5] if number % 2 else rows[5:], "next": str(number + 1)}

    with json_api(endless) as server:
        result = run(tmp_path, server, FAST + CURSOR)
        assert isinstance(result.error, RunIncomplete)
        assert len(server.seen) <= 1001
    assert said in result.claim("rows")["evidence"]["reason"]


@pytest.mark.case("R002-29")
def test_those_who_fail_together_come_back_apart(tmp_path: Path) -> None:
    failed: Counter[int] = Counter()

    def once(path: str, params: dict[str, str]) -> Any:
        failed[number] += 1
        return response(b"busy", status="503 Busy") if failed[number] == 1 else by_cursor(path, params)

    waits = []
    with json_api(once) as server:
        for number in range(40):  # noqa: B007 - the server looks at it
            waits.append(run(tmp_path, server, FAST + CURSOR).clock.waits[0])  # noqa: PERF401
    assert max(Counter(int(wait * 10) for wait in waits).values()) <= 0.3 * len(waits)
