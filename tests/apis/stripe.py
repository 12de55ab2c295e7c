"""Stripe's API (2022-11-15) as docs.stripe.com describes it: an account with a little of everything.

Enforced: secret key; a known version; 10 rows a page unless asked, 100 at most; newest first, `starting_after` and
`ending_before` exclusive, `has_more`; filters by `created`; unknown parameters and unknown ids refused; what must be
expanded is absent unless asked for; lists inside of records that hold only their first rows; canceled subscriptions
left out unless `status=all`; events of 30 days; 429 without a word of how much is left.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from tests.apis.model import NOW, Answer, Asked, Model, Refused, Window, mark

KEY = "sk_test_M0delServerK3yM0delServerK3y"
VERSIONS = ("2022-08-01", "2022-11-15", "2024-06-20")
DAY = 86400

Row = dict[str, Any]

EXPANDABLE = {
    "customers": ("sources", "subscriptions", "tax_ids"),
    "charges": ("refunds", "customer"),
    "plans": ("tiers", "product"),
}
"""What stands in a record only when `expand[]=data.…` asks for it."""

FILTERS = {"subscriptions": ("status",), "events": ("type",), "balance_transactions": ("payout",)}
EMBEDDED = 3
"""Rows that a list inside of a record shows; the rest is at its `url`. Really 10."""


class Stripe(Model):
    """The server.

    Attributes:
        cap: Rows that a page has at most, whatever is asked for.
        rate: Requests a second.
        lists: All objects by the path of their list, oldest first.
        inside: The rows of lists inside of objects by their path, oldest first.
        hidden: By object id: what its expandable fields hold.
    """

    name = "stripe"
    settings: ClassVar = {"secret_key": KEY}
    auth: ClassVar = {"Authorization": f"Bearer {KEY}"}

    def __init__(self, clock: Callable[[], float] = lambda: NOW, *, cap: int = 100, limit: int = 100) -> None:
        super().__init__(clock)
        self.cap, self.rate = cap, Window(limit, 1, clock)
        self.lists: dict[str, list[Row]] = {}
        self.inside: dict[str, list[Row]] = {}
        self.hidden: dict[str, Row] = {}
        world(self)

    def add(self, kind: str, *rows: Row, event: str = "") -> None:
        """Puts objects into a list; with the name of an event, such events too, as for all that happens in Stripe."""
        for row in rows:
            self.lists.setdefault(kind, []).append(row)
            if event:
                self.happened(event, row)

    def change(self, kind: str, key: str, event: str, **fields: Any) -> None:
        """Changes an object, which only an event tells."""
        row = next(one for one in self.lists[kind] if one["id"] == key)
        before = {name: row.get(name) for name in fields}
        row.update(fields)
        self.happened(event, row, previous_attributes=before)

    def happened(self, event: str, row: Row, **more: Any) -> None:
        number = len(self.lists.setdefault("events", []))
        created = int(self.clock()) if more else row.get("created", row.get("date"))
        self.lists["events"].append(
            {
                "id": f"evt_1M{mark(event, number)}",
                "object": "event",
                "api_version": "2022-11-15",
                "created": created,
                "data": {"object": copy.deepcopy(row), **more},
                "livemode": False,
                "pending_webhooks": 0,
                "request": {"id": f"req_{mark(number)[:14]}", "idempotency_key": None},
                "type": event,
            }
        )

    def answer(self, asked: Asked) -> Answer:
        key = asked.headers.get("authorization", "")
        version = asked.headers.get("stripe-version", "2022-11-15")
        headers = {"Request-Id": f"req_{mark(len(self.asked))[:14]}", "Stripe-Version": version}
        try:
            if key != f"Bearer {KEY}":
                shown = f"Invalid API Key provided: {key[7:14]}***" if key else "You did not provide an API key."
                raise _refused(401, shown)
            if version not in VERSIONS:
                raise _refused(400, f"Invalid Stripe API version: {version}")
            if not self.rate.take():
                raise _refused(429, "Testmode request rate limit exceeded.", code="rate_limit")
            return Answer(self._answer(asked), 200, headers)
        except Refused as refused:
            refused.answer.headers.update(headers)
            if refused.answer.status == 429:
                refused.answer.headers.update({"Stripe-Rate-Limited-Reason": "global-rate"})
            raise

    def _answer(self, asked: Asked) -> Row:
        match asked.path.strip("/").split("/"):
            case ["v1", "account"]:
                return {"id": "acct_1032D82eZvKYlo2C", "object": "account", "country": "US", "email": None}
            case ["v1", "subscription_items"]:
                of = asked.params.get("subscription")
                if of is None:
                    raise _refused(400, "Missing required param: subscription.", "parameter_missing", "subscription")
                self._known("subscriptions", of, "subscription")
                return self._list(asked, self.inside[f"/v1/subscription_items?subscription={of}"], "subscription")
            case ["v1", kind] if kind in self.lists:
                return self._list(asked, self._filtered(asked, kind), "created", *FILTERS.get(kind, ()), kind=kind)
            case ["v1", kind, key, _] if kind in self.lists:
                self._known(kind, key, "id")
                if asked.path in self.inside:
                    return self._list(asked, self.inside[asked.path])
        raise _refused(404, f"Unrecognized request URL (GET: {asked.path}).")

    def _filtered(self, asked: Asked, kind: str) -> list[Row]:
        rows = self.lists[kind]
        if kind == "events":
            rows = [row for row in rows if row["created"] > self.clock() - 30 * DAY]
            rows = [row for row in rows if fnmatchcase(row["type"], asked.params.get("type", "*"))]
        if kind == "subscriptions":
            status = asked.params.get("status", "")
            rows = [row for row in rows if status in ("all", row["status"]) or (not status and not row["canceled_at"])]
        if kind == "balance_transactions" and (payout := asked.params.get("payout")) is not None:
            if not next(row["automatic"] for row in self.lists["payouts"] if row["id"] == payout):
                raise _refused(400, "Balance transactions can only be filtered on automatic payouts, not manual.")
            rows = self.inside[f"/v1/balance_transactions?payout={payout}"]
        tests = {"gte": int.__ge__, "gt": int.__gt__, "lte": int.__le__, "lt": int.__lt__}
        for name, test in tests.items():
            if (text := asked.params.get(f"created[{name}]")) is not None:
                if not text.isdecimal():
                    raise _refused(400, f"Invalid integer: {text}", "parameter_invalid_integer", f"created[{name}]")
                rows = [row for row in rows if test(int(row.get("created") or row["date"]), int(text))]
        return rows

    def _list(self, asked: Asked, rows: list[Row], *allowed: str, kind: str = "") -> Row:
        for param in asked.params:
            if re.sub(r"\[.*", "", param) not in ("limit", "starting_after", "ending_before", "expand", *allowed):
                raise _refused(400, f"Received unknown parameter: {param}", "parameter_unknown", param)
        limit = asked.number("limit", 10)
        if not 1 <= limit <= 100:
            raise _refused(400, "This value must be between 1 and 100.", "parameter_invalid_integer", "limit")
        expanded = [text.removeprefix("data.") for text in asked.all.get("expand[]", [])]
        for field in expanded:
            if field not in EXPANDABLE.get(kind, ()):
                raise _refused(400, f"This property cannot be expanded ({field}).", None, "expand[]")
        newest, size = rows[::-1], min(limit, self.cap)
        if (after := asked.params.get("starting_after")) is not None:
            newest = newest[self._place(kind, rows, after, "starting_after") :]
            page, more = newest[:size], len(newest) > size
        elif (before := asked.params.get("ending_before")) is not None:
            newest = newest[: self._place(kind, rows, before, "ending_before") - 1]
            page, more = newest[-size:], len(newest) > size
        else:
            page, more = newest[:size], len(newest) > size
        data = [self._shown(row, expanded) for row in page]
        return {"object": "list", "data": data, "has_more": more, "url": asked.path}

    def _place(self, kind: str, rows: list[Row], key: str, param: str) -> int:
        """How many of the rows, newest first, come before what follows an object, which need not be among them."""
        whole = self.lists.get(kind, rows)
        at = next((index for index, row in enumerate(whole) if row["id"] == key), None)
        if at is None:
            raise _refused(400, f"No such object: '{key}'", "resource_missing", param)
        newer = {row["id"] for row in whole[at:]}
        return sum(row["id"] in newer for row in rows)

    def _known(self, kind: str, key: str, param: str) -> None:
        if not any(row["id"] == key for row in self.lists[kind]):
            raise _refused(404, f"No such {kind[:-1]}: '{key}'", "resource_missing", param)

    def _shown(self, row: Row, expanded: list[str]) -> Row:
        shown = {**row, **{name: self.hidden.get(row["id"], {}).get(name) for name in expanded}}
        for name, value in row.items():
            if isinstance(value, dict) and value.get("object") == "list":
                inside = self.inside[value["url"]][::-1]
                shown[name] = {**value, "data": inside[:EMBEDDED], "has_more": len(inside) > EMBEDDED}
        return shown


def _refused(status: int, message: str, code: str | None = None, param: str | None = None) -> Refused:
    error = {"code": code, "message": message, "param": param, "type": "invalid_request_error"}
    return Refused(status, {"error": {name: value for name, value in error.items() if value is not None}})


# --- the world --------------------------------------------------------------------------------------------------------


def world(api: Stripe) -> None:
    """Fills the server, oldest first; most of it is younger than 30 days, as events are not kept for longer."""
    customers = [customer(number, ago) for number, ago in enumerate((400, 40, 12, 3))]
    ada, old, eve, new = customers
    api.add("customers", *customers, event="customer.created")
    for row in customers:
        api.hidden[row["id"]] = {
            "sources": listed([], f"/v1/customers/{row['id']}/sources"),
            "subscriptions": listed([], f"/v1/customers/{row['id']}/subscriptions"),
            "tax_ids": listed([], f"/v1/customers/{row['id']}/tax_ids"),
        }
    api.add("products", made("prod", 1, 401, "product", name="Gold", active=True, metadata={}), event="product.created")
    tiers = [{"flat_amount": None, "unit_amount": 700, "unit_amount_decimal": "700", "up_to": 5}]
    tiers.append({"flat_amount": None, "unit_amount": 600, "unit_amount_decimal": "600.5", "up_to": None})
    api.add("plans", plan(1, 401, amount=1200), plan(2, 20, amount=None, billing_scheme="tiered"), event="plan.created")
    api.hidden[key("plan", 2)] = {"tiers": tiers, "product": api.lists["products"][0]}
    coupon = made("25OFF", 1, 30, "coupon", percent_off=25.5, amount_off=None, duration="repeating", valid=True)
    api.add("coupons", {**coupon, "id": "25OFF"}, event="coupon.created")
    for number, (who, ago) in enumerate(((ada, 45), (ada, 11), (old, 10), (eve, 2), (new, 2), (new, 1))):
        paid = number != 3
        intent = payment_intent(number, ago, who, paid=paid)
        api.add("payment_intents", intent, event="payment_intent.created")
        one = charge(number, ago, who, intent, paid=paid)
        api.add("charges", one, event="charge.succeeded" if paid else "charge.failed")
        api.hidden[one["id"]] = {"refunds": listed([], f"/v1/charges/{one['id']}/refunds"), "customer": who}
        if paid:
            api.add("balance_transactions", balance(number, ago, one["id"], one["amount"]))
    for number, (who, ago, lines) in enumerate(((ada, 45, 2), (old, 10, 5), (new, 1, 1))):
        api.add("invoices", invoice(api, number, ago, who, lines), event="invoice.created")
    for number, ago in enumerate((31, 9, 4)):
        api.add("invoiceitems", invoice_item(number, ago, old), event="invoiceitem.created")
    for number, (who, ago, status) in enumerate(((ada, 300, "canceled"), (old, 39, "active"), (new, 3, "trialing"))):
        api.add("subscriptions", subscription(api, number, ago, who, status), event="customer.subscription.created")
    for number, ago in enumerate((38, 8)):
        row = made("po", number, ago, "payout", amount=1100, automatic=number == 1, status="paid", failure_code=None)
        api.add("payouts", row, event="payout.created")
        paid_out = api.lists["balance_transactions"][number : number + 2]
        api.inside[f"/v1/balance_transactions?payout={row['id']}"] = paid_out
    for number, (ago, reversals) in enumerate(((35, 0), (6, 4))):
        api.add("transfers", transfer(api, number, ago, reversals), event="transfer.created")
    dispute = made("dp", 1, 5, "dispute", amount=1000, charge=api.lists["charges"][1]["id"], status="warning_closed")
    api.add("disputes", {**dispute, "evidence": {"uncategorized_text": None}}, event="charge.dispute.created")
    api.lists["events"].sort(key=lambda event: int(event["created"]))


def key(prefix: str, number: int) -> str:
    return f"{prefix}_1M{mark(prefix, number)}"


def made(prefix: str, number: int, days_ago: float, kind: str, **fields: Any) -> Row:
    created = int(NOW - days_ago * DAY)
    shared = {"object": kind, "created": created, "currency": "usd", "livemode": False}
    return {"id": key(prefix, number), **shared, **fields}


def listed(rows: list[Row], url: str) -> Row:
    return {"object": "list", "data": rows, "has_more": False, "url": url}


def customer(number: int, ago: float) -> Row:
    row = made("cus", number, ago, "customer", email=f"jenny.rosen{number}@example.com", balance=0, name="Jenny Rosen")
    return {**row, "address": None, "currency": None, "invoice_settings": {"footer": None}, "metadata": {}}


def plan(number: int, ago: float, *, amount: int | None, **other: Any) -> Row:
    row = made("plan", number, ago, "plan", amount=amount, active=True, interval="month", nickname=None)
    decimal = None if amount is None else str(amount)
    return {**row, "amount_decimal": decimal, "billing_scheme": "per_unit", "product": key("prod", 1), **other}


def payment_intent(number: int, ago: float, of: Row, *, paid: bool) -> Row:
    row = made("pi", number, ago, "payment_intent", amount=1099 + number, customer=of["id"], metadata={})
    status = "succeeded" if paid else "requires_payment_method"
    return {**row, "status": status, "last_payment_error": None if paid else {"code": "card_declined"}}


def charge(number: int, ago: float, of: Row, intent: Row, *, paid: bool) -> Row:
    row = made("ch", number, ago, "charge", amount=1099 + number, amount_refunded=0, customer=of["id"], paid=paid)
    return {
        **row,
        "balance_transaction": key("txn", number) if paid else None,
        "billing_details": {"address": {"city": None, "country": None}, "email": None, "name": "Jenny Rosen"},
        "description": "Größe „M“",
        "failure_code": None if paid else "card_declined",
        "fraud_details": {},
        "invoice": None,
        "metadata": {"order_id": "6735000000000000001"},
        "outcome": {"network_status": "approved_by_network", "risk_level": "normal", "risk_score": 32, "rule": None},
        "payment_intent": intent["id"],
        "payment_method_details": {"card": {"brand": "visa", "last4": "4242", "wallet": None}, "type": "card"},
        "refunded": False,
        "status": "succeeded" if paid else "failed",
    }


def balance(number: int, ago: float, source: str, amount: int) -> Row:
    row = made("txn", number, ago, "balance_transaction", amount=amount, source=source, type="charge")
    fee = {"amount": 62, "application": None, "currency": "usd", "type": "stripe_fee"}
    return {**row, "exchange_rate": None, "fee": 62, "fee_details": [fee], "net": amount - 62, "status": "available"}


def invoice(api: Stripe, number: int, ago: float, of: Row, lines: int) -> Row:
    row = made("in", number, ago, "invoice", amount_due=1000 * lines, customer=of["id"], status="open")
    url = f"/v1/invoices/{row['id']}/lines"
    api.inside[url] = [
        {
            "id": f"il_{number}{line}{mark('il', number, line)[:8]}",
            "object": "line_item",
            "amount": 1000,
            "currency": "usd",
            "description": None,
            "period": {"start": row["created"], "end": row["created"] + 30 * DAY},
            "proration": False,
            "quantity": 1,
            "type": "invoiceitem",
        }
        for line in range(lines)
    ]
    return {
        **row,
        "number": None,
        "lines": listed([], url),
        "status_transitions": {"finalized_at": None, "paid_at": None},
    }


def invoice_item(number: int, ago: float, of: Row) -> Row:
    row = made("ii", number, ago, "invoiceitem", amount=1099, customer=of["id"], discountable=True, invoice=None)
    row["date"] = row.pop("created")
    return row


def subscription(api: Stripe, number: int, ago: float, of: Row, status: str) -> Row:
    row = made("sub", number, ago, "subscription", customer=of["id"], status=status, cancel_at=None)
    url = f"/v1/subscription_items?subscription={row['id']}"
    items = [made("si", number * 10 + item, ago, "subscription_item", quantity=1) for item in range(1 + number * 3)]
    api.inside[url] = [{**item, "subscription": row["id"], "plan": {"id": key("plan", 1)}} for item in items]
    ended = int(NOW - 200 * DAY) if status == "canceled" else None
    return {**row, "canceled_at": ended, "items": listed([], url), "discount": None, "metadata": {}}


def transfer(api: Stripe, number: int, ago: float, reversals: int) -> Row:
    row = made("tr", number, ago, "transfer", amount=400, amount_reversed=100 * reversals, destination="acct_1032D82")
    url = f"/v1/transfers/{row['id']}/reversals"
    made_back = [made("trr", number * 10 + back, ago - back, "transfer_reversal") for back in range(reversals)]
    api.inside[url] = [{**one, "amount": 100, "transfer": row["id"]} for one in made_back]
    return {**row, "reversals": listed([], url), "source_type": "card"}
