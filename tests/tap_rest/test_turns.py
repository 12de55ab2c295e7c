"""Windows, ends and floors: what is asked for of a stretch of time, and what is read again when it was too much."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.harness import NOW, FastClock, ids, json_api, params_of, run
from tests.tap_rest.hostile import response
from tests.tap_rest.rows import HOURS, by_time, paged, since, windowed

from tap_rest.engine.engine import RunIncomplete
from tap_rest.errors import ConfigError


def asked(server: Any) -> list[tuple[str, str]]:
    """The start and end of every request, to the hour."""
    found = map(params_of, server.seen)
    return [(params.get("since", "")[5:13], params.get("until", "")[5:13]) for params in found]


@pytest.mark.case("R003-7")
def test_windows_tile_the_time_and_each_moves_the_bookmark(tmp_path: Path) -> None:
    with json_api(by_time) as server:
        result = run(tmp_path, server, windowed("window: 3d, start: 2027-01-01"))
        assert result.error is None
        stops = [f"01-{day:02}T00" for day in (4, 7, 10, 13)] + ["01-15T08"]
        assert [until for _, until in asked(server)] == stops
        assert [since for since, _ in asked(server)] == ["01-01T00", *stops[:-1]]
    assert ids(result) == list(range(200))
    values = [state["bookmarks"]["rows"].get("replication_key_value") for state in result.states]
    assert [value and value[5:13] for value in values if value] == stops
    claim = result.claim("rows")
    assert (claim["from"], claim["to"][:13], claim["status"]) == ("2027-01-01", "2027-01-15T08", "complete")
    assert claim["evidence"]["records"] == 200


def test_a_run_goes_on_at_the_window_that_failed(tmp_path: Path) -> None:
    broken = [True]

    def flaky(path: str, params: dict[str, str]) -> Any:
        if broken[0] and params["since"] == "2027-01-07T00:00:00Z":
            return response(b"no", status="400 Bad Request")
        return by_time(path, params)

    with json_api(flaky) as server:
        first = run(tmp_path, server, windowed("window: 3d, start: 2027-01-01"))
        assert isinstance(first.error, RunIncomplete)
        assert first.states[-1]["bookmarks"]["rows"]["replication_key_value"] == "2027-01-07T00:00:00Z"
        assert [claim["status"] for claim in first.states[-1]["claims"]["rows"]] == ["complete", "partial"]
        broken[0] = False
        asked_before = len(server.seen)
        again = run(tmp_path, server, windowed("window: 3d, start: 2027-01-01"), state=first.states[-1])
        assert asked(server)[asked_before] == ("01-07T00", "01-10T00")
    assert ids(first, again) == list(range(200))


@pytest.mark.case("C14")
def test_a_window_with_more_rows_than_the_api_gives_is_cut_in_two(tmp_path: Path) -> None:
    """The API gives the first thirty rows of whatever is asked for, with or without saying how many there are."""

    def capped(path: str, params: dict[str, str]) -> Any:
        page = by_time(path, params)
        return {**page, "items": page["items"][:30]}

    for paginator in ("single_page, result_cap: 30", "single_page, result_cap: 30, total: total"):
        with json_api(capped) as server:
            result = run(tmp_path, server, windowed("start: 2027-01-01", paginator))
            assert result.error is None
        found = ids(result)
        assert sorted(set(found)) == list(range(200))
        assert result.claim("rows")["status"] == "complete"
        if "total:" in paginator:
            assert found == list(range(200)), "a total says so before anything is written"


@pytest.mark.case("C14")
def test_more_rows_than_the_api_gives_at_one_moment_are_told(tmp_path: Path) -> None:
    same = [{"id": number, "t": "2027-01-03T00:00:00Z"} for number in range(50)]
    with json_api(lambda *_: {"items": same[:30]}) as server:
        result = run(tmp_path, server, windowed("start: 2027-01-01", "single_page, result_cap: 30"))
    assert isinstance(result.error, RunIncomplete)
    assert result.claim("rows")["status"] == "partial"
    assert "replication_key_value" not in result.states[-1]["bookmarks"]["rows"]


@pytest.mark.case("C14")
def test_a_cap_without_a_window_to_cut_is_told(tmp_path: Path) -> None:
    declaration = """
    streams:
      rows: {path: /rows, records: items, paginator: {type: single_page, result_cap: 30}}
    """
    with json_api(lambda *_: {"items": HOURS[:30]}) as server:
        result = run(tmp_path, server, declaration)
    assert isinstance(result.error, RunIncomplete)
    assert result.claim("rows")["evidence"]["reason"] == "result_cap"


def test_the_newest_time_is_left_to_a_later_run(tmp_path: Path) -> None:
    with json_api(by_time) as server:
        first = run(tmp_path, server, windowed("start: 2027-01-01, lag: 12d"))
        assert asked(server) == [("01-01T00", "01-03T08")]
        later = run(
            tmp_path,
            server,
            windowed("start: 2027-01-01, lag: 12d"),
            state=first.states[-1],
            clock=FastClock(NOW + 86400 * 30),
        )
    assert sorted({*ids(first, later)}) == list(range(200))
    assert max(ids(first)) == 55


@pytest.mark.case("trap:3.9")
def test_a_bookmark_stays_behind_the_lag_where_no_end_can_be_asked_for(tmp_path: Path) -> None:
    declaration = windowed("lag: 1h").replace("until_param: until, ", "")
    with json_api(lambda *_: {"items": [{"id": 1, "t": "2027-01-15T07:59:00Z"}]}) as server:
        result = run(tmp_path, server, declaration)
    assert result.states[-1]["bookmarks"]["rows"]["replication_key_value"] == "2027-01-15T07:00:00Z"


def test_an_inclusive_end_is_one_step_before_the_next_start(tmp_path: Path) -> None:
    """An API of whole days, both ends included, in the zone of its account."""

    def by_day(_: str, params: dict[str, str]) -> Any:
        first, last = params["since"], params["until"]
        local = [{**row, "d": str(row["t"])[:10]} for row in HOURS]
        return {"items": [row for row in local if first <= str(row["d"]) <= last]}

    replication = "window: 3d, start: 2027-01-01, format: date, granularity: 1d"
    with json_api(by_day) as server:
        result = run(tmp_path, server, windowed(replication))
        assert asked(server) == [
            ("01-01", "01-03"),
            ("01-04", "01-06"),
            ("01-07", "01-09"),
            ("01-10", "01-12"),
            ("01-13", "01-14"),
        ]
    assert ids(result) == list(range(200))
    assert result.claim("rows")["to"] == "2027-01-15T00:00:00Z"
    with json_api(by_day) as server:
        run(tmp_path, server, windowed(f"{replication}, timezone: America/New_York"))
        assert asked(server)[-1] == ("01-12", "01-14")
        assert asked(server)[0] == ("12-31", "01-02")


@pytest.mark.case("R002-27")
def test_times_are_written_in_the_apis_zone(tmp_path: Path) -> None:
    declaration = windowed('format: "%Y-%m-%d %H:%M", timezone: Europe/Berlin')
    with json_api(lambda *_: {"items": []}) as server:
        run(
            tmp_path,
            server,
            declaration,
            state={"bookmarks": {"rows": {"replication_key_value": "2027-01-10T12:00:59Z"}}},
        )
        assert "since=2027-01-10%2013:00" in server.seen[0]


@pytest.mark.case("R003-18")
@pytest.mark.parametrize(("start", "first"), [("30d", "12-16T08"), ("2026-12-01", "12-01T00")])
def test_a_declared_start_is_a_time_or_how_long_ago(tmp_path: Path, start: str, first: str) -> None:
    with json_api(by_time) as server:
        run(tmp_path, server, windowed(f"start: {start}"))
        run(tmp_path, server, windowed(f"start: {start}"), start_date="2027-01-02")
        assert [since for since, _ in asked(server)] == [first, "01-02T00"]


def test_time_that_the_api_no_longer_has_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = {"bookmarks": {"rows": {"replication_key_value": "2026-11-01T00:00:00Z"}}}
    with json_api(by_time) as server:
        result = run(tmp_path, server, windowed("retention: 30d"), state=state)
        assert asked(server) == [("12-16T08", "")]
    assert "from 2026-11-01T00:00:00Z to 2026-12-16T08:00:00Z is beyond what the API keeps" in caplog.text
    claim = result.claim("rows")
    assert (claim["lost"], claim["from"]) == ("2026-11-01T00:00:00Z", "2026-12-16T08:00:00Z")


def test_a_claim_tells_times_that_are_numbers_as_texts_and_ids_as_they_are(tmp_path: Path) -> None:
    for options, said in (("format: epoch_s", "2027-01-01T00:00:00Z"), ("format: text", "1798761600")):
        declaration = windowed(options).replace("until_param: until, ", "")
        state = {"bookmarks": {"rows": {"replication_key_value": 1798761600}}}
        with json_api(lambda *_: {"items": []}) as server:
            claim = run(tmp_path, server, declaration, state=state).claim("rows")
        assert (claim["from"], "lost" in claim) == (said, False)


def test_newest_first_that_ends_before_the_bookmark_is_told(tmp_path: Path) -> None:
    newest = list(reversed(HOURS))[:20]
    declaration = windowed("order: descending, retention: 30d").replace("param: since, until_param: until, ", "")
    with json_api(lambda *_: {"items": newest}) as server:
        state = {"bookmarks": {"rows": {"replication_key_value": HOURS[50]["t"]}}}
        result = run(tmp_path, server, declaration, state=state)
        assert "what lies between may be lost" in str(result.claim("rows")["evidence"]["warnings"])
        state = {"bookmarks": {"rows": {"replication_key_value": newest[5]["t"]}}}
        result = run(tmp_path, server, declaration, state=state)
        assert result.claim("rows")["evidence"]["reason"] == "bookmark_reached"


def test_what_the_api_cannot_leave_out_is_left_out_here(tmp_path: Path) -> None:
    declaration = """
    streams:
      rows: {path: /rows, records: items, primary_keys: [id], replication: {key: t, client_side: true}}
    """
    rows = [*HOURS[:4], {"id": "odd", "t": None}]
    with json_api(lambda *_: {"items": rows}) as server:
        first = run(tmp_path, server, declaration)
        again = run(tmp_path, server, declaration, state=first.states[-1])
    assert ids(first) == [0, 1, 2, 3, "odd"]
    assert ids(again) == [3, "odd"], "a record whose place is unknown is never left out"
    assert again.claim("rows")["evidence"]["older"] == 3


def test_windows_without_a_beginning_or_an_end_are_refused(tmp_path: Path) -> None:
    with json_api(by_time) as server:
        for declaration in (
            windowed("window: 3d"),
            windowed("window: 3d, start: 1d").replace("until_param: until, ", ""),
        ):
            result = run(tmp_path, server, declaration)
            assert isinstance(result.error, RunIncomplete | ConfigError)
            assert server.seen == []


def test_an_end_in_a_template_is_the_time_of_the_run(tmp_path: Path) -> None:
    declaration = """
    streams:
      rows:
        path: /rows
        method: POST
        body: {from: "{bookmark|epoch_ms}", to: "{until|epoch_s}"}
        records: items
        replication: {key: t, start: 2027-01-01}
    """
    with json_api(lambda *_: {"items": []}) as server:
        result = run(tmp_path, server, declaration)
        assert server.seen[0].endswith('{"from":"1798761600000","to":"1800000000"}')
        assert result.claim("rows")["to"] == "2027-01-15T08:00:00Z"


def test_each_window_may_be_read_again_as_often_as_any_other(tmp_path: Path) -> None:
    """Every window lacks a row when it is asked for first."""
    short: set[str] = set()

    def once(path: str, params: dict[str, str]) -> Any:
        page = by_time(path, params)
        if params["since"] not in short:
            short.add(params["since"])
            page["items"] = page["items"][:-1]
        return page

    with json_api(once) as server:
        result = run(tmp_path, server, windowed("window: 1d, start: 2027-01-01", "single_page, total: total"))
    assert result.error is None
    assert set(ids(result)) == set(range(200))


def test_a_page_in_flight_is_left_when_another_start_is_asked_for(tmp_path: Path) -> None:
    """The end moves with the clock; the start does not."""
    declaration = windowed("lag: 1h", "cursor, path: next, param: cursor")

    def by_cursor(path: str, params: dict[str, str]) -> Any:
        return paged(by_time(path, params)["items"], params, 50)

    with json_api(by_cursor) as server:
        first = run(tmp_path, server, declaration, start_date="2027-01-05")
        later = FastClock(NOW + 60)
        same = run(tmp_path, server, declaration, start_date="2027-01-05", state=first.states[0], clock=later)
        other = run(
            tmp_path, server, declaration, start_date="2027-01-01", state=first.states[0], clock=FastClock(NOW + 60)
        )
    assert ids(same) == list(range(96 + 50, 200))
    assert ids(other) == list(range(200))


def test_a_row_that_came_late_while_nobody_read_is_read_by_the_run_that_goes_on(tmp_path: Path) -> None:
    """It lies behind the page in flight, and further back than `lookback` when the next run begins."""
    times = [datetime(2027, 1, 15, tzinfo=UTC) + timedelta(minutes=10 * number) for number in range(48)]
    rows = [{"id": number, "t": f"{at:%Y-%m-%dT%H:%M:%SZ}"} for number, at in enumerate(times)]
    declaration = windowed("window: 30d, lookback: 1h, start: 2027-01-15", "cursor, path: next, param: cursor")
    with json_api(since(rows, size=15)) as server:
        first = run(tmp_path, server, declaration)
        rows.insert(0, {"id": 999, "t": "2027-01-15T07:05:00Z"})
        rows.insert(48, {"id": 998, "t": "2027-01-15T07:55:00Z"})
        again = run(tmp_path, server, declaration, state=first.states[2], clock=FastClock(NOW + 86400))
        third = run(tmp_path, server, declaration, state=again.states[-1], clock=FastClock(NOW + 90000))
    assert (again.error, third.error) == (None, None)
    assert {*range(45), *ids(again), *ids(third)} == {row["id"] for row in rows}


def test_a_floating_start_keeps_no_page_of_a_later_one(tmp_path: Path) -> None:
    def by_cursor(path: str, params: dict[str, str]) -> Any:
        return paged(by_time(path, params)["items"], params, 50)

    declaration = windowed("retention: 30d", "cursor, path: next, param: cursor")
    with json_api(by_cursor) as server:
        first = run(tmp_path, server, declaration, start_date="2027-01-05")
        other = run(tmp_path, server, declaration, state=first.states[0], clock=FastClock(NOW + 60))
    assert ids(other) == list(range(200))


@pytest.mark.case("C14")
@pytest.mark.parametrize("more", ["", 'for_each: {items: [a], as: it}\n        include: {it: "{it}"}'])
def test_a_run_that_goes_on_in_half_a_window_reads_the_other_half(tmp_path: Path, more: str) -> None:
    def capped(path: str, params: dict[str, str]) -> Any:
        return paged(by_time(path, params)["items"][:30], params)

    declaration = windowed("start: 2027-01-01", "cursor, path: next, param: cursor, result_cap: 30", more)
    with json_api(capped) as server:
        whole = run(tmp_path, server, declaration)
        lines = whole.output.splitlines()
        halves: dict[str, int] = {}
        for place, line in enumerate(lines):
            if until := re.search(rb'"until":"(2027-01-0[^"]*)"', line):
                halves.setdefault(until[1].decode(), place)
        assert len(halves) > 3
        for place in halves.values():
            again = run(tmp_path, server, declaration, state=json.loads(lines[place])["value"])
            before = {json.loads(line)["record"]["id"] for line in lines[:place] if b'"RECORD"' in line}
            assert before | set(ids(again)) == set(range(200)), place


@pytest.mark.case("C14")
def test_rows_that_are_left_out_count_among_those_that_the_api_gives_at_most(tmp_path: Path) -> None:
    declaration = windowed("client_side: true", "single_page, result_cap: 30").replace(
        "param: since, until_param: until, ", ""
    )
    state = {"bookmarks": {"rows": {"replication_key_value": HOURS[20]["t"]}}}
    with json_api(lambda *_: {"items": HOURS[:30]}) as server:
        result = run(tmp_path, server, declaration, state=state)
    assert isinstance(result.error, RunIncomplete)


def test_the_last_day_before_the_clocks_change_is_asked_for(tmp_path: Path) -> None:
    """The 28th of March 2027 has 23 hours in Berlin."""
    clock = FastClock(datetime(2027, 3, 29, 12, tzinfo=UTC).timestamp())
    declaration = windowed("window: 3d, start: 2027-03-20, format: date, granularity: 1d, timezone: Europe/Berlin")
    with json_api(lambda *_: {"items": []}) as server:
        result = run(tmp_path, server, declaration, clock=clock)
        assert asked(server)[-1][1] == "03-28"
    assert result.claim("rows")["to"] == "2027-03-28T22:00:00Z"


def test_windows_that_end_between_two_steps_leave_none_out(tmp_path: Path) -> None:
    def ends_inclusive(_: str, params: dict[str, str]) -> Any:
        return {"items": [row for row in HOURS if params["since"] <= str(row["t"]) <= params["until"]]}

    with json_api(ends_inclusive) as server:
        result = run(tmp_path, server, windowed("window: 330min, start: 2027-01-01, granularity: 1h"))
    assert set(ids(result)) == set(range(200))


def test_an_api_that_leaves_out_the_value_asked_for_is_asked_for_one_before(tmp_path: Path) -> None:
    def exclusive(_: str, params: dict[str, str]) -> Any:
        return {"items": [row for row in HOURS if params["since"] < str(row["t"]) < params["until"]]}

    with json_api(exclusive) as server:
        result = run(tmp_path, server, windowed("window: 3d, start: 2027-01-01, inclusive: false"))
    assert ids(result) == list(range(200))


def test_time_that_is_only_read_again_is_not_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = {"bookmarks": {"rows": {"replication_key_value": "2026-12-18T00:00:00Z"}}}
    with json_api(by_time) as server:
        result = run(tmp_path, server, windowed("retention: 30d, lookback: 5d"), state=state)
    assert "beyond what" not in caplog.text
    assert "lost" not in result.claim("rows")


def test_an_id_is_not_taken_for_a_time_beyond_the_end(tmp_path: Path) -> None:
    declaration = windowed("format: text").replace("key: t", "key: id")
    state = {"bookmarks": {"rows": {"replication_key_value": 4000000000}}}
    with json_api(lambda *_: {"items": [{"id": 4000000001}]}) as server:
        result = run(tmp_path, server, declaration, end_date="2027-01-20", state=state)
    assert ids(result) == [4000000001]
