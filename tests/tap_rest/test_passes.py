"""Passes over the children of changed parents: what one that was broken off, or has failed in part, must read again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.harness import NOW, FastClock, Run, json_api, run
from tests.tap_rest.hostile import response
from tests.tap_rest.rows import by_time, windowed

from tap_rest.engine import state
from tap_rest.engine.engine import RunIncomplete
from tap_rest.errors import Postponed

PULLS = """
streams:
  pulls: {path: /pulls, records: $, primary_keys: [id], replication: {key: t, param: since}}
  reviews:
    for_each: {stream: pulls, as: pull, only: changed}
    path: /reviews
    params: {of: "{pull.id}"}
    records: $
    primary_keys: [id]
"""


class Pulls:
    """Pull requests, when each has changed, in seconds after NOW, and how their reviews are refused."""

    def __init__(self, **changed: float) -> None:
        self.changed, self.refused = changed, dict[str, bytes]()

    def __call__(self, path: str, params: dict[str, str]) -> Any:
        if path == "/reviews":
            return self.refused.get(params["of"]) or [{"id": one} for one in params["of"].split(",")]
        rows = [{"id": id_, "t": datetime.fromtimestamp(NOW + at, UTC).isoformat()} for id_, at in self.changed.items()]
        return [row for row in rows if row["t"] >= params.get("since", "").replace("Z", "+00:00")]


def reviewed(result: Run) -> list[str]:
    return [record["id"] for record in result.records("reviews")]


LATER = response(b"", status="429 Slow down", headers=["Retry-After: 7200"])
REFUSED = response(b"{}", status="400 Bad Request")


@pytest.mark.case("trap:1.h")
def test_a_clock_that_is_ahead_hides_no_change_from_a_pass_that_goes_on(tmp_path: Path) -> None:
    pulls = Pulls(a=-900, b=-800, c=-700)
    pulls.refused["c"] = LATER
    with json_api(pulls) as server:
        first = run(tmp_path, server, PULLS, clock=FastClock(NOW + 50))
        assert isinstance(first.error, Postponed)
        assert reviewed(first) == ["a", "b"]
        pulls.changed, pulls.refused = {"a": 20, "b": -800, "c": 40}, {}
        second = run(tmp_path, server, PULLS, clock=FastClock(NOW + 100), state=first.states[-1])
        assert reviewed(second) == ["c"]
        third = run(tmp_path, server, PULLS, clock=FastClock(NOW + 200), state=second.states[-1])
    assert "a" in reviewed(third)


@pytest.mark.case("trap:1.h")
def test_what_the_run_has_read_of_parents_moves_no_mark_beyond_the_begin_of_a_pass(tmp_path: Path) -> None:
    """The parents' own reading ends later than the pass began that goes on after a part of their children."""
    pulls = Pulls(a=-900, b=-900)
    with json_api(pulls) as server:
        done = run(tmp_path, server, PULLS)
        pulls.refused["b"] = LATER
        first = run(tmp_path, server, PULLS, clock=FastClock(NOW + 1000), state=done.states[-1])
        assert isinstance(first.error, Postponed)
        assert reviewed(first) == ["a"]
        pulls.changed, pulls.refused = {"a": 2000, "b": 3000}, {}
        second = run(tmp_path, server, PULLS, clock=FastClock(NOW + 4000), state=first.states[-1])
        assert reviewed(second) == ["b"]
        third = run(tmp_path, server, PULLS, clock=FastClock(NOW + 5000), state=second.states[-1])
    assert "a" in reviewed(third)


@pytest.mark.case("trap:1.h")
def test_of_a_batch_that_failed_every_child_is_read_again(tmp_path: Path) -> None:
    pulls = Pulls(a=-900, b=-800, c=-700)
    pulls.refused["a,b"] = response(b"{}", status="400 Bad Request")
    batched = PULLS.replace("only: changed", "only: changed, batch: 2")
    with json_api(pulls) as server:
        first = run(tmp_path, server, batched)
        assert isinstance(first.error, RunIncomplete)
        assert reviewed(first) == ["c"]
        pulls.refused = {}
        second = run(tmp_path, server, batched, state=first.states[-1])
        assert sorted(reviewed(second)) == ["a", "b", "c"]
        third = run(tmp_path, server, batched, state=second.states[-1])
    assert reviewed(third) == ["c"]


@pytest.mark.case("trap:1.h")
def test_a_pass_begins_anew_when_its_partitions_are_named_otherwise(tmp_path: Path) -> None:
    """The children's ids were x, y and z, and are a, b and c now, which all come before the x that was reached."""

    class Named(Pulls):
        def __call__(self, path: str, params: dict[str, str]) -> Any:
            found = super().__call__(path, params)
            names = {"a": "x", "b": "y", "c": "z"}
            return found if path == "/reviews" else [{**row, "name": names[row["id"]]} for row in found]

    pulls = Named(a=-900, b=-800, c=-700)
    pulls.refused["y"] = LATER
    with json_api(pulls) as server:
        first = run(tmp_path, server, PULLS.replace("pull.id", "pull.name"))
        assert isinstance(first.error, Postponed)
        second = run(tmp_path, server, PULLS, state=first.states[-1])
    assert reviewed(second) == ["a", "b", "c"]


def test_a_pass_begins_anew_when_a_setting_names_more(tmp_path: Path) -> None:
    refused = {"d"}
    declaration = """
    settings: {which: {kind: string}}
    streams:
      rows:
        for_each: {setting: which, as: it}
        path: /rows
        params: {id: "{it}"}
        records: $
        primary_keys: [id]
    """
    with json_api(lambda _, params: LATER if params["id"] in refused else [{"id": params["id"]}]) as server:
        first = run(tmp_path, server, declaration, settings={"which": "b,d"})
        refused.clear()
        second = run(tmp_path, server, declaration, settings={"which": "a,b,d"}, state=first.states[-1])
    assert [row["id"] for row in second.records()] == ["a", "b", "d"]


@pytest.mark.case("trap:1.h")
def test_a_child_that_failed_in_the_middle_is_read_whole_by_a_later_pass(tmp_path: Path) -> None:
    """Its first page has changed since it was read, and after this pass nothing tells so any longer."""

    class Paged(Pulls):
        version, broken = 1, True

        def __call__(self, path: str, params: dict[str, str]) -> Any:
            if path != "/reviews":
                return super().__call__(path, params)
            if "cursor" not in params:
                return {"items": [{"id": "first", "v": self.version}], "next": "2"}
            return REFUSED if self.broken else {"items": [{"id": "second", "v": self.version}]}

    pulls = Paged(a=-900)
    reviews = 'params: {of: "{pull.id}"}\n    records: items\n    paginator: {type: cursor, path: next, param: cursor}'
    declaration = PULLS.replace('params: {of: "{pull.id}"}\n    records: $', reviews)
    with json_api(pulls) as server:
        first = run(tmp_path, server, declaration)
        assert isinstance(first.error, RunIncomplete)
        pulls.changed, pulls.version, pulls.broken = {"a": 500}, 2, False
        second = run(tmp_path, server, declaration, state=first.states[-1], clock=FastClock(NOW + 1000))
    assert second.records("reviews") == [{"id": "first", "v": 2}, {"id": "second", "v": 2}]


@pytest.mark.case("trap:1.h")
def test_where_more_fail_than_are_kept_the_marks_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MOST_PENDING", 1)
    pulls = Pulls(a=-900, b=-800, c=-700)
    pulls.refused = dict.fromkeys("abc", REFUSED)
    with json_api(pulls) as server:
        first = run(tmp_path, server, PULLS)
        kept = first.states[-1]["bookmarks"]["reviews"]
        assert (list(kept["pending"]), "partitions" in kept) == (["a"], False)
        pulls.refused = {}
        second = run(tmp_path, server, PULLS, state=first.states[-1])
    assert reviewed(second) == ["a", "b", "c"]
    assert "pending" not in second.states[-1]["bookmarks"]["reviews"]


def test_a_parent_whose_last_window_is_empty_moves_the_mark(tmp_path: Path) -> None:
    windows = "{key: t, param: since, until_param: until, window: 1d, start: 2027-01-10}"

    def pulls(path: str, params: dict[str, str]) -> Any:
        then = "2027-01-12T00:00:00Z"
        return [{"id": "a", "t": then}] if path == "/reviews" or params["since"] <= then < params["until"] else []

    with json_api(pulls) as server:
        result = run(tmp_path, server, PULLS.replace("{key: t, param: since}", windows))
    assert result.states[-1]["bookmarks"]["reviews"]["partitions"] == {"": "2027-01-12T00:00:00Z"}


@pytest.mark.parametrize(("how", "end"), [("lag: 2d, ", ""), ("", "2027-01-05")])
def test_a_pass_claims_no_more_time_than_was_asked_for(tmp_path: Path, how: str, end: str) -> None:
    each = 'for_each: {items: [a, b], as: it}\n        include: {it: "{it}"}'
    with json_api(by_time) as server:
        result = run(tmp_path, server, windowed(f"{how}start: 2027-01-01", more=each), end_date=end or None)
    assert result.claim("rows")["to"] == (end or "2027-01-13T08:00:00Z")
