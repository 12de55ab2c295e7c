"""OAuth 2.0 end to end: against a server of npm, and against one that takes each refresh token once."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest
from tests.tap_rest.harness import NOW, Run, run, written
from tests.tap_rest.hostile import Hostile, response

from tap_rest.auth.flow import MOST_FORCED, Token
from tap_rest.auth.oauth import OAuth2Auth
from tap_rest.errors import CredentialsRefused
from tap_rest.page import Page
from tap_rest.request import Request

CLIENT: dict[str, Any] = {"token_url": "https://x.test/t", "client_id": "a client", "client_secret": "s:cret"}


class Api:
    """An API of three pages behind a token server; a refresh token is good once.

    Attributes:
        lifetime: What the token server says, seconds.
        spoil: Changes the n-th token answer.
        accepts: Whether the n-th API request is let in, if its token is the newest.
    """

    def __init__(self, **members: Any) -> None:
        self.lifetime: Any = 3600
        self.spoil: Callable[[int, bytes], bytes] = lambda _, answer: answer
        self.accepts: Callable[[int], bool] = lambda _: True
        self.rotates, self.last = True, 3
        self.asked: list[str] = []
        self.pages: list[str] = []
        self.refresh, self.access = "refresh-0", "none"
        vars(self).update(members)
        self._lock = threading.Lock()

    def __call__(self, request: str) -> list[bytes]:
        with self._lock:
            if request.startswith("POST /token"):
                answer = self._token(request)
                return [self.spoil(len(self.asked), answer)]
            return [self._page(request)]

    def _token(self, request: str) -> bytes:
        form = parse_qs(request.partition("\r\n\r\n")[2])
        self.asked.append(form["grant_type"][0])
        if form["grant_type"] == ["refresh_token"] and form["refresh_token"] != [self.refresh]:
            return refused(f"the token {form['refresh_token'][0]} is not good")
        self.access = f"access-{len(self.asked)}"
        found = {"access_token": self.access, "expires_in": self.lifetime}
        if self.rotates:
            self.refresh = found["refresh_token"] = f"refresh-{len(self.asked)}"
        return response(json.dumps(found).encode())

    def _page(self, request: str) -> bytes:
        number = len(self.pages)
        token = re.search(r"Authorization: Bearer (\S+)", request)
        self.pages.append(token[1] if token else "")
        if self.pages[-1] != self.access or not self.accepts(number):
            return response(f'{{"message":"{self.pages[-1]} is not good"}}'.encode(), status="401 Unauthorized")
        page = re.search(r"page=(\d+)", request)
        at = int(page[1]) if page else 1
        return response(json.dumps([{"id": at}] if at <= self.last else []).encode())


def refused(why: str, status: str = "400 Bad Request", *headers: str) -> bytes:
    body = json.dumps({"error": "invalid_grant", "error_description": why})
    return response(body.encode(), status=status, headers=headers)


def declaration(url: str, auth: str = "", grant: str = "refresh_token, refresh_token: refresh-0") -> str:
    return f"""
auth: {{type: oauth2, token_url: "{url}/token", client_id: me, client_secret: s3cret, grant: {grant}{auth}}}
streams:
  rows: {{path: /rows, records: $, paginator: {{type: page_number, page_size: 1}}}}
"""


def play(folder: Path, api: Api, **options: Any) -> Run:
    return plays(folder, api, 1, **options)[0]


def plays(folder: Path, api: Api, times: int, **options: Any) -> list[Run]:
    """Runs that follow each other."""
    with Hostile(api) as server:
        text = declaration(server.url, **options)
        return [run(folder, server, text, token_store=str(folder / "store")) for _ in range(times)]


def kept(folder: Path) -> Token:
    (file,) = (folder / "store").glob("[!.]*.json")
    return msgspec.json.decode(file.read_bytes(), type=Token)


@pytest.mark.parametrize(
    ("options", "headers", "body"),
    [
        (
            {"grant": "client_credentials", "scope": "a b", "params": {"audience": "x/y"}},
            {"Content-Type": "application/x-www-form-urlencoded"},
            "grant_type=client_credentials&scope=a+b&client_id=a+client&client_secret=s%3Acret&audience=x%2Fy",
        ),
        (
            {"grant": "client_credentials", "client_auth": "json"},
            {"Content-Type": "application/json"},
            '{"grant_type": "client_credentials", "client_id": "a client", "client_secret": "s:cret"}',
        ),
        (
            {"grant": "refresh_token", "refresh_token": "r", "client_auth": "basic"},
            {
                "Content-Type": "application/x-www-form-urlencoded",
                "Authorization": f"Basic {base64.b64encode(b'a%20client:s%3Acret').decode()}",
            },
            "grant_type=refresh_token&refresh_token=r",
        ),
        (
            {"grant": "password", "username": "u", "password": "p&"},
            {"Content-Type": "application/x-www-form-urlencoded"},
            "grant_type=password&username=u&password=p%26&client_id=a+client&client_secret=s%3Acret",
        ),
    ],
    ids=lambda value: value.get("grant") if isinstance(value, dict) else None,
)
@pytest.mark.case("trap:4.7")
def test_what_a_token_server_is_sent(options: dict[str, Any], headers: dict[str, str], body: str) -> None:
    auth = OAuth2Auth(**CLIENT, **options)
    request = auth.token_request(Token(), NOW)
    assert (request.method, request.url, dict(request.headers), request.body) == (
        "POST",
        CLIENT["token_url"],
        headers,
        body,
    )


@pytest.mark.parametrize(
    ("answer", "options", "seconds"),
    [
        ({"expires_in": 3600}, {}, 3300),
        ({"expires_in": "3600"}, {}, 3300),
        ({"expires_in": 60}, {}, 30),
        ({"expires_in": -5}, {}, -2.5),
        ({"expires_at": NOW + 3600}, {"expires_path": "expires_at"}, 3300),
        ({"expires_at": (NOW + 3600) * 1000}, {"expires_path": "expires_at"}, 3300),
        ({"expires_at": "2027-01-15T09:00:00Z"}, {"expires_path": "expires_at"}, 3300),
        ({}, {"lifetime": 1000}, 700),
        ({"expires_in": "soon"}, {}, None),
        ({"expires_in": True}, {}, None),
        ({}, {}, None),
    ],
)
@pytest.mark.case("R002-7")
def test_a_token_is_renewed_before_its_end(
    answer: dict[str, Any], options: dict[str, Any], seconds: float | None
) -> None:
    auth = OAuth2Auth(**CLIENT, grant="client_credentials", **options)
    page = Page(Request("https://x.test/t"), 200, {}, json.dumps({"access_token": "a", **answer}).encode())
    token = auth.next_token(page, Token(), NOW)
    assert token == Token("a", "", None if seconds is None else NOW + seconds)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"grant": "refresh_token"}, "needs refresh_token"),
        ({"grant": "client_credentials", "refresh_token": "r"}, "has no refresh_token"),
        ({"grant": "password", "username": "u"}, "needs password"),
        ({"grant": "client_credentials", "token_url": "/token"}, "a token URL is"),
        ({"grant": "client_credentials", "token_url": "https://me@x.test/t"}, "a token URL is"),
    ],
)
def test_a_grant_has_what_it_needs_and_nothing_else(options: dict[str, Any], said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        msgspec.convert({"type": "oauth2", **CLIENT, **options}, OAuth2Auth)


@pytest.mark.case("R002-7")
@pytest.mark.parametrize("grant", ["client_credentials", "password, username: u, password: p"])
def test_one_token_serves_a_run_and_stays_in_memory(tmp_path: Path, grant: str) -> None:
    api = Api()
    result = play(tmp_path, api, grant=grant)
    assert result.error is None
    assert len(result.records()) == 3
    assert len(api.asked) == 1
    assert not (tmp_path / "store").exists()


@pytest.mark.case("C15")
@pytest.mark.case("R002-7")
@pytest.mark.parametrize("grant", ["client_credentials", "refresh_token, refresh_token: refresh-0"])
@pytest.mark.case("trap:2.forced-refresh")
@pytest.mark.case("trap:4.7")
@pytest.mark.case("R003-12")
def test_a_token_revoked_before_its_time_is_renewed_once_and_the_request_sent_again(tmp_path: Path, grant: str) -> None:
    api = Api(accepts=lambda number: number != 1)
    result = play(tmp_path, api, grant=grant)
    assert result.error is None
    assert [record["id"] for record in result.records()] == [1, 2, 3]
    assert api.pages == ["access-1", "access-1", "access-2", "access-2", "access-2"]
    assert len(api.asked) == 2


@pytest.mark.case("C18")
def test_an_api_that_always_refuses_is_asked_twice_and_the_token_server_too(tmp_path: Path) -> None:
    api = Api(accepts=lambda _: False)
    result = play(tmp_path, api)
    assert isinstance(result.error, CredentialsRefused)
    assert api.pages == ["access-1", "access-2"]
    assert len(api.asked) == 2
    assert kept(tmp_path).refresh == "refresh-2"


@pytest.mark.case("C18")
def test_tokens_that_are_always_refused_once_end_the_run(tmp_path: Path) -> None:
    api = Api(accepts=lambda number: number % 2 == 1)
    api.last = 1000
    result = play(tmp_path, api, grant="client_credentials")
    assert f"{MOST_FORCED} tokens were refused before their time: declare their `lifetime`" in str(result.error)
    assert len(api.asked) == MOST_FORCED + 1


@pytest.mark.case("C16")
@pytest.mark.case("trap:1.g")
@pytest.mark.case("trap:3.14")
def test_a_new_refresh_token_is_on_disk_before_its_access_token_is_used(tmp_path: Path) -> None:
    seen: list[Token] = []

    def accepts(_: int) -> bool:
        seen.append(kept(tmp_path))
        return len(seen) != 2

    api = Api(accepts=accepts)
    assert [played.error for played in plays(tmp_path, api, 2)] == [None, None]
    assert [(token.refresh, token.access, token.asked) for token in seen] == [
        *[("refresh-1", "access-1", False)] * 2,
        *[("refresh-2", "access-2", False)] * 7,
    ]
    assert len(api.asked) == 2


@pytest.mark.case("R002-7")
@pytest.mark.case("trap:2.refresh-token-dropped")
def test_a_reply_without_a_refresh_token_keeps_the_old_one(tmp_path: Path) -> None:
    def accepts(number: int) -> bool:
        api.rotates = False
        return number not in (1, 3)

    api = Api(accepts=accepts)
    assert play(tmp_path, api).error is None
    assert len(api.asked) == 3
    assert (kept(tmp_path).access, kept(tmp_path).refresh) == ("access-3", "refresh-1")


@pytest.mark.case("C17")
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        response(b"<html>", status="502 Bad Gateway"),
        response(b"{}"),
    ],
    ids=["dropped", "cut", "502", "no token"],
)
def test_a_renewal_whose_outcome_is_unclear_is_not_repeated_and_both_tokens_are_kept(
    tmp_path: Path, answer: bytes
) -> None:
    api = Api(accepts=lambda number: number != 1, spoil=lambda number, good: answer if number == 2 else good)
    result, later = plays(tmp_path, api, 2)
    assert isinstance(result.error, CredentialsRefused)
    assert "both old tokens are kept and nothing is asked again" in str(result.error)
    assert "an earlier run asked for a token and never saw the answer" in str(later.error)
    assert "log in again" in str(later.error)
    assert len(api.asked) == 3
    assert kept(tmp_path) == Token("access-1", "refresh-1", kept(tmp_path).due, asked=True)


def test_a_token_server_that_is_not_reached_is_tried_again_and_nothing_is_in_doubt(tmp_path: Path) -> None:
    api = Api()
    with Hostile(api) as server:
        text = declaration("http://127.0.0.1:1")
        result = run(tmp_path, server, text, token_store=str(tmp_path / "store"))
    assert "refused the connection" in str(result.error)
    assert result.engine.summary.retries == 3
    assert kept(tmp_path) == Token()


@pytest.mark.parametrize("status", ["429 Too Many", "503 Unavailable"])
def test_a_busy_token_server_is_asked_again_when_it_says(tmp_path: Path, status: str) -> None:
    busy = refused("busy", status, "Retry-After: 17")
    api = Api(spoil=lambda number, good: busy if number == 1 else good, rotates=False)
    result = play(tmp_path, api)
    assert result.error is None
    assert 17.0 in result.clock.waits
    assert len(api.asked) == 2


@pytest.mark.case("X4")
def test_what_a_token_server_says_is_shown_without_tokens(tmp_path: Path) -> None:
    api = Api(refresh="another")
    result = play(tmp_path, api)
    assert "invalid_grant, the token *** is not good" in str(result.error)
    assert "log in again" in str(result.error)
    assert len(api.asked) == 1


@pytest.mark.case("X4")
def test_a_token_that_an_api_echoes_is_in_no_log_and_in_no_state(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Echo(Api):
        def _page(self, request: str) -> bytes:
            if "cursor=" in request:
                return response(f'{{"error":"{self.access}"}}'.encode(), status="403 Forbidden")
            return response(f'{{"rows":[{{"id":1}}],"next":"{self.access}"}}'.encode())

    api = Echo()
    with Hostile(api) as server, caplog.at_level(logging.DEBUG, "tap_rest"):
        head = declaration(server.url).partition("streams:")[0]
        rows = "streams: {rows: {path: /rows, records: rows, paginator: {type: cursor, path: next, param: cursor}}}"
        result = run(tmp_path, server, f"{head}{rows}", token_store=str(tmp_path / "store"))
    assert len(result.records()) == 1
    assert '{"error":"***"}' in caplog.text
    assert api.access not in f"{caplog.text}{result.error}"
    assert api.access.encode() not in result.output


def test_a_new_log_in_in_the_config_begins_a_new_file(tmp_path: Path) -> None:
    api = Api()
    assert play(tmp_path, api).error is None
    api.refresh = "from-a-new-log-in"
    assert play(tmp_path, api, grant="refresh_token, refresh_token: from-a-new-log-in").error is None
    assert len(list((tmp_path / "store").glob("[!.]*.json"))) == 2


# --- whole processes --------------------------------------------------------------------------------------------------


def command(folder: Path, url: str) -> list[str]:
    settings = {"declaration": str(written(folder, declaration(url), url)), "token_store": str(folder / "store")}
    return [str(Path(sys.executable).parent / "tap-rest"), "--config", json.dumps(settings)]


@pytest.mark.case("C16")
@pytest.mark.parametrize("moment", ["before the answer", "with the answer", "at the first use"])
def test_a_run_killed_around_a_renewal_can_go_on_or_says_that_a_log_in_is_needed(tmp_path: Path, moment: str) -> None:
    process: subprocess.Popen[bytes] | None = None
    alive = [True]

    def kill() -> None:
        if alive and process is not None:
            alive.clear()
            process.kill()
            process.wait()

    class Killing(Api):
        def _token(self, request: str) -> bytes:
            answer = super()._token(request)
            if moment == "before the answer":
                kill()
            return answer

        def _page(self, request: str) -> bytes:
            kill()
            return super()._page(request)

        def __call__(self, request: str) -> Any:
            yield from super().__call__(request)
            if moment == "with the answer":
                kill()

    api = Killing()
    with Hostile(api) as server:
        ready = threading.Event()
        inner = server._answer
        server._answer = lambda request: (ready.wait(10), inner(request))[1]
        process = subprocess.Popen(command(tmp_path, server.url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ready.set()
        process.wait(20)
        assert not alive
        second = subprocess.run(command(tmp_path, server.url), capture_output=True, text=True, check=False)
    if kept(tmp_path).asked or second.returncode:
        assert moment != "at the first use"
        assert "never saw the answer" in second.stderr
        assert "log in again" in second.stderr
    else:
        assert second.returncode == 0
        assert second.stdout.count('"RECORD"') == 3


@pytest.mark.case("C16")
@pytest.mark.case("X4")
def test_processes_that_start_together_renew_once_and_show_no_token(tmp_path: Path) -> None:
    api = Api()
    with Hostile(api) as server:
        made = command(tmp_path, server.url)
        env = {**os.environ, "LOGLEVEL": "DEBUG"}
        runs = [
            subprocess.Popen(made, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) for _ in range(3)
        ]
        ended = [(*process.communicate(timeout=60), process.returncode) for process in runs]
    assert [status for *_, status in ended] == [0, 0, 0]
    assert len(api.asked) == 1
    for out, err, _ in ended:
        assert out.count('"RECORD"') == 3
        assert '"STATE"' in out
        assert not [word for word in ("access-1", "refresh-1", "refresh-0", "s3cret") if word in out + err]


# --- a server that nobody here wrote ----------------------------------------------------------------------------------


@pytest.mark.case("R002-7")
@pytest.mark.parametrize("client_auth", ["form", "basic"])
@pytest.mark.parametrize(
    "grant",
    ["client_credentials", "password, username: u, password: p", "refresh_token, refresh_token: refresh-0"],
    ids=lambda text: text.partition(",")[0],
)
def test_a_token_of_oauth2_mock_server_is_used(tmp_path: Path, mock_server: str, grant: str, client_auth: str) -> None:
    claims: list[dict[str, Any]] = []

    def answer(request: str) -> list[bytes]:
        token = re.search(r"Authorization: Bearer \w+\.([\w-]+)\.", request)
        claims.append(json.loads(base64.urlsafe_b64decode(f"{token[1]}==")) if token else {})
        return [response(b'[{"id":1}]' if "page=1 " in request else b"[]")]

    auth = f", client_auth: {client_auth}, scope: read"
    text = declaration(mock_server, auth, grant=grant)
    with Hostile(answer) as server:
        result = run(tmp_path, server, text, token_store=str(tmp_path / "store"))
    assert result.error is None
    assert len(result.records()) == 1
    assert {claim["jti"] for claim in claims} == {claims[0]["jti"]}
    assert claims[0]["asked"]["grant_type"] == grant.partition(",")[0]
    assert claims[0]["asked"].get("client_secret") == ("s3cret" if client_auth == "form" else None)
    if grant.startswith("refresh_token"):
        assert kept(tmp_path).refresh not in ("", "refresh-0")
