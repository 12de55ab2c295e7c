"""Stripe: the model server is as the vendor says, and `stripe.yaml` archives it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.apis.model import NOW, Client
from tests.apis.packaged import Clock, archived
from tests.apis.stripe import DAY, Stripe, balance, customer, key


@pytest.fixture
def api() -> Iterator[Stripe]:
    with Stripe() as server:
        yield server


def error(ask: Client, path: str) -> tuple[int, str | None]:
    answer = ask.get(path)
    return answer.status_code, answer.json()["error"].get("code")


def data(ask: Client, path: str) -> list[dict[str, Any]]:
    answer = ask.get(path)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def test_the_model_refuses_a_wrong_key_version_and_parameter(ask: Client) -> None:
    assert ask.get("/v1/account", {"Authorization": ""}).status_code == 401
    assert ask.get("/v1/account", {"Authorization": "Bearer sk_test_other"}).status_code == 401
    assert ask.get("/v1/account", {"Stripe-Version": "2011-01-01"}).status_code == 400
    assert ask.get("/v1/charges", {"Stripe-Version": "2022-08-01"}).headers["stripe-version"] == "2022-08-01"
    assert error(ask, "/v1/charges?page=2") == (400, "parameter_unknown")
    assert error(ask, "/v1/charges?limit=101") == (400, "parameter_invalid_integer")
    assert error(ask, "/v1/charges?created[gte]=2027-01-01") == (400, "parameter_invalid_integer")
    assert error(ask, "/v1/charges?starting_after=ch_nothing") == (400, "resource_missing")
    assert error(ask, "/v1/subscription_items") == (400, "parameter_missing")
    assert error(ask, "/v1/invoices/in_nothing/lines") == (404, "resource_missing")
    assert error(ask, "/v1/nothing")[0] == 404


def test_the_model_pages_newest_first_after_an_id(api: Stripe, ask: Client) -> None:
    api.add("balance_transactions", *(balance(100 + number, 0, "ch_x", 5) for number in range(120)))
    ids = [row["id"] for row in api.lists["balance_transactions"]][::-1]
    assert [row["id"] for row in data(ask, "/v1/balance_transactions")] == ids[:10]
    whole = ask.get("/v1/balance_transactions?limit=100").json()
    assert ([row["id"] for row in whole["data"]], whole["has_more"]) == (ids[:100], True)
    rest = ask.get(f"/v1/balance_transactions?limit=100&starting_after={ids[99]}").json()
    assert ([row["id"] for row in rest["data"]], rest["has_more"]) == (ids[100:], False)
    back = ask.get(f"/v1/balance_transactions?limit=3&ending_before={ids[9]}").json()
    assert ([row["id"] for row in back["data"]], back["has_more"]) == (ids[6:9], True)


def test_the_model_filters_by_created(ask: Client) -> None:
    times = [row["created"] for row in data(ask, "/v1/charges")]
    assert times == sorted(times, reverse=True)
    low, high = int(NOW - 11 * DAY), int(NOW - 2 * DAY)
    assert [row["created"] for row in data(ask, f"/v1/charges?created[gte]={low}&created[lt]={high}")] == times[3:5]
    assert len(data(ask, f"/v1/invoiceitems?created[gt]={int(NOW - 9 * DAY)}")) == 1


def test_the_model_shows_what_is_expanded_and_only_the_beginning_of_inner_lists(ask: Client) -> None:
    assert "tax_ids" not in data(ask, "/v1/customers")[0]
    shown = data(ask, "/v1/customers?expand[]=data.tax_ids&expand[]=data.sources")[0]
    assert (shown["tax_ids"]["object"], shown["sources"]["data"]) == ("list", [])
    assert error(ask, "/v1/customers?expand[]=data.shoes")[0] == 400
    invoices = data(ask, "/v1/invoices")
    assert [(len(row["lines"]["data"]), row["lines"]["has_more"]) for row in invoices] == [
        (1, False),
        (3, True),
        (2, False),
    ]
    assert len(data(ask, invoices[1]["lines"]["url"])) == 5


def test_the_model_leaves_out_what_is_canceled_unless_asked(ask: Client) -> None:
    assert [row["status"] for row in data(ask, "/v1/subscriptions")] == ["trialing", "active"]
    assert len(data(ask, "/v1/subscriptions?status=all")) == 3


def test_the_model_tells_changes_in_events_of_30_days_only(api: Stripe, ask: Client) -> None:
    charge = api.lists["charges"][0]["id"]
    api.change("charges", charge, "charge.refunded", refunded=True)
    latest = data(ask, "/v1/events?limit=100&type=charge.*")[0]
    assert latest["data"]["object"]["id"] == charge
    assert latest["data"]["previous_attributes"] == {"refunded": False}
    assert min(row["created"] for row in data(ask, "/v1/events?limit=100")) > NOW - 30 * DAY


def test_the_model_refuses_more_than_its_rate() -> None:
    now = [NOW]
    with Stripe(clock=lambda: now[0], limit=2) as api, Client(api.url, api.auth) as ask:
        assert [ask.get("/v1/account").status_code for _ in range(3)] == [200, 200, 429]
        refused = ask.get("/v1/account")
        assert refused.headers["stripe-rate-limited-reason"] == "global-rate"
        assert not [name for name in refused.headers if "remaining" in name.lower()]
        now[0] += 1
        assert ask.get("/v1/account").status_code == 200


# --- stripe.yaml ------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(clock: Clock) -> Iterator[Stripe]:
    """The model, on the clock of the runs."""
    with Stripe(clock.now) as server:
        yield server


def test_every_request_names_the_version(world: Stripe, clock: Clock, tmp_path: Path) -> None:
    archived(tmp_path, world, clock)
    assert {asked.headers.get("stripe-version") for asked in world.asked} == {"2022-11-15"}


@pytest.mark.case("R003-6")
def test_a_list_is_read_after_the_last_id_until_it_says_that_there_is_no_more(
    world: Stripe, clock: Clock, tmp_path: Path
) -> None:
    world.add("balance_transactions", *(balance(100 + number, 0, "ch_x", 5) for number in range(250)))
    world.cap = 51  # fewer than asked for are no sign of the end
    ended = archived(tmp_path, world, clock, "balance_transactions")
    assert [ended.error, len(ended.records()), len(world.asked)] == [None, 255, 5]
    assert ended.claim("balance_transactions")["evidence"]["unique_keys"] == 255


def test_the_next_run_asks_for_what_is_new_alone(world: Stripe, clock: Clock, tmp_path: Path) -> None:
    first = archived(tmp_path, world, clock, "customers")
    clock.wait(DAY)
    world.forget()
    world.add("customers", customer(77, -1), event="customer.created")
    second = archived(tmp_path, world, clock, "customers", state=first.states[-1])
    newest = int(NOW - 3 * DAY)
    (asked,) = world.asked
    assert asked.params["created[gte]"] == str(newest - 600)
    assert [row["id"] for row in second.records()] == [key("cus", 77), key("cus", 3)]


def test_what_has_changed_comes_as_an_event(world: Stripe, clock: Clock, tmp_path: Path) -> None:
    first = archived(tmp_path, world, clock, "charges", "events")
    clock.wait(DAY)
    old = world.lists["charges"][0]["id"]
    world.change("charges", old, "charge.refunded", refunded=True)
    second = archived(tmp_path, world, clock, "charges", "events", state=first.states[-1])
    assert old not in [row["id"] for row in second.records("charges")]
    told = second.records("events")[0]
    assert [told["type"], told["data"]["object"]["id"]] == ["charge.refunded", old]


def test_events_that_stripe_no_longer_has_are_reported_lost(
    world: Stripe, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = archived(tmp_path, world, clock, "events")
    clock.wait(20 * DAY)
    second = archived(tmp_path, world, clock, "events", state=first.states[-1])
    assert [second.error, "beyond what the API keeps" in caplog.text] == [None, False]
    clock.wait(20 * DAY)
    third = archived(tmp_path, world, clock, "events", state=second.states[-1])
    assert [third.error, "beyond what the API keeps" in caplog.text] == [None, True]


def test_rows_that_an_object_shows_only_in_part_are_read_whole(world: Stripe, clock: Clock, tmp_path: Path) -> None:
    ended = archived(tmp_path, world, clock, "invoices", "invoice_line_items")
    shown = sum(len(row["lines"]["data"]) for row in ended.records("invoices"))
    lines = ended.records("invoice_line_items")
    assert [shown, len(lines), len({line["id"] for line in lines})] == [6, 8, 8]
    assert {line["invoice"] for line in lines} == {row["id"] for row in ended.records("invoices")}
    world.forget()
    again = archived(tmp_path, world, clock, "invoice_line_items", state=ended.states[-1])
    assert len(again.records()) <= 1  # only of the newest invoice, which the bookmark includes


def test_a_payout_made_by_hand_has_no_transactions(world: Stripe, clock: Clock, tmp_path: Path) -> None:
    ended = archived(tmp_path, world, clock, "payout_transactions")
    assert [ended.error, {row["payout"] for row in ended.records()}] == [None, {key("po", 1)}]
    assert ended.states[-1]["claims"]["payout_transactions"][-1]["partitions"]["skipped"] == 1


def test_a_limit_that_says_nothing_more_is_waited_out(clock: Clock, tmp_path: Path) -> None:
    with Stripe(clock.now, limit=1) as world:
        ended = archived(tmp_path, world, clock, "charges", "plans", "products", page_size=2)
        assert [ended.error, len(ended.records())] == [None, 9]
        assert ended.engine.summary.retries > 0
