"""Several credentials side by side: each with its own quota, and a refused one left out."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.tap_rest.harness import NOW, FastClock, Run, run
from tests.tap_rest.hostile import Hostile, response

from tap_rest.auth.auth import Auth, BearerAuth, PoolAuth
from tap_rest.errors import ConfigError, CredentialsRefused
from tap_rest.language.declaration import load

TOKENS = {"tokens": "t0ken-a, t0ken-b,t0ken-c"}


class Api:
    """Pages of one row, up to the last; notes who asks, and when on the run's clock.

    Attributes:
        answers: What is answered to a token instead, if anything: a whole response.
    """

    def __init__(self, last: int, answers: Callable[[str, int], bytes | None] = lambda *_: None) -> None:
        self.last, self.answers, self.clock = last, answers, FastClock()
        self.asked: list[tuple[str, float]] = []
        self._lock = threading.Lock()

    def __call__(self, request: str) -> list[bytes]:
        with self._lock:
            found = re.search(r"Authorization: Bearer t0ken-(\w)", request)
            token = found[1] if found else ""
            self.asked.append((token, self.clock.now()))
            if other := self.answers(token, len(self.asked)):
                return [other]
            page = re.search(r"page=(\d+)", request)
            at = int(page[1]) if page else 1
            return [response(json.dumps([{"id": at}] if at <= self.last else []).encode())]

    def count(self) -> Counter[str]:
        return Counter(token for token, _ in self.asked)


def play(folder: Path, api: Api, *, limits: str = "[]", check: str = "", **options: Any) -> Run:
    declaration = f"""
    settings: {{tokens: {{sensitive: true}}}}
    auth: {{type: pool, of: {{type: bearer, token: "{{settings.tokens}}"}}}}
    limits: {limits}
    {check}
    streams: {{rows: {{path: /rows, records: $, paginator: {{type: page_number, page_size: 1}}}}}}
    """
    with Hostile(api) as server:
        return run(folder, server, declaration, settings=TOKENS, clock=api.clock, **options)


UNAUTHORIZED = response(b"{}", status="401 Unauthorized")


@pytest.mark.case("R000-28")
def test_a_quota_counts_for_each_credential_so_that_together_they_do_the_sum(tmp_path: Path) -> None:
    api = Api(59)
    result = play(tmp_path, api, limits="[{quota: 10/min}]")
    assert [record["id"] for record in result.records()] == list(range(1, 60))
    assert api.count() == {"a": 20, "b": 20, "c": 20}
    assert 60 <= api.asked[-1][1] - NOW < 70
    for token in "abc":
        times = [at for asked, at in api.asked if asked == token]
        assert all(later - earlier >= 60 for earlier, later in zip(times, times[10:], strict=False))


@pytest.mark.case("R000-28")
def test_as_many_requests_are_sent_side_by_side_as_all_of_them_together_may_have(tmp_path: Path) -> None:
    together, seen = threading.Barrier(6, timeout=20), list[str]()

    def answer(request: str) -> list[bytes]:
        seen.extend(re.findall(r"Bearer t0ken-(\w)", request))
        together.wait()
        return [response(b"[]")]

    declaration = """
    settings: {tokens: {sensitive: true}}
    auth: {type: pool, of: {type: bearer, token: "{settings.tokens}"}}
    limits: [{quota: 1000/s, concurrency: 2}]
    streams:
      rows: {path: /rows, records: $, for_each: {items: [1, 2, 3, 4, 5, 6], as: it}, include: {it: "{it}"}}
    """
    with Hostile(answer) as server:
        result = run(tmp_path, server, declaration, settings=TOKENS)
    assert result.error is None
    assert sorted(seen) == ["a", "a", "b", "b", "c", "c"]


@pytest.mark.case("R000-28")
@pytest.mark.case("R002-8")
@pytest.mark.case("trap:2.rotator-deadlock")
def test_the_one_with_the_most_left_is_taken_and_when_all_are_spent_the_earliest_reset_is_awaited(
    tmp_path: Path,
) -> None:
    left, reset = {"a": 3, "b": 9, "c": 1}, {"a": 500, "b": 900, "c": 700}

    def answers(token: str, _: int) -> bytes | None:
        if api.clock.now() >= NOW + reset[token]:
            return None
        left[token] -= 1
        headers = (f"X-RateLimit-Remaining: {left[token]}", f"X-RateLimit-Reset: {NOW + reset[token]:.0f}")
        return response(json.dumps([{"id": len(api.asked)}]).encode(), headers=headers)

    api = Api(14, answers)
    result = play(tmp_path, api, limits="[{quota: 1000/h, headers: x-ratelimit}]")
    assert result.error is None
    order = [token for token, _ in api.asked]
    assert sorted(order[:3]) == ["a", "b", "c"]
    assert order[3:9] == ["b"] * 6
    assert min(left.values()) == 0
    assert api.count()["c"] == 1
    first_after = next(at for _, at in api.asked if at > NOW + 60)
    assert NOW + 500 <= first_after < NOW + 510


@pytest.mark.case("R000-28")
@pytest.mark.case("X4")
def test_a_revoked_one_is_left_out_with_a_warning_and_the_run_completes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = Api(20, lambda token, number: UNAUTHORIZED if token == "b" and number > 5 else None)
    with caplog.at_level(logging.DEBUG):
        result = play(tmp_path, api)
    assert result.error is None
    assert [record["id"] for record in result.records()] == list(range(1, 21))
    later = Counter(token for token, _ in api.asked[5:])
    assert later["b"] == 1
    assert abs(later["a"] - later["c"]) <= 1
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "credential 2 of 3 is left out, the others go on" in warning.getMessage()
    assert "t0ken" not in caplog.text


@pytest.mark.case("R002-8")
def test_when_all_are_refused_the_run_ends(tmp_path: Path) -> None:
    api = Api(20, lambda *_: UNAUTHORIZED)
    result = play(tmp_path, api)
    assert isinstance(result.error, CredentialsRefused)
    assert api.count() == {"a": 1, "b": 1, "c": 1}


def test_each_is_renewed_once_before_it_is_left_out(tmp_path: Path) -> None:
    """Two clients of a token server, of which one's tokens are never good."""
    seen = Counter[str]()

    def answer(request: str) -> list[bytes]:
        client = re.search(r"(?:client_id=|Bearer of-)(\w+)", request)
        assert client
        kind = "token" if request.startswith("POST") else "page"
        seen[f"{kind} {client[1]}"] += 1
        if kind == "token":
            return [response(json.dumps({"access_token": f"of-{client[1]}-{sum(seen.values())}"}).encode())]
        if client[1] == "two":
            return [UNAUTHORIZED]
        return [response(b"[]" if "page=2" in request else b'[{"id":1}]')]

    with Hostile(answer) as server:
        declaration = f"""
        settings: {{ids: {{}}, secrets: {{sensitive: true}}}}
        auth:
          type: pool
          of: {{type: oauth2, grant: client_credentials, token_url: "{server.url}/token", client_id: "{{settings.ids}}",
               client_secret: "{{settings.secrets}}"}}
        streams: {{rows: {{path: /rows, records: $, paginator: {{type: page_number, page_size: 1}}}}}}
        """
        settings = {"ids": "one,two", "secrets": "s3cret-one,s3cret-two"}
        result = run(tmp_path, server, declaration, settings=settings)
    assert result.error is None
    assert (seen["token one"], seen["token two"]) == (1, 2)
    assert (seen["page one"], seen["page two"]) == (2, 2)


def bound(folder: Path, of: str, settings: dict[str, str]) -> Auth:
    file = folder / "api.yaml"
    file.write_text(
        "{name: tap-x, base_url: 'https://x.test', settings: {ids: {}, secrets: {sensitive: true}},"
        f"streams: {{a: {{path: /, records: $}}}}, auth: {{type: pool, of: {of}}}}}"
    )
    return load(file).bind(settings).auth


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ids": "1,2,3", "secrets": "s3cret-x,s3cret-y"}, "has not as many values"),
        ({"ids": "1", "secrets": "s3cret-x,s3cret-x"}, "none of them twice"),
        ({"ids": ",", "secrets": "s3cret-x,s3cret-y"}, "has not as many values"),
        ({"ids": "1,2"}, "`secrets` has no value"),
    ],
)
@pytest.mark.case("X4")
def test_settings_that_do_not_fit_each_other_are_named_without_their_values(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        bound(tmp_path, '{type: basic, username: "{settings.ids}", password: "{settings.secrets}"}', settings)
    assert not re.search("s3cret", str(caught.value))


def test_a_secret_that_looks_like_a_substitution_is_just_a_secret(tmp_path: Path) -> None:
    auth = bound(tmp_path, '{type: bearer, token: "{settings.secrets}"}', {"secrets": "{settings.ids},{other}"})
    assert auth == PoolAuth(of=[BearerAuth(token="{settings.ids}"), BearerAuth(token="{other}")])


def test_a_pool_of_log_ins_is_refused() -> None:
    one = {
        "type": "oauth2",
        "grant": "device_code",
        "token_url": "https://x.test",
        "device_url": "https://x.test",
        "client_id": "me",
    }
    with pytest.raises(msgspec.ValidationError, match="no grant that needs a person"):
        msgspec.convert({"type": "pool", "of": [one]}, PoolAuth)


@pytest.mark.case("R000-28")
def test_one_that_is_to_wait_for_hours_keeps_no_other_waiting(tmp_path: Path) -> None:
    slow = response(b"{}", status="429 Slow", headers=["Retry-After: 7200"])
    api = Api(9, lambda token, _: slow if token == "a" else None)
    result = play(tmp_path, api, limits="[{quota: 1000/s}]", max_wait=600)
    assert result.error is None
    assert [record["id"] for record in result.records()] == list(range(1, 10))
    assert api.count()["a"] == 1
