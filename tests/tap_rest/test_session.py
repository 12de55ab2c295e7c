"""Sessions: how a log-in is asked for, where its token goes, and when there is another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.tap_rest.harness import NOW, Run, run
from tests.tap_rest.hostile import Hostile, response

from tap_rest.auth.flow import Token
from tap_rest.auth.session import SessionAuth
from tap_rest.errors import CredentialsRefused

LOGIN = {"login_url": "https://x.test/login", "token_path": "data.token"}
PASSWORD = {"user": "me", "password": "p w&"}


@pytest.mark.parametrize(
    ("options", "method", "kind", "sent"),
    [
        ({}, "POST", "application/json", '{"user": "me", "password": "p w&"}'),
        ({"encoding": "form"}, "POST", "application/x-www-form-urlencoded", "user=me&password=p+w%26"),
        ({"method": "GET"}, "GET", None, "https://x.test/login?user=me&password=p%20w%26"),
    ],
)
def test_how_a_log_in_is_asked_for(options: dict[str, Any], method: str, kind: str | None, sent: str) -> None:
    auth: Any = msgspec.convert(
        {"type": "session", **LOGIN, "body": PASSWORD, "headers": {"X-App": "a"}, **options}, SessionAuth
    )
    request = auth.token_request(Token(), NOW)
    headers = dict(request.headers)
    assert headers.pop("X-App") == "a"
    assert (request.method, headers.get("Content-Type")) == (method, kind)
    assert (request.body or request.full_url) == sent
    assert auth.secrets() == ("p w&",)


def test_a_log_in_address_is_one() -> None:
    with pytest.raises(msgspec.ValidationError, match="a token URL is"):
        msgspec.convert({"type": "session", "login_url": "/login", "token_path": "t"}, SessionAuth)


class Api:
    """Pages behind a log-in; a session is good for so many requests."""

    def __init__(self, requests: int, answer: bytes = b'{"data":{"token":"session-%d","ends":5000}}') -> None:
        self.requests, self.answer, self.logins, self.left = requests, answer, 0, 0

    def __call__(self, request: str) -> list[bytes]:
        if "/login" in request.split("\r\n", maxsplit=1)[0]:
            self.logins, self.left = self.logins + 1, self.requests
            return [response(self.answer.replace(b"%d", b"%d" % self.logins))]
        self.left -= 1
        if f"session-{self.logins}" not in request or self.left < 0:
            return [response(b"{}", status="401 Unauthorized")]
        page = int(re.findall(r"page=(\d+)", request)[0])
        return [response(b'[{"id":%d}]' % page if page <= 4 else b"[]")]


def play(folder: Path, api: Api, options: str = "") -> tuple[Run, Hostile]:
    with Hostile(api) as server:
        declaration = f"""
        auth: {{type: session, login_url: "{server.url}/login", token_path: data.token, body: {{user: me}}{options}}}
        streams: {{rows: {{path: /rows, records: $, paginator: {{type: page_number, page_size: 1}}}}}}
        """
        return run(folder, server, declaration), server


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ("", "Authorization: Bearer session-1"),
        (", name: X-Session, prefix: ''", "X-Session: session-1"),
        (", name: sid, in: cookie, prefix: ''", "Cookie: sid=session-1"),
        (", name: sid, in: query, prefix: ''", "&sid=session-1"),
    ],
)
def test_one_log_in_serves_a_run_and_its_token_goes_where_it_is_declared(
    tmp_path: Path, options: str, sent: str
) -> None:
    api = Api(100)
    result, server = play(tmp_path, api, options)
    assert result.error is None
    assert len(result.records()) == 4
    assert api.logins == 1
    assert sum(sent in request for request in server.seen) == 5
    assert b"session-1" not in result.output


@pytest.mark.case("C15")
def test_a_session_that_ends_is_followed_by_one_log_in(tmp_path: Path) -> None:
    api = Api(3)
    result, _ = play(tmp_path, api)
    assert result.error is None
    assert [record["id"] for record in result.records()] == [1, 2, 3, 4]
    assert api.logins == 2


@pytest.mark.case("C18")
def test_sessions_that_are_good_for_nothing_end_the_run_after_the_second(tmp_path: Path) -> None:
    api = Api(0)
    result, server = play(tmp_path, api)
    assert isinstance(result.error, CredentialsRefused)
    assert (api.logins, len(server.seen)) == (2, 4)


@pytest.mark.parametrize("options", [", lifetime: 0.001", ", expires_path: data.ends, lifetime: 0.001"])
def test_a_session_lives_as_long_as_the_answer_says_else_as_declared(tmp_path: Path, options: str) -> None:
    api = Api(100)
    result, _ = play(tmp_path, api, options)
    assert result.error is None
    assert api.logins == (1 if "ends" in options else 5)


def test_an_answer_without_a_token_is_named(tmp_path: Path) -> None:
    result, server = play(tmp_path, Api(9, b'{"data":{},"message":"no such user"}'))
    assert isinstance(result.error, CredentialsRefused)
    assert "nothing at data.token, no such user" in str(result.error)
    assert len(server.seen) == 1
