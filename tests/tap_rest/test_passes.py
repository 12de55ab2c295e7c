"""Passes over the children of changed parents: what one that was broken off, or has failed in part, must read again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.harness import NOW, FastClock, Run, json_api, run
from tests.tap_rest.hostile import response

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
