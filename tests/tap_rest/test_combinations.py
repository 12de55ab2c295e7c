"""Any features of the language together: declarations drawn from a grammar, read from one model of an API, with kills.

The model honours whatever a declaration asks for. Between runs rows are added and updated where its contract promises
to show them; each run but the last two ends after a random STATE. With COMBINATIONS so many
declarations are drawn, other ones in each run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.tap_rest.harness import NOW, FastClock, Run, params_of, run_file
from tests.tap_rest.hostile import Hostile, response

from tap_rest.errors import DeclarationError
from tap_rest.language.declaration import load
from tap_rest.language.replication import duration, time_of

EXAMPLES = int(os.environ.get("COMBINATIONS", "200"))
MOST_REQUESTS = 1_000
"""Of one run: many times what any of these declarations takes."""
MOST_ROWS = 14
PARTS = ("a", "b", "c")
START = datetime(2027, 1, 10, tzinfo=UTC)
BEGAN = datetime.fromtimestamp(NOW, UTC)
POSITIONAL = ("offset", "page_number")


@dataclass(frozen=True)
class Row:
    """A row as the API has it: a version of it, since when, and when the row itself is said to have changed."""

    id: int
    t: datetime
    since: datetime
    version: int = 1

    @property
    def part(self) -> str:
        return PARTS[self.id % len(PARTS)]

    @property
    def body(self) -> dict[str, Any]:
        return {"id": self.id, "t": said(self.t), "v": self.version}


def said(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True)
class Asked:
    """What a declaration says, and so what the API does."""

    paginator: dict[str, Any]
    replication: dict[str, Any] | None
    conditional: bool
    each: str
    concurrency: int
    rough: bool
    """Whether the first of several pages names a larger total than the others."""

    @property
    def declaration(self) -> dict[str, Any]:
        stream: dict[str, Any] = {
            "path": "/rows",
            "records": "items",
            "primary_keys": ["id"],
            "paginator": self.paginator,
            "conditional": self.conditional,
        }
        if self.replication is not None:
            stream["replication"] = self.replication
        if self.each:
            stream["for_each"] = {"items": list(PARTS), "as": "part"}
            stream["params"] = {"part": "{part}"}
        if self.each == "batch":
            stream["for_each"]["batch"] = 2
        limits = [{"quota": "100000/s", "concurrency": self.concurrency}]
        return {"limits": limits, "streams": {"rows": stream}}

    @property
    def kind(self) -> str:
        return str(self.paginator["type"])

    @property
    def order(self) -> str:
        return "none" if self.replication is None else str(self.replication["order"])

    def length(self, name: str) -> timedelta:
        return duration((self.replication or {}).get(name, "0s"))

    @property
    def step(self) -> timedelta:
        return self.length("granularity") or timedelta(minutes=1)

    @property
    def back(self) -> timedelta:
        """How late a row may come."""
        return self.length("lag") + self.length("lookback")

    @property
    def follows(self) -> bool:
        """Whether no row is missed when others move."""
        return self.kind not in POSITIONAL or bool(self.paginator.get("overlap"))


class Api:
    """Serves what it was asked for in the way that the declaration describes."""

    def __init__(self, asked: Asked, rows: Iterable[Row]) -> None:
        self.asked = asked
        self.rows = {row.id: row for row in rows}
        self.requests = 0

    def __call__(self, request: str) -> Iterable[bytes]:
        self.requests += 1
        if self.requests > MOST_REQUESTS:
            return [response(b"{}", status="400 Too Many")]
        params = params_of(request)
        body, headers = self._page(params)
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if self.asked.conditional:
            headers.append(f"ETag: {etag}")
            if f"if-none-match: {etag}" in request.lower():
                return [response(b"", status="304 Not Modified", headers=headers)]
        return [response(body, headers=headers)]

    def _found(self, params: dict[str, str]) -> list[Row]:
        asked = self.asked.replication or {}
        rows = [row for row in self.rows.values() if "part" not in params or row.part in params["part"].split(",")]
        if since := params.get("since"):
            rows = [row for row in rows if row.t > time_of(since) or (row.t == time_of(since) and asked["inclusive"])]
        if until := params.get("until"):
            rows = [
                row for row in rows if row.t < time_of(until) or (row.t == time_of(until) and "granularity" in asked)
            ]
        return sorted(rows, key=self._place, reverse=self.asked.order == "descending")

    def _place(self, row: Row) -> tuple[Any, ...]:
        return (row.id,) if self.asked.order == "none" else (row.t, row.id)

    def _page(self, params: dict[str, str]) -> tuple[bytes, list[str]]:
        paginator = self.asked.paginator
        found = self._found(params)
        total, found = len(found), found[: paginator.get("result_cap")]
        size = int(params.get("limit", 3))
        following: str | None = None
        if self.asked.kind == "offset":
            start = int(params["offset"])
            page = found[start : start + size]
        elif self.asked.kind == "page_number":
            start = (int(params["page"]) - 1) * size
            page = found[start : start + size]
        elif self.asked.kind == "single_page":
            page = found
        elif self.asked.kind == "keyset":
            if (after := params.get("after")) is not None:
                found = [row for row in found if self._is_after(row, after)]
            page = found[:size]
        else:
            if (cursor := params.get("cursor")) is not None:
                place = tuple(time_of(one) if "T" in one else int(one) for one in cursor.split("~"))
                back = self.asked.order == "descending"
                found = [row for row in found if (self._place(row) < place if back else self._place(row) > place)]
            page = found[:size]
            if len(found) > size:
                following = "~".join(
                    said(one) if isinstance(one, datetime) else str(one) for one in self._place(page[-1])
                )
        headers = []
        first = params.get("offset") == "0" or params.get("page") == "1"
        total += 2 * size * (first and total > size and self.asked.rough)
        answer: dict[str, Any] = {"items": [row.body for row in page], "total": total, "pages": -(-total // size)}
        if following is not None:
            url = f"/rows?{urlencode({**params, 'cursor': following})}"
            if self.asked.kind == "link_header":
                headers.append(f'Link: <{url}>; rel="next"')
            answer["next"] = url if self.asked.kind == "next_url" else following
        return json.dumps(answer).encode(), headers

    def _is_after(self, row: Row, after: str) -> bool:
        paginator = self.asked.paginator
        mine, other = (
            (row.t.timestamp(), time_of(after).timestamp()) if paginator["field"] == "t" else (row.id, int(after))
        )
        if mine == other:
            return bool(paginator["inclusive"])
        return (mine < other) == (self.asked.order == "descending")


# --- what is drawn ----------------------------------------------------------------------------------------------------


@st.composite
def paginators(draw: st.DrawFn, order: str) -> dict[str, Any]:
    kinds = (*POSITIONAL, *POSITIONAL, "cursor", "keyset", "link_header", "next_url", "single_page")
    kind = draw(st.sampled_from(kinds))
    size = draw(st.integers(3, 5))
    found: dict[str, Any] = {"type": kind}
    if kind in POSITIONAL:
        found |= {"page_size": size, "size_param": "limit"}
        found |= draw(
            st.sampled_from(
                ({}, {"stable": True, "total": "total"}, {"stable": True, "total": "total"}, {"total": "total"})
            )
        )
        found |= draw(st.sampled_from(({}, {"short_page_ends": True})))
        if kind == "page_number" and "total" in found and draw(st.booleans()):
            found["total_pages"] = "pages"
        if kind == "offset" and "stable" not in found:
            found |= draw(st.sampled_from(({}, {"overlap": 1}, {"overlap": 2})))
    elif kind == "cursor":
        found |= {"path": "next", "param": "cursor"}
        found |= draw(st.sampled_from(({}, {"page_size": size, "size_param": "limit"})))
    elif kind == "next_url":
        found |= {"path": "next"}
    elif kind == "keyset":
        inclusive = draw(st.booleans())
        field = {"field": "id", "unique": True} if order == "none" else {"field": "t"}
        found |= {"param": "after", "inclusive": inclusive, "page_size": size, **field}
        found |= draw(st.sampled_from(({}, {"short_page_ends": True})))
    return found


@st.composite
def replications(draw: st.DrawFn) -> dict[str, Any] | None:
    if draw(st.integers(0, 5)) == 0:
        return None
    found: dict[str, Any] = {"key": "t", "order": draw(st.sampled_from(("ascending", "descending", "none")))}
    found["inclusive"] = draw(st.booleans())
    asks = draw(st.sampled_from(("nothing", "since", "both", "both", "both")))
    if asks != "nothing":
        found["param"] = "since"
    if asks == "both":
        found["until_param"] = "until"
        found |= draw(st.sampled_from(({}, {"window": "2d"}, {"window": "12h"}, {"window": "5d"})))
        found |= draw(st.sampled_from(({}, {"granularity": "1h"})))
    if "window" in found or draw(st.booleans()):
        found["start"] = said(START)
    found |= draw(st.sampled_from(({}, {"lookback": "8h"})))
    found |= draw(st.sampled_from(({}, {"lag": "4h"})))
    if asks == "nothing":
        found["client_side"] = draw(st.booleans())
    return found


@st.composite
def declarations(draw: st.DrawFn) -> Asked:
    each = draw(st.sampled_from(("", "", "items", "batch")))
    replication = None if each == "batch" else draw(replications())
    paginator = draw(paginators("none" if replication is None else replication["order"]))
    if replication and "until_param" in replication and "start" in replication and draw(st.integers(0, 3)) == 0:
        paginator["result_cap"] = 8
    rough = "result_cap" not in paginator and draw(st.integers(0, 2)) > 0
    return Asked(paginator, replication, draw(st.booleans()), each, draw(st.sampled_from((1, 4, 4))), rough)


@dataclass(frozen=True)
class Change:
    """What happens before a run: a row is new, or `which` is updated; `late` steps before it is there."""

    which: int | None
    late: int


@dataclass(frozen=True)
class Story:
    asked: Asked
    places: list[int]
    changes: list[list[Change]]
    kills: list[int]


@st.composite
def stories(draw: st.DrawFn) -> Story:
    changes = st.lists(st.builds(Change, st.none() | st.integers(0, MOST_ROWS - 1), st.integers(0, 12)), max_size=2)
    kills = draw(st.lists(st.integers(0, 30), min_size=1, max_size=2))
    return Story(
        draw(declarations()),
        draw(st.lists(st.integers(0, 32), min_size=5, max_size=MOST_ROWS)),
        [draw(changes) for _ in range(len(kills) + 1)],
        kills,
    )


# --- the runs ---------------------------------------------------------------------------------------------------------


class Told:
    """A story as it goes on: the API, what has been written, and what is left of a killed run."""

    def __init__(self, story: Story, file: Path, api: Api) -> None:
        self.story, self.file, self.api = story, file, api
        self.now = BEGAN
        self.state: Any = None
        self.moved = False
        self.written: set[tuple[int, int]] = set()

    def change(self, changes: Iterable[Change]) -> None:
        """Changes rows, an hour or more after whatever was before."""
        asked, rows = self.story.asked, self.api.rows
        self.now += timedelta(minutes=70)
        self.moved = bool(self.state)
        for change in changes:
            row = rows.get(change.which) if change.which is not None else None
            if row is not None and not asked.follows:
                continue
            latest = self.now - timedelta(minutes=10)
            t = floored(max(latest - asked.back, latest - change.late * timedelta(hours=1)), asked.step)
            if row is None:
                late = asked.paginator.get("stable") and asked.order != "none"
                number = len(rows)
                t = max([t, *(one.t for one in rows.values())]) if late else t
                rows[number] = Row(number, t, self.now)
            elif t >= row.t:
                rows[row.id] = replace(row, t=t, since=self.now, version=row.version + 1)

    def run(self, kill: int | None = None) -> Run:
        """Runs from the last STATE, and counts as written what stands before the STATE after which it is killed."""
        self.api.requests = 0
        result = run_file(self.file, state=self.state, clock=FastClock(self.now.timestamp()))
        if result.error is not None and self.story.asked.kind in POSITIONAL and self.moved:
            self.moved = False  # rows that moved by a page bring it again: told, and read anew by the next run
            self.state = result.states[-1]
            return self.run(kill)
        assert result.error is None, result.error
        assert self.api.requests <= MOST_REQUESTS
        messages = result.messages
        places = [place for place, message in enumerate(messages) if message["type"] == "STATE"]
        last = places[-1 if kill is None else kill % len(places)]
        self.state = messages[last]["value"]
        for message in messages[:last]:
            if message["type"] == "RECORD":
                self.written.add((message["record"]["id"], message["record"]["v"]))
        self._check_claims()
        return result

    def missing(self, rows: Iterable[Row]) -> list[Row]:
        return [row for row in rows if (row.id, row.version) not in self.written]

    def _check_claims(self) -> None:
        timed = self.story.asked.replication is not None
        for claim in self.state.get("claims", {}).get("rows", ()):
            if claim["status"] != "complete":
                continue
            first, last = time_of(claim["from"] or "1970-01-01"), time_of(claim["to"])
            inside = [
                row
                for row in self.api.rows.values()
                if (first <= row.t < last if timed else True) and (row.since <= BEGAN)
            ]
            assert self.missing(inside) == [], (claim, self.missing(inside))


def floored(time: datetime, step: timedelta) -> datetime:
    return datetime.fromtimestamp(time.timestamp() // step.total_seconds() * step.total_seconds(), UTC)


@settings(
    max_examples=EXAMPLES,
    derandomize="COMBINATIONS" not in os.environ,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(story=stories())
def test_whatever_is_declared_together_no_row_is_lost_and_no_claim_untrue(tmp_path: Path, story: Story) -> None:
    asked = story.asked
    rows = [
        Row(number, BEGAN - back * timedelta(hours=4), BEGAN)
        for number, back in enumerate(back for back in story.places if story.places.count(back) <= 2)
    ]
    api = Api(asked, rows)
    with Hostile(api) as server:
        file = tmp_path / "api.yaml"
        file.write_text(yaml.safe_dump({"name": "tap-test", "base_url": server.url, **asked.declaration}))
        try:
            load(file)
        except DeclarationError:
            assume(False)
        told = Told(story, file, api)
        for kill, changes in zip(story.kills, story.changes, strict=False):
            told.run(kill)
            told.change(changes)
        told.run()
        end = floored(BEGAN - asked.length("lag"), asked.step)  # a unit that is gone on with keeps its end
        unchanged = [row for row in api.rows.values() if row.since == BEGAN and row.t < end]
        assert told.missing(unchanged) == [], "rows that were there all the time"
        told.change(story.changes[-1])
        told.now += timedelta(days=1)
        told.run()
        assert told.missing(api.rows.values()) == [], "rows that are there at the end"
        told.now += timedelta(days=1)
        told.run()
