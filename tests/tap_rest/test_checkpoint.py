"""What STATE holds: a request as its difference from the unit's first one, no secret, nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tap_rest.harness import NOW, stream_of

from tap_rest.engine.checkpoint import Step, Unit
from tap_rest.engine.evidence import Evidence, Walk
from tap_rest.engine.state import LARGEST, State
from tap_rest.errors import ConfigError
from tap_rest.language.declaration import BoundStream
from tap_rest.request import Request

BASE = Request(
    "https://api.test/v1/rows?fixed=1",
    params=(("limit", "10"), ("key", "from-the-config"), ("tag", "a"), ("tag", "b")),
    headers=(("Accept", "application/json"), ("X-Tenant", "from-the-config")),
    body='{"q":1}',
)


@pytest.fixture
def stream(tmp_path: Path) -> BoundStream:
    return stream_of(tmp_path, "primary_keys: [id], replication: {key: t}")


@pytest.mark.parametrize(
    "request_",
    [
        BASE,
        BASE.with_params(cursor="abc=&?ü"),
        BASE.with_params(limit=None, offset=20),
        BASE.with_params(tag="c"),
        BASE.with_headers({"X-Cursor": "abc"}),
        Request("https://api.test/v1/rows?page=2&x=%2F", headers=BASE.headers, body=BASE.body),
        Request("https://api.test", headers=BASE.headers),
        Request(BASE.url, params=BASE.params, headers=BASE.headers, body='{"q":2}'),
    ],
)
def test_a_step_leads_to_the_same_request_again_also_at_another_origin(request_: Request) -> None:
    step = Step.between(BASE, request_)
    assert step.after(BASE).fingerprint() == request_.fingerprint()
    assert dict(step.after(BASE).headers) == dict(request_.headers)
    assert "from-the-config" not in repr(step)
    assert "api.test" not in repr(step)
    moved = Request("http://127.0.0.1:99/v1/rows?fixed=1", params=BASE.params, headers=BASE.headers, body=BASE.body)
    assert step.after(moved).full_url == request_.full_url.replace("https://api.test", "http://127.0.0.1:99")


def saved(stream: BoundStream, cursor: str, secrets: tuple[str, ...] = ()) -> dict[str, Any]:
    state = State({}, now=NOW, secrets=secrets)
    unit = Unit(stream, NOW)
    state.proceed(unit, unit.request.with_params(cursor=cursor), Walk(stream), now=NOW)
    entry: dict[str, Any] = state.value()["bookmarks"]["rows"]
    return entry


@pytest.mark.case("X4")
@pytest.mark.parametrize("cursor", ["canary+1/2", "canary%2B1%2F2", "xx canary+1/2 yy"])
def test_a_request_that_holds_a_secret_is_not_stored(stream: BoundStream, cursor: str) -> None:
    assert "page" not in saved(stream, cursor, ("canary+1/2",))
    assert "page" in saved(stream, cursor, ("another",))


def test_a_request_that_is_too_large_is_not_stored(stream: BoundStream) -> None:
    assert "page" in saved(stream, "x" * 1000)
    assert "page" not in saved(stream, "x" * LARGEST)


def test_a_bookmark_never_moves_back(stream: BoundStream) -> None:
    given = {"bookmarks": {"rows": {"replication_key": "t", "replication_key_value": "2024-05-01T00:00:00Z"}}}
    state = State(given, now=NOW)
    for bookmark, kept in [
        ("2024-04-01T00:00:00Z", "2024-05-01T00:00:00Z"),
        ("2024-05-01T02:00:00+02:00", "2024-05-01T00:00:00Z"),
        (None, "2024-05-01T00:00:00Z"),
        ("2024-06-01T00:00:00Z", "2024-06-01T00:00:00Z"),
    ]:
        state.complete(Unit(stream, NOW), Walk(stream), bookmark)
        assert state.value()["bookmarks"]["rows"]["replication_key_value"] == kept
    assert given["bookmarks"]["rows"]["replication_key_value"] == "2024-05-01T00:00:00Z"


def test_a_unit_that_is_not_whole_claims_nothing_complete(stream: BoundStream) -> None:
    state = State({}, now=NOW)
    state.give_up(Unit(stream, NOW, start="2024-01-01"), Evidence(reason="gone"), restart=True)
    (claim,) = state.value()["claims"]["rows"]
    assert (claim["status"], claim["from"], claim["evidence"]["reason"]) == ("partial", "2024-01-01", "gone")
    assert "replication_key_value" not in state.value()["bookmarks"]["rows"]


@pytest.mark.case("C31")
@pytest.mark.parametrize("given", [[], "x", 3])
def test_a_state_that_is_no_object_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="not an object"):
        State(given, now=NOW)


def test_the_state_value_is_json(stream: BoundStream) -> None:
    assert json.loads(json.dumps(saved(stream, "é")))["page"]["step"]["params"] == [["cursor", "é"]]
