"""Zendesk: the model server is as the vendor says, and `zendesk.yaml` archives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.apis.model import NOW, Client, iso
from tests.apis.packaged import Clock, archived
from tests.apis.zendesk import DAY, OAUTH, Zendesk

from tap_rest.engine.engine import RunIncomplete

V2 = "/api/v2"


@pytest.fixture
def api() -> Iterator[Zendesk]:
    with Zendesk(export=2, limit=100) as server:
        yield server


def json_of(ask: Client, path: str) -> dict[str, Any]:
    answer = ask.get(path if path.startswith("http") else V2 + path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_model_takes_an_api_token_or_an_oauth_token_only(ask: Client) -> None:
    assert ask.get(f"{V2}/users/me.json").status_code == 200
    assert ask.get(f"{V2}/users/me.json", {"Authorization": f"Bearer {OAUTH}"}).status_code == 200
    assert ask.get(f"{V2}/users/me.json", {"Authorization": "Bearer other"}).status_code == 401


def test_the_model_pages_lists_by_cursor_and_old_lists_by_number(api: Zendesk, ask: Client) -> None:
    api.cap = 3
    first = json_of(ask, "/ticket_fields.json?page[size]=100")
    assert (len(first["ticket_fields"]), first["meta"]["has_more"]) == (3, True)
    last = json_of(ask, first["links"]["next"])
    assert (len(last["ticket_fields"]), last["meta"]["has_more"], last["links"]["next"]) == (1, False, None)
    assert ask.get(f"{V2}/ticket_fields?page[size]=101").status_code == 400
    forms = json_of(ask, "/ticket_forms.json?per_page=1")
    assert (len(forms["ticket_forms"]), forms["count"]) == (1, 2)
    assert json_of(ask, forms["next_page"])["next_page"] is None


def test_the_model_exports_by_cursor_until_it_says_so(ask: Client) -> None:
    pages, url = [], f"{V2}/incremental/tickets/cursor.json?start_time=0"
    while True:
        page = ask.get(url).json()
        pages.append([row["id"] for row in page["tickets"]])
        if page["end_of_stream"]:
            break
        url = page["after_url"]
    assert pages == [[1, 2], [3], [6], [7]]
    assert json_of(ask, f"/incremental/tickets/cursor.json?cursor={page['after_cursor']}")["tickets"] == []


def test_the_model_has_pages_without_rows_that_are_not_the_end(api: Zendesk, ask: Client) -> None:
    api.rows["tickets"][2]["_hidden"] = True
    first = json_of(ask, "/incremental/tickets/cursor.json?start_time=0")
    assert len(first["tickets"]) == 2
    empty = json_of(ask, first["after_url"])
    assert (empty["tickets"], empty["end_of_stream"]) == ([], False)
    assert [row["id"] for row in json_of(ask, empty["after_url"])["tickets"]] == [6]


def test_the_model_holds_back_the_last_minute(ask: Client) -> None:
    now = int(NOW)
    assert json_of(ask, f"/incremental/tickets/cursor.json?start_time={now - 60}")["tickets"] == []
    refused = ask.get(f"{V2}/incremental/tickets/cursor.json?start_time={now - 59}")
    assert (refused.status_code, refused.json()["error"]) == (400, "StartTimeTooRecent")
    assert ask.get(f"{V2}/incremental/organizations.json").status_code == 400


def test_the_model_exports_by_time_with_rows_that_come_again(ask: Client) -> None:
    seen, url, ended = [], f"{V2}/incremental/organizations.json?start_time=0", False
    while not ended:
        page = ask.get(url).json()
        seen.append([row["id"] % 100 for row in page["organizations"]])
        url, ended = page["next_page"], page["end_of_stream"]
    assert seen == [[0, 1], [1, 2], [2, 3, 4], [5]]
    assert json_of(ask, "/help_center/incremental/articles?start_time=0")["count"] == 2
    last = json_of(ask, f"/help_center/incremental/articles?start_time={int(NOW - 3 * DAY)}")
    assert (len(last["articles"]), last["next_page"], "end_of_stream" in last) == (1, None, False)


def test_the_model_limits_exports_more_than_the_rest() -> None:
    now = [NOW]
    with Zendesk(clock=lambda: now[0]) as api, Client(api.url, api.auth) as ask:
        path = f"{V2}/incremental/users/cursor.json?start_time=0"
        assert [ask.get(path).status_code for _ in range(11)] == [200] * 10 + [429]
        refused = ask.get(path)
        assert refused.headers["retry-after"] == "60"
        told = ask.get(f"{V2}/tags?page[size]=100").headers
        assert [told["x-rate-limit-remaining"], told["ratelimit-remaining"]] == ["687", "687"]
        now[0] += 60
        assert ask.get(path).status_code == 200


def test_the_model_refuses_what_the_plan_has_not(api: Zendesk, ask: Client) -> None:
    api.off.add("channels/voice/phone_numbers")
    assert ask.get(f"{V2}/channels/voice/phone_numbers.json").status_code == 403
    assert ask.get(f"{V2}/nothing.json").status_code == 404


# --- zendesk.yaml -----------------------------------------------------------------------------------------------------


@pytest.fixture
def world(clock: Clock) -> Iterator[Zendesk]:
    """The model, on the clock of the runs, with small pages and the real limits."""
    with Zendesk(clock.now, export=2) as server:
        yield server


def test_a_page_without_rows_is_not_the_end_until_zendesk_says_so(world: Zendesk, clock: Clock, tmp_path: Path) -> None:
    world.rows["tickets"][2]["_hidden"] = True  # now a whole page of the export is
    ended = archived(tmp_path, world, clock, "tickets")
    assert [row["id"] for row in ended.records()] == [1, 2, 6, 7]
    evidence = ended.claim("tickets")["evidence"]
    assert [ended.error, evidence["pages"], evidence["reason"]] == [None, 4, "flag"]


def test_the_next_export_begins_at_the_last_ticket_and_takes_what_was_held_back(
    world: Zendesk, clock: Clock, tmp_path: Path
) -> None:
    first = archived(tmp_path, world, clock, "tickets")
    assert 8 not in [row["id"] for row in first.records()]
    clock.wait(60)
    world.forget()
    second = archived(tmp_path, world, clock, "tickets", state=first.states[-1])
    assert world.asked[0].params == {"start_time": str(int(NOW - DAY))}
    assert [row["id"] for row in second.records()] == [7, 8]


def test_a_start_within_the_last_minute_has_nothing_to_read_yet(world: Zendesk, clock: Clock, tmp_path: Path) -> None:
    ended = archived(tmp_path, world, clock, "tickets", "organizations", start_date=iso(NOW - 30))
    assert [ended.error, ended.records()] == [None, []]
    assert "replication_key_value" not in str(ended.states[-1]["bookmarks"])


def test_rows_that_come_again_across_pages_by_time_are_no_loop_and_none_is_missed(
    world: Zendesk, clock: Clock, tmp_path: Path
) -> None:
    ended = archived(tmp_path, world, clock, "organizations")
    assert ended.error is None
    assert {row["id"] % 100 for row in ended.records()} == {0, 1, 2, 3, 4, 5}
    evidence = ended.claim("organizations")["evidence"]
    assert evidence["unique_keys"] == 6 < evidence["records"]


@pytest.mark.case("R003-9")
def test_exports_keep_to_their_own_limit_without_being_refused(world: Zendesk, clock: Clock, tmp_path: Path) -> None:
    ended = archived(tmp_path, world, clock, "tickets", "users", "organizations", "ticket_events")
    assert [ended.error, ended.engine.summary.retries] == [None, 0]
    assert len(world.asked) > 10
    assert sum(clock.waits) >= 60


def test_a_limit_that_others_use_up_is_waited_out(world: Zendesk, clock: Clock, tmp_path: Path) -> None:
    for _ in range(9):
        world.exports.take()
    ended = archived(tmp_path, world, clock, "tickets")
    assert [ended.error, len(ended.records())] == [None, 6]  # the last one is shown by now
    assert 55 <= sum(clock.waits) <= 130


def test_comments_are_read_again_of_tickets_that_have_changed_alone(
    world: Zendesk, clock: Clock, tmp_path: Path
) -> None:
    first = archived(tmp_path, world, clock, "ticket_comments")
    assert {row["ticket_id"] for row in first.records()} == {1, 2, 3, 6, 7}
    clock.wait(DAY)
    world.rows["tickets"][1]["generated_timestamp"] = int(clock.now()) - 3600
    world.forget()
    second = archived(tmp_path, world, clock, "ticket_comments", state=first.states[-1])
    assert second.error is None
    asked = [path for path in world.paths() if path.endswith("comments.json")]
    assert sorted(asked) == [f"/api/v2/tickets/{number}/comments.json" for number in (2, 7, 8)]


def test_what_the_plan_has_not_fails_alone(world: Zendesk, clock: Clock, tmp_path: Path) -> None:
    world.off.add("channels/voice/phone_numbers")
    ended = archived(tmp_path, world, clock, "phone_numbers", "groups", "ticket_forms")
    assert isinstance(ended.error, RunIncomplete)
    assert [len(ended.records(name)) for name in ("phone_numbers", "groups", "ticket_forms")] == [0, 2, 2]


@pytest.mark.case("R003-6")
def test_lists_by_cursor_end_where_meta_says_so(world: Zendesk, clock: Clock, tmp_path: Path) -> None:
    ended = archived(tmp_path, world, clock, "ticket_fields", page_size=2)  # 4 rows: the last page is a full one
    assert [ended.error, len(ended.records()), len(world.asked)] == [None, 4, 2]
    assert ended.claim("ticket_fields")["evidence"]["reason"] == "flag"
