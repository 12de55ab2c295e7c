"""Zendesk Support and Help Center as developer.zendesk.com describes them: a small help desk.

Enforced: API token or OAuth token; cursor pages of 100 at most with `meta.has_more`, older lists with `next_page`;
incremental exports by cursor and by time, whose `end_of_stream` alone is the end; the last minute held back and a
`start_time` in it refused; rows again where a page ends within a second; 700 requests a minute, 10 for the exports, 429
with `Retry-After`; 403 for what the plan has not.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, ClassVar

from tests.apis.model import NOW, Answer, Asked, Model, Refused, Window, iso, seconds_of

EMAIL, API_TOKEN, OAUTH = (
    "agent@example.com",
    "6wiIBWbGkBMo1mRDMuVwkw1EPsNkeUj95PIz2akv",
    "gErypPlm4dOVgGRvA1ZzMH5MQ3nLo8bo",
)
BASIC = "Basic " + base64.b64encode(f"{EMAIL}/token:{API_TOKEN}".encode()).decode()
HOME = "https://octo.zendesk.com/api/v2"
DAY = 86400

Row = dict[str, Any]

CURSOR_LISTS = {
    "ticket_fields": "ticket_fields",
    "groups": "groups",
    "group_memberships": "group_memberships",
    "macros": "macros",
    "automations": "automations",
    "brands": "brands",
    "tags": "tags",
    "satisfaction_ratings": "satisfaction_ratings",
    "help_center/sections": "sections",
    "help_center/categories": "categories",
}
"""Lists with `page[size]` and `page[after]`, by path, with the member that holds the rows."""

OLD_LISTS = {
    "ticket_forms": "ticket_forms",
    "slas/policies": "sla_policies",
    "channels/voice/phone_numbers": "phone_numbers",
}
"""Lists with `per_page` and `next_page`."""

EXPORTS = {
    "incremental/tickets/cursor": ("tickets", "generated_timestamp"),
    "incremental/users/cursor": ("users", "updated_at"),
}
TIMED = {
    "incremental/organizations": ("organizations", "updated_at"),
    "incremental/ticket_events": ("ticket_events", "timestamp"),
    "incremental/ticket_metric_events": ("ticket_metric_events", "time"),
    "help_center/incremental/articles": ("articles", "updated_at"),
}
"""Exports by cursor and by time: the member that holds the rows, and the field they are sorted by."""


class Zendesk(Model):
    """The server.

    Attributes:
        cap: Rows that a page of a list has at most, whatever is asked for,
        export: and one of an export; really 1,000.
        minute: The limit of the plan,
        exports: of the exports.
        off: Paths that the plan does not have.
        rows: By the member that holds them. A row with `_hidden` takes its place in an export but is not shown.
        inside: Comments and audits by their path.
    """

    name = "zendesk"
    settings: ClassVar = {"email": EMAIL, "api_token": API_TOKEN}
    auth: ClassVar = {"Authorization": BASIC}

    def __init__(
        self, clock: Callable[[], float] = lambda: NOW, *, cap: int = 100, export: int = 1000, limit: int = 10
    ) -> None:
        super().__init__(clock)
        self.cap, self.export = cap, export
        self.minute, self.exports = Window(700, 60, clock), Window(limit, 60, clock)
        self.off: set[str] = set()
        self.rows: dict[str, list[Row]] = {}
        self.inside: dict[str, list[Row]] = {}
        world(self)

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") not in (BASIC, f"Bearer {OAUTH}"):
            raise Refused(401, {"error": "Couldn't authenticate you"})
        path = asked.path.removeprefix("/api/v2/").removesuffix(".json")
        whose = self.exports if "incremental" in path else self.minute
        said = "incremental export API requests" if whose is self.exports else "API requests"
        granted = self.minute.take() and (whose is self.minute or whose.take())
        told = {"ratelimit-limit": self.minute.limit, "ratelimit-remaining": self.minute.left}
        told |= {"ratelimit-reset": int(self.minute.reset - self.clock())}
        told |= {"X-Rate-Limit": self.minute.limit, "X-Rate-Limit-Remaining": self.minute.left}
        headers = {name: str(value) for name, value in told.items()}
        if not granted:
            problem = {"error": "APIRateLimitExceeded", "description": f"Number of allowed {said} per minute exceeded"}
            raise Refused(429, problem, {"Retry-After": str(int(whose.reset - self.clock())), **headers})
        if path in self.off:
            raise Refused(403, {"error": {"title": "Forbidden", "message": "You do not have access to this page."}})
        return Answer(self._answer(asked, path), 200, headers)

    def _answer(self, asked: Asked, path: str) -> Row:
        if path == "users/me":
            return {"user": self.rows["users"][0]}
        if path in CURSOR_LISTS:
            return self._by_cursor(asked, CURSOR_LISTS[path], self.rows[CURSOR_LISTS[path]])
        if path in self.inside:
            return self._by_cursor(asked, path.rpartition("/")[2], self.inside[path])
        if path in OLD_LISTS:
            return self._by_number(asked, OLD_LISTS[path], self.rows[OLD_LISTS[path]])
        if path in EXPORTS:
            return self._exported(asked, *EXPORTS[path])
        if path in TIMED:
            return self._timed(asked, *TIMED[path])
        raise Refused(404, {"error": "RecordNotFound", "description": "Not found"})

    def _by_cursor(self, asked: Asked, member: str, rows: list[Row]) -> Row:
        if "page[size]" not in asked.params:
            return self._by_number(asked, member, rows)
        size, after = asked.number("page[size]", 100), asked.params.get("page[after]")
        if not 1 <= size <= 100:
            raise Refused(400, {"errors": [{"code": "InvalidPaginationParameter", "title": "page[size] is invalid"}]})
        at = 0 if after is None else int(_unpacked(after)[0])
        size = min(size, self.cap)
        more, on = at + size < len(rows), _packed(at + size)
        return {
            member: rows[at : at + size],
            "meta": {"has_more": more, "after_cursor": on if more else None, "before_cursor": _packed(at)},
            "links": {"prev": None, "next": asked.url(self.url, **{"page[after]": on}) if more else None},
        }

    def _by_number(self, asked: Asked, member: str, rows: list[Row]) -> Row:
        size, page = min(asked.number("per_page", 100), 100, self.cap), asked.number("page", 1)
        if size * page > 10_000:
            raise Refused(400, {"error": "invalid", "description": "Use cursor pagination to go beyond 100 pages"})
        following = asked.url(self.url, page=page + 1) if page * size < len(rows) else None
        before = asked.url(self.url, page=page - 1) if page > 1 else None
        part = rows[(page - 1) * size : page * size]
        return {member: part, "next_page": following, "previous_page": before, "count": len(rows)}

    def _since(self, asked: Asked) -> int:
        text = asked.params.get("start_time", "")
        if not text.isdecimal():
            raise Refused(400, {"error": "InvalidValue", "description": "start_time must be a Unix epoch time"})
        if int(text) > self.clock() - 60:
            problem = "Too recent start_time. Use a start_time older than 60 seconds"
            raise Refused(400, {"error": "StartTimeTooRecent", "description": problem})
        return int(text)

    def _ready(self, member: str, field: str) -> list[tuple[int, int, Row]]:
        """What an export may show so far, in its order: all but the last minute."""
        keyed = [(_epoch(row[field]), int(row["id"]), row) for row in self.rows[member]]
        return sorted((one for one in keyed if one[0] <= self.clock() - 60), key=lambda one: one[:2])

    def _exported(self, asked: Asked, member: str, field: str) -> Row:
        if (cursor := asked.params.get("cursor")) is not None:
            since, number = map(int, _unpacked(cursor))
        else:
            since, number = self._since(asked) - 1, 1 << 63
        ready = [one for one in self._ready(member, field) if one[:2] > (since, number)]
        size = min(asked.number("per_page", 1000), self.export)
        page = ready[:size]
        after = _packed(*page[-1][:2]) if page else cursor
        shown = [row for _, _, row in page if "_hidden" not in row]
        beside = {"metric_sets": [metric_set(row) for row in shown]} if asked.params.get("include") else {}
        return {
            member: shown,
            **beside,
            "after_url": None if after is None else asked.url(self.url, cursor=after, start_time=None),
            "after_cursor": after,
            "before_url": None,
            "before_cursor": None,
            "end_of_stream": len(ready) <= size,
        }

    def _timed(self, asked: Asked, member: str, field: str) -> Row:
        since = self._since(asked)
        ready = [one for one in self._ready(member, field) if one[0] >= since]
        page = ready[: self.export]
        if page and len(ready) > self.export and page[-1][0] == since:  # more in one second than a page holds
            page = [one for one in ready if one[0] == since]
        end = page[-1][0] if page else None
        ended = len(page) == len(ready)
        if not ended and end == since:
            end = since + 1
        following = None if end is None else asked.url(self.url, start_time=end)
        if member == "articles":  # the Help Center knows no flag: a page without a next one is the last
            shown = {"count": len(page), "end_time": end, "next_page": None if ended else following, "page_count": 1}
        else:
            shown = {"count": len(page), "end_of_stream": ended, "end_time": end, "next_page": following}
        return {member: [row for _, _, row in page if "_hidden" not in row], **shown}


def _epoch(value: str | int) -> int:
    return value if isinstance(value, int) else int(seconds_of(value))


def _packed(*numbers: int) -> str:
    return base64.b64encode("||".join(map(str, numbers)).encode()).decode()


def _unpacked(cursor: str) -> list[str]:
    try:
        return base64.b64decode(cursor, validate=True).decode().split("||")
    except ValueError:
        raise Refused(400, {"error": "InvalidValue", "description": "Invalid cursor"}) from None


# --- the world --------------------------------------------------------------------------------------------------------


def world(api: Zendesk) -> None:
    """Fills the server. The last ticket changed a moment ago: no export may show it yet."""
    rows = api.rows
    rows["users"] = [user(number, ago) for number, ago in enumerate((300, 40, 40, 2))]
    rows["organizations"] = [organization(number, ago) for number, ago in enumerate((200, 90, 30, 30, 30, 1))]
    rows["tickets"] = [ticket(number, ago) for number, ago in enumerate((100, 60, 50, 49, 48, 3, 1), 1)]
    rows["tickets"][3]["_hidden"] = rows["tickets"][4]["_hidden"] = True
    rows["tickets"].append({**ticket(8, 0), "generated_timestamp": int(NOW) - 20})
    rows["ticket_events"] = [ticket_event(number, ago) for number, ago in enumerate((60, 50, 50, 3), 1)]
    rows["ticket_metric_events"] = [metric_event(number, ago) for number, ago in enumerate((60, 50, 50, 1), 1)]
    for row in rows["tickets"]:
        if "_hidden" not in row:
            api.inside[f"tickets/{row['id']}/comments"] = [comment(row, number) for number in range(row["id"] % 3 + 1)]
            api.inside[f"tickets/{row['id']}/audits"] = [audit(row, number) for number in range(row["id"] % 2 + 1)]
    rows["satisfaction_ratings"] = [rating(number, ago) for number, ago in enumerate((70, 9, 1), 1)]
    rows["groups"] = [
        named("groups", number, f"Group {number}", deleted=False, default=number == 1) for number in (1, 2)
    ]
    rows["group_memberships"] = [
        {**named("group_memberships", number, ""), "user_id": rows["users"][0]["id"], "default": True}
        for number in (1, 2)
    ]
    rows["macros"] = [
        named(
            "macros", number, "", title=f"Close {number}", active=True, actions=[{"field": "status", "value": "solved"}]
        )
        for number in (1, 2, 3)
    ]
    rows["automations"] = [named("automations", 1, "", title="Close", conditions={"all": [], "any": []}, position=9999)]
    rows["brands"] = [named("brands", 1, "Octo", subdomain="octo", default=True, host_mapping=None)]
    rows["tags"] = [{"name": name, "count": count} for name, count in (("urgent", 12), ("größe", 3), ("vip", 1))]
    rows["ticket_fields"] = [
        named("ticket_fields", number, "", type="text", title=f"Field {number}", regexp_for_validation=None)
        for number in (1, 2, 3, 4)
    ]
    rows["ticket_forms"] = [named("ticket_forms", number, f"Form {number}", end_user_visible=True) for number in (1, 2)]
    rows["sla_policies"] = [named("slas/policies", 1, "", title="Incidents", policy_metrics=[{"target": 180}])]
    rows["phone_numbers"] = [named("channels/voice/phone_numbers", 1, "", number="+14155550123", toll_free=False)]
    rows["articles"] = [article(number, ago) for number, ago in enumerate((90, 20, 20, 2), 1)]
    rows["sections"] = [named("help_center/sections", number, "FAQ", locale="en-us", position=0) for number in (1, 2)]
    rows["categories"] = [named("help_center/categories", 1, "General", locale="en-us", description="")]


def ago_text(days: float, plus: int = 0) -> str:
    return iso(NOW - days * DAY + plus)


def named(path: str, index: int, name: str, **fields: Any) -> Row:
    row = {"id": 26_324_330_971_000 + index, "url": f"{HOME}/{path}/{26_324_330_971_000 + index}.json"}
    times = {"created_at": "2026-06-01T09:00:00Z", "updated_at": ago_text(index)}
    return {**row, **({"name": name} if name else {}), **fields, **times}


def user(number: int, ago: float) -> Row:
    row = named("users", number, "Mona Größe" if number else "Agent", email=f"user{number}@example.com", phone=None)
    role: Row = {
        "role": "end-user" if number else "agent",
        "active": True,
        "suspended": False,
        "photo": None,
        "tags": [],
    }
    return {**row, **role, "user_fields": {"plan": None}, "updated_at": ago_text(ago), "last_login_at": None}


def organization(number: int, ago: float) -> Row:
    row = named("organizations", number, f"Org {number}", domain_names=["example.com"], details=None, group_id=None)
    return {**row, "organization_fields": {"score": 1.5}, "tags": [], "updated_at": ago_text(ago)}


def ticket(number: int, ago: float) -> Row:
    return {
        "url": f"{HOME}/tickets/{number}.json",
        "id": number,
        "external_id": None,
        "via": {"channel": "email", "source": {"from": {"address": "a@example.com"}, "to": {}, "rel": None}},
        "created_at": ago_text(ago + 10),
        "updated_at": ago_text(ago, -3600),
        "generated_timestamp": int(NOW - ago * DAY),
        "type": "incident",
        "subject": "Help, my printer is on fire!",
        "raw_subject": "{{dc.printer_on_fire}}",
        "description": "The fire is very colorful.",
        "priority": "high" if number % 2 else None,
        "status": "open",
        "recipient": None,
        "requester_id": 26_324_330_971_001,
        "assignee_id": None,
        "organization_id": None,
        "collaborator_ids": [],
        "has_incidents": False,
        "due_at": None,
        "tags": ["enterprise", "größe"],
        "custom_fields": [{"id": 27_642, "value": "745"}, {"id": 27_648, "value": None}],
        "satisfaction_rating": {"score": "unoffered"},
        "sharing_agreement_ids": [],
    }


def ticket_event(number: int, ago: float) -> Row:
    return {
        "id": 9_007_199_254_740_992 + number,
        "ticket_id": number,
        "timestamp": int(NOW - ago * DAY),
        "created_at": ago_text(ago),
        "updater_id": 26_324_330_971_001,
        "via": "Email",
        "system": {"client": None, "location": "Kyiv", "latitude": 50.45, "longitude": 30.52350},
        "event_type": "Audit",
        "child_events": [{"id": 200 + number, "via": "Email", "status": "open", "event_type": "Change"}],
    }


def metric_event(number: int, ago: float) -> Row:
    row = {"id": 926_232_757_000 + number, "ticket_id": number, "metric": "reply_time", "instance_id": 1}
    return {**row, "type": "measure" if number % 2 else "breach", "time": ago_text(ago), "deleted": None}


def metric_set(of: Row) -> Row:
    row = named("ticket_metrics", of["id"], "", ticket_id=of["id"], reopens=0, replies=1, solved_at=None)
    return {**row, "reply_time_in_minutes": {"calendar": 2391, "business": 737}, "updated_at": of["updated_at"]}


def comment(of: Row, number: int) -> Row:
    shown = {"id": of["id"] * 100 + number, "type": "Comment", "author_id": 26_324_330_971_001, "public": True}
    return {**shown, "body": "Thanks\r\n", "attachments": [], "created_at": ago_text(30 - number), "audit_id": 1}


def audit(of: Row, number: int) -> Row:
    row = {"id": of["id"] * 1000 + number, "ticket_id": of["id"], "created_at": ago_text(30 - number), "author_id": -1}
    event = {"id": number, "type": "Change", "field_name": "status", "value": "open", "previous_value": None}
    return {**row, "metadata": {"system": {}, "custom": {}}, "events": [event]}


def rating(number: int, ago: float) -> Row:
    row = named("satisfaction_ratings", number, "", ticket_id=number, score="good", comment=None, assignee_id=None)
    return {**row, "created_at": ago_text(ago), "updated_at": ago_text(ago)}


def article(number: int, ago: float) -> Row:
    row = named("help_center/articles", number, "", title=f"Question {number}", locale="en-us", source_locale="en-us")
    shown = {"body": "<p>Größe</p>", "author_id": -1, "section_id": 26_324_330_971_001, "user_segment_id": None}
    counts = {"vote_sum": 2, "vote_count": 4, "draft": False, "promoted": False, "position": 0, "outdated": False}
    times = {"edited_at": ago_text(ago), "updated_at": ago_text(ago)}
    return {**row, **shown, **counts, "label_names": ["faq"], "content_tag_ids": [], **times}
