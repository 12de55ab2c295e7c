"""Paging against servers whose rows move while they are read, and side by side."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tap_rest.harness import NOW, FastClock, ids, json_api, run
from tests.tap_rest.hostile import Hostile, response
from tests.tap_rest.rows import CURSOR, ROWS, bookmarked, by_time, paged, windowed

from tap_rest.engine.engine import RunIncomplete
from tap_rest.engine.signals import Waiter
from tap_rest.errors import CredentialsRefused


def offset(options: str = "") -> str:
    return f"""
    streams:
      rows:
        path: /rows
        records: items
        primary_keys: [id]
        paginator: {{type: offset, page_size: 10 {options}}}
    """


# --- rows that move ---------------------------------------------------------------------------------------------------


class Moving:
    """Pages by offset of a list that changes after some of its pages."""

    def __init__(self, changes: dict[int, Any]) -> None:
        self.rows, self._changes, self._asked = [dict(row) for row in ROWS], changes, 0

    def __call__(self, _: str, params: dict[str, str]) -> Any:
        start, size = int(params["offset"]), int(params["limit"])
        page = {"items": self.rows[start : start + size], "total": len(self.rows)}
        self._asked += 1
        if change := self._changes.get(self._asked):
            change(self.rows)
        return page


def remove_first(rows: list[Any]) -> None:
    del rows[0]


def remove_ten(rows: list[Any]) -> None:
    del rows[:10]


def insert_first(rows: list[Any]) -> None:
    rows.insert(0, {"id": f"new {len(rows)}", "t": "2024-06-01T00:00:00Z"})


@pytest.mark.case("C13")
@pytest.mark.case("R002-3")
@pytest.mark.case("R002-27")
def test_an_overlap_finds_rows_that_moved_by_less_than_it(tmp_path: Path) -> None:
    with json_api(Moving({3: remove_first, 5: remove_first, 7: insert_first})) as server:
        result = run(tmp_path, server, offset(", overlap: 3"))
    assert result.error is None
    assert {row["id"] for row in ROWS} <= set(ids(result))
    assert len(ids(result)) <= len(ROWS) + 1, "what overlaps is written once"
    assert result.claim("rows")["evidence"]["repeated"] > 20
    assert "warnings" not in result.claim("rows")["evidence"]


@pytest.mark.parametrize("count", range(6))
def test_an_overlap_may_be_longer_than_all_there_is(tmp_path: Path, count: int) -> None:
    def few(_: str, params: dict[str, str]) -> Any:
        start = int(params["offset"])
        return {"items": ROWS[:count][start : start + int(params["limit"])]}

    with json_api(few) as server:
        result = run(tmp_path, server, offset(", overlap: 3"))
    assert result.error is None
    assert ids(result) == list(range(count))
    assert result.claim("rows")["status"] == "complete"


@pytest.mark.case("C13")
@pytest.mark.case("R002-3")
def test_rows_that_moved_by_more_than_the_overlap_are_read_again(tmp_path: Path) -> None:
    with json_api(Moving({3: remove_ten})) as server:
        result = run(tmp_path, server, offset(", overlap: 3"))
    assert result.error is None
    assert {row["id"] for row in ROWS} == set(ids(result))
    assert len(server.seen) > 15


@pytest.mark.case("C13")
def test_rows_that_never_stop_moving_leave_the_unit_unproved(tmp_path: Path) -> None:
    def churn(_: str, params: dict[str, str]) -> Any:
        return {"items": [{"id": f"{len(server.seen)}-{number}"} for number in range(int(params["limit"]))]}

    with json_api(churn) as server:
        result = run(tmp_path, server, offset(", overlap: 3"))
    assert isinstance(result.error, RunIncomplete)
    assert (result.claim("rows")["status"], result.claim("rows")["evidence"]["reason"]) == ("partial", "rows_moved")


@pytest.mark.case("C13")
@pytest.mark.parametrize("gone", [0, 20])
def test_rows_that_moved_while_nobody_read_are_noticed_by_the_run_that_goes_on(tmp_path: Path, gone: int) -> None:
    moving = Moving({})
    with json_api(moving) as server:
        first = run(tmp_path, server, offset(", overlap: 3"))
        del moving.rows[:gone]
        again = run(tmp_path, server, offset(", overlap: 3"), state=first.states[4])
    assert again.error is None
    written = [message for message in first.messages if message["type"] == "RECORD"][:38]
    seen = {message["record"]["id"] for message in written} | set(ids(again))
    assert seen == set(range(100)), "those that are left were all read"
    assert (gone in ids(again)) == bool(gone), "it is read from its start only where rows have moved"
    assert gone or ids(again) == list(range(38, 100))


@pytest.mark.case("C12")
def test_a_total_that_changes_while_it_is_read_is_told(tmp_path: Path) -> None:
    with json_api(Moving({3: remove_first})) as server:
        result = run(tmp_path, server, offset(", total: total"))
    assert "went from 100 to 99" in str(result.claim("rows")["evidence"]["warnings"])


def test_a_possible_miss_is_told_unless_the_declaration_rules_it_out(tmp_path: Path) -> None:
    for options, told in (("", True), (", total: total", True), (", stable: true", False), (", overlap: 1", False)):
        with json_api(Moving({})) as server:
            result = run(tmp_path, server, offset(options))
        assert ids(result) == list(range(100))
        assert ("can be missed" in str(result.claim("rows")["evidence"])) == told, options


@pytest.mark.case("C12")
@pytest.mark.parametrize(("cap", "said"), [(4, "4 of 10 rows"), (25, "25 rows where 10 were asked for")])
def test_a_page_size_that_is_not_kept_is_told(tmp_path: Path, cap: int, said: str) -> None:
    def capped(_: str, params: dict[str, str]) -> Any:
        start = int(params["offset"])
        return {"items": ROWS[start : start + cap]}

    with json_api(capped) as server:
        result = run(tmp_path, server, offset(", stable: true"))
    assert ids(result) == list(range(100))
    assert said in str(result.claim("rows")["evidence"]["warnings"])


def test_a_key_that_is_none_is_told(tmp_path: Path) -> None:
    with json_api(lambda *_: {"items": [{"id": 1, "a": 1}, {"id": 1, "a": 2}]}) as server:
        result = run(tmp_path, server, "streams:\n  rows: {path: /rows, records: items, primary_keys: [id]}")
    assert "share their id" in str(result.claim("rows")["evidence"]["warnings"])
    assert len(result.records()) == 2


# --- model servers: rows are inserted, changed and deleted while they are read ----------------------------------------

CHANGES = st.lists(
    st.tuples(st.sampled_from(["insert", "delete", "update", "purge", "none"]), st.integers(0, 30)), max_size=14
)
KINDS = {
    "keyset": "{type: keyset, field: id, param: after, inclusive: false, unique: true, page_size: 4}",
    "keyset with ties": "{type: keyset, field: t, param: since, inclusive: true, page_size: 8}",
    "cursor": "{type: cursor, path: next, param: cursor}",
    "offset": "{type: offset, page_size: 4, overlap: 2}",
    "offset with nothing": "{type: offset, page_size: 4}",
}


class Model:
    """Rows with an id that only grows and a time of change that never falls; each request is followed by a change."""

    def __init__(self, changes: list[tuple[str, int]]) -> None:
        self.rows = [{"id": number, "t": number // 2} for number in range(20)]
        self.always = {row["id"] for row in self.rows}
        self._changes = iter(changes)
        self._clock, self._last = 10, 19

    def __call__(self, _: str, params: dict[str, str]) -> Any:
        answer = self._page(params)
        kind, place = next(self._changes, ("none", 0))
        self._clock += 1
        if kind == "insert":
            self._last += 1
            self.rows.append({"id": self._last, "t": self._clock})
        elif kind == "delete" and self.rows:
            self.always.discard(self.rows.pop(place % len(self.rows))["id"])
        elif kind == "purge":
            self.always -= {row["id"] for row in self.rows[:5]}
            del self.rows[:5]
        elif kind == "update" and self.rows:
            row = self.rows.pop(place % len(self.rows))
            self.rows.append({**row, "t": self._clock})
        return answer

    def _page(self, params: dict[str, str]) -> Any:
        size = int(params.get("limit", 4))
        by_id = sorted(self.rows, key=lambda row: row["id"])
        if "since" in params or ("after" not in params and size == 8):
            found = [
                row
                for row in sorted(self.rows, key=lambda row: (row["t"], row["id"]))
                if row["t"] >= int(params.get("since", -1))
            ]
            return {"items": found[:8]}
        if "offset" in params:
            start = int(params["offset"])
            return {"items": self.rows[start : start + size]}
        after = int(params.get("after", params.get("cursor", -1)))
        found = [row for row in by_id if row["id"] > after]
        page = found[:4]
        return {"items": page, "next": str(page[-1]["id"]) if len(found) > 4 else None}


@pytest.mark.case("C13")
@pytest.mark.case("C26")
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
@pytest.mark.case("trap:4.10")
def test_nothing_that_was_there_all_the_time_is_missed_in_silence(
    tmp_path: Path, kind: str, changes: list[tuple[str, int]]
) -> None:
    model = Model(changes)
    declaration = f"""
    streams:
      rows: {{path: /rows, records: items, primary_keys: [id], paginator: {KINDS[kind]}}}
    """
    with json_api(model) as server:
        result = run(tmp_path, server, declaration)
    claim = result.claim("rows")
    missed = model.always - set(ids(result))
    if missed:
        assert kind.startswith("offset"), (kind, missed)
        told = claim["status"] == "partial" or "warnings" in claim["evidence"]
        assert told, missed
    if kind == "offset":
        assert not missed or claim["status"] == "partial", missed


class Dated(Model):
    """The same with times of change, asked for by windows; changes happen now, as the server's clock has it."""

    def __init__(self, changes: list[tuple[str, int]]) -> None:
        super().__init__(changes)
        self._clock = int(NOW)
        for row in self.rows:
            row["t"] = int(NOW) - (20 - row["id"]) * 40_000

    def _page(self, params: dict[str, str]) -> Any:
        first, last = int(params["since"]), int(params["until"])
        return {"items": sorted((row for row in self.rows if first <= row["t"] < last), key=lambda row: row["t"])}


@pytest.mark.case("C13")
@pytest.mark.case("C27")
@settings(max_examples=60, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=CHANGES)
def test_what_changes_between_windows_is_read_by_the_next_run_at_the_latest(
    tmp_path: Path, changes: list[tuple[str, int]]
) -> None:
    model = Dated(changes)
    declaration = """
    streams:
      rows:
        path: /rows
        records: items
        primary_keys: [id]
        replication:
          {key: t, param: since, until_param: until, format: epoch_s, window: 2d, start: 11d, lag: 1min}
    """
    with json_api(model) as server:
        first = run(tmp_path, server, declaration)
        model._changes = iter([])
        later = run(tmp_path, server, declaration, state=first.states[-1], clock=FastClock(NOW + 3600))
    assert (first.error, later.error) == (None, None)
    assert model.always <= set(ids(first, later))


# --- what is not there to be read -------------------------------------------------------------------------------------


def test_rows_that_are_left_out_are_not_missing_from_a_total(tmp_path: Path) -> None:
    with_total = CURSOR.replace("param: cursor}", "param: cursor, total: total}")
    older = "    replication: {key: t, client_side: true}\n"
    newest = "    replication: {key: t, order: descending}\n"
    with json_api(lambda _, params: {**paged(ROWS[::-1], params), "total": 100}) as server:
        for order in (older, newest):
            result = run(tmp_path, server, with_total + order, state=bookmarked(ROWS[95]["t"]))
            assert result.error is None
            assert result.claim("rows")["status"] == "complete"


def test_ties_that_fill_a_page_of_the_servers_own_size_are_told(tmp_path: Path) -> None:
    """The server gives 50 rows where 100 are asked for, and 60 share one value."""
    rows: list[dict[str, Any]] = [
        {"id": number, "k": f"{number if not 30 <= number < 90 else 30:03}"} for number in range(120)
    ]
    declaration = """
    streams:
      rows:
        path: /rows
        records: items
        primary_keys: [id]
        paginator: {type: keyset, field: k, param: after, inclusive: true, page_size: 100}
    """

    def capped(_: str, params: dict[str, str]) -> Any:
        return {"items": [row for row in rows if row["k"] >= params.get("after", "")][:50]}

    with json_api(capped) as server:
        result = run(tmp_path, server, declaration)
    assert isinstance(result.error, RunIncomplete)
    assert result.claim("rows")["evidence"]["reason"] == "ties_fill_a_page"


# --- sync tokens ------------------------------------------------------------------------------------------------------

CALENDAR = """
streams:
  events:
    path: /events
    params: {timeMin: "2020"}
    records: items
    primary_keys: [id]
    paginator:
      {type: sync_token, path: nextPageToken, param: pageToken, token_path: nextSyncToken, token_param: syncToken,
       without: [timeMin]}
"""


class Calendar:
    """Google's way: pages by a token, a sync token on the last one, 410 when that is too old."""

    def __init__(self) -> None:
        self.events = [{"id": number, "version": 1} for number in range(5)]
        self.changed: list[Any] = []
        self.expired = False

    def __call__(self, _: str, params: dict[str, str]) -> Any:
        if "syncToken" in params:
            if "timeMin" in params:
                return response(b"{}", status="400 Bad Request")
            if self.expired:
                return response(b'{"error":"gone"}', status="410 Gone")
        rows = self.changed if "syncToken" in params else self.events
        start = int(params.get("pageToken", 0))
        more = start + 2 < len(rows)
        token = {"nextPageToken": str(start + 2)} if more else {"nextSyncToken": f"s{len(self.changed)}"}
        return {"items": rows[start : start + 2], **token}


def test_a_sync_token_brings_what_has_changed(tmp_path: Path) -> None:
    calendar = Calendar()
    with json_api(calendar) as server:
        first = run(tmp_path, server, CALENDAR)
        assert first.states[-1]["bookmarks"]["events"] == {"sync_token": "s0"}
        calendar.changed = [{"id": 3, "version": 2}, {"id": 4, "status": "cancelled"}]
        second = run(tmp_path, server, CALENDAR, state=first.states[-1])
    assert ids(first) == [0, 1, 2, 3, 4]
    assert second.records() == calendar.changed
    assert second.states[-1]["bookmarks"]["events"] == {"sync_token": "s2"}


def test_a_sync_token_that_is_too_old_means_reading_everything(tmp_path: Path) -> None:
    calendar = Calendar()
    with json_api(calendar) as server:
        first = run(tmp_path, server, CALENDAR)
        calendar.expired = True
        second = run(tmp_path, server, CALENDAR, state=first.states[-1])
    assert second.error is None
    assert ids(second) == [0, 1, 2, 3, 4]
    assert second.states[-1]["bookmarks"]["events"] == {"sync_token": "s0"}


def test_a_last_page_without_a_sync_token_is_told(tmp_path: Path) -> None:
    with json_api(lambda *_: {"items": [{"id": 1}]}) as server:
        result = run(tmp_path, server, CALENDAR)
    assert result.error is None
    assert "no token at nextSyncToken" in str(result.claim("events")["evidence"]["warnings"])
    assert result.states[-1]["bookmarks"] == {}


def test_a_run_that_goes_on_after_a_sync_token_claims_changes_only(tmp_path: Path) -> None:
    calendar = Calendar()
    with json_api(calendar) as server:
        first = run(tmp_path, server, CALENDAR)
        calendar.changed = [{"id": number, "version": 2} for number in range(5)]
        second = run(tmp_path, server, CALENDAR, state=first.states[-1])
        third = run(tmp_path, server, CALENDAR, state=second.states[0])
    assert third.records() == calendar.changed[2:]
    assert [one.claim("events")["evidence"].get("changes_only") for one in (first, second, third)] == [None, True, True]


# --- conditional requests ---------------------------------------------------------------------------------------------

FEED = """
streams:
  rows:
    path: /rows
    records: $
    primary_keys: [id]
    conditional: true
    ORDER
    paginator: {type: page_number}
"""


def feed(rows: list[Any], tag: str, size: int = 10) -> Hostile:
    def answer(request: str) -> list[bytes]:
        head = request.lower()
        page = int(re.findall(r"page=(\d+)", request)[0])
        if f'if-none-match: "{tag}"' in head and page == 1:
            return [response(b"", status="304 Not Modified", headers=[f'ETag: "{tag}"'])]
        body = json.dumps(rows[(page - 1) * size : page * size]).encode()
        return [response(body, headers=[f'ETag: "{tag}"'] if page == 1 else [])]

    return Hostile(answer)


def test_an_answer_that_has_not_changed_is_proof(tmp_path: Path) -> None:
    declaration = FEED.replace("ORDER", "").replace("paginator: {type: page_number}", "params: {page: 1}")
    with feed(ROWS[:5], "v1") as server:
        first = run(tmp_path, server, declaration)
        again = run(tmp_path, server, declaration, state=first.states[-1])
        assert len(server.seen) == 2
        third = run(tmp_path, server, declaration, state=again.states[-1])
        assert len(server.seen) == 3
    assert ids(first) == [0, 1, 2, 3, 4]
    assert (ids(again), ids(third)) == ([], [])
    claim = again.claim("rows")
    assert (claim["status"], claim["evidence"]["reason"]) == ("complete", "not_modified")
    assert third.claim("rows")["evidence"]["reason"] == "not_modified"


@pytest.mark.parametrize(("order", "asks"), [("replication: {key: t, order: descending}", 1), ("", 0)])
def test_a_first_page_proves_the_others_only_where_the_newest_come_first(tmp_path: Path, order: str, asks: int) -> None:
    with feed(list(reversed(ROWS))[:25], "v1") as server:
        first = run(tmp_path, server, FEED.replace("ORDER", order))
        seen = len(server.seen)
        again = run(tmp_path, server, FEED.replace("ORDER", order), state=first.states[-1])
        assert sum("if-none-match" in text.lower() for text in server.seen[seen:]) == asks
    assert again.error is None
    assert (again.claim("rows")["evidence"]["reason"] == "not_modified") == bool(asks)


def test_a_304_that_nobody_asked_for_is_an_error(tmp_path: Path) -> None:
    with json_api(lambda *_: response(b"", status="304 Not Modified")) as server:
        result = run(tmp_path, server, "streams:\n  rows: {path: /rows, records: items}")
    assert isinstance(result.error, RunIncomplete)


def test_an_answer_that_has_not_changed_proves_nothing_about_what_was_left_out_of_it(tmp_path: Path) -> None:
    declaration = FEED.replace("ORDER", "replication: {key: t, client_side: true}")
    declaration = declaration.replace("paginator: {type: page_number}", "params: {page: 1}")
    with feed(ROWS[:5], "v1") as server:
        first = run(tmp_path, server, declaration, start_date="2025-01-01")
        again = run(tmp_path, server, declaration, start_date="2020-01-01", state=first.states[-1])
    assert (ids(first), ids(again)) == ([], [0, 1, 2, 3, 4])


def test_an_answer_that_is_read_otherwise_is_asked_for_whole(tmp_path: Path) -> None:
    declaration = FEED.replace("ORDER", "").replace("paginator: {type: page_number}", "params: {page: 1}")
    with feed(ROWS[:5], "v1") as server:
        first = run(tmp_path, server, declaration)
        again = run(tmp_path, server, f"{declaration}    include: {{kind: row}}\n", state=first.states[-1])
    assert [row.get("kind") for row in (*first.records(), *again.records())] == [None] * 5 + ["row"] * 5


# --- side by side -----------------------------------------------------------------------------------------------------


class Counting:
    """Rows by offset, by page, and of partitions; knows how many requests it has had at one time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = self.most = 0

    def __call__(self, path: str, params: dict[str, str]) -> Any:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.02)
        with self._lock:
            self._now -= 1
        if "page" in params:
            page = int(params["page"])
            return {"items": ROWS[page * 10 - 10 : page * 10], "pages": 10}
        start = int(params.get("offset", params.get("cursor", 0)))
        rows = [{**row, "path": path} for row in ROWS[start : start + 10]]
        return {"items": rows, "total": 100, "next": str(start + 10) if start < 90 else None}


SIDE_BY_SIDE = {
    "offset": "paginator: {type: offset, page_size: 10, total: total, stable: true}",
    "page_number": "paginator: {type: page_number, total_pages: pages, stable: true}",
    "partitions": """for_each: {items: [a, b, c, d, e, f], as: it}
        include: {it: "{it}"}
        paginator: {type: cursor, path: next, param: cursor}""",
}


@pytest.mark.case("R000-8")
@pytest.mark.case("R004-5")
@pytest.mark.parametrize("kind", SIDE_BY_SIDE)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_pages_and_partitions_are_read_side_by_side_in_order(tmp_path: Path, kind: str, concurrency: int) -> None:
    counting = Counting()
    declaration = f"""
    limits: [{{quota: 1000/s, concurrency: {concurrency}}}]
    streams:
      rows:
        path: /rows
        records: items
        {SIDE_BY_SIDE[kind]}
    """
    with json_api(counting) as server:
        result = run(tmp_path, server, declaration)
    assert result.error is None
    assert counting.most == concurrency if concurrency == 1 else 2 <= counting.most <= concurrency
    by_partition: dict[str, list[int]] = {}
    for record in result.records():
        by_partition.setdefault(record.get("it", ""), []).append(record["id"])
    assert all(found == list(range(100)) for found in by_partition.values())
    assert len(by_partition) == (6 if kind == "partitions" else 1)
    assert len(server.seen) == 10 * len(by_partition)


@pytest.mark.case("R002-15")
def test_a_page_that_fails_side_by_side_fails_the_stream_at_its_place(tmp_path: Path) -> None:
    def flaky(path: str, params: dict[str, str]) -> Any:
        return response(b"no", status="400 Bad Request") if params["offset"] == "60" else Counting()(path, params)

    declaration = f"""
    limits: [{{quota: 1000/s, concurrency: 4}}]
    streams:
      rows: {{path: /rows, records: items, {SIDE_BY_SIDE["offset"]}}}
    """
    with json_api(flaky) as server:
        result = run(tmp_path, server, declaration)
    assert isinstance(result.error, RunIncomplete)
    assert ids(result) == list(range(60))
    assert result.claim("rows")["status"] == "partial"


def test_a_guess_that_was_wrong_costs_requests_and_no_rows(tmp_path: Path) -> None:
    """The server gives smaller pages in the middle, so that the offsets guessed from the first page are wrong."""

    def shrinking(_: str, params: dict[str, str]) -> Any:
        start = int(params["offset"])
        return {"items": ROWS[start : start + (10 if start < 30 else 7)], "total": 100}

    declaration = f"""
    limits: [{{quota: 1000/s, concurrency: 4}}]
    streams:
      rows: {{path: /rows, records: items, primary_keys: [id], {SIDE_BY_SIDE["offset"]}}}
    """
    with json_api(shrinking) as server:
        result = run(tmp_path, server, declaration)
    assert result.error is None
    assert ids(result) == list(range(100))


def test_a_guess_of_one_window_is_no_answer_to_the_next(tmp_path: Path) -> None:
    """Of the first window there are fewer pages than its first page said."""

    def answer(path: str, params: dict[str, str]) -> Any:
        found, page = by_time(path, params)["items"], int(params["page"])
        pages = -(-len(found) // 10)
        if params["since"].startswith("2027-01-01"):
            found, pages = found[:20], pages if page == 1 else 2
        return {"items": found[page * 10 - 10 : page * 10], "pages": pages}

    declaration = windowed("window: 3d, start: 2027-01-01", "page_number, total_pages: pages, stable: true")
    declaration = f"    limits: [{{quota: 1000/s, concurrency: 4}}]{declaration}"
    with json_api(answer) as server:
        result = run(tmp_path, server, declaration)
    assert result.error is None
    assert ids(result) == [*range(20), *range(72, 200)]


class RealClock(FastClock):
    now, monotonic, wait = Waiter.now, Waiter.monotonic, Waiter.wait


def test_what_ends_the_run_cuts_the_waits_of_the_others_short(tmp_path: Path) -> None:
    """On a real clock: a request that waits to be sent again is not sent, once the credentials were refused."""
    waits = threading.Event()

    def answer(path: str, params: dict[str, str]) -> Any:
        if params["of"] == "slow":
            if waits.is_set():
                return []
            waits.set()
            return response(b"", status="429 Slow down", headers=["Retry-After: 4"])
        assert waits.wait(10)
        time.sleep(0.2)
        return response(b"", status="401 No")

    declaration = """
        limits: [{quota: 1000/s, concurrency: 2}]
        streams:
          rows:
            for_each: {items: [slow, refused], as: one}
            path: /rows
            params: {of: "{one}"}
            records: $
            primary_keys: [id]
    """
    with json_api(answer) as server:
        result = run(tmp_path, server, declaration, clock=RealClock())
    assert isinstance(result.error, CredentialsRefused)
    assert len([one for one in server.seen if "of=slow" in one]) == 1
