"""A person logs in: at servers that nobody here wrote, with a browser that follows what it is shown."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import requests
from tests.tap_rest.harness import FastClock
from tests.tap_rest.hostile import Hostile, response
from tests.tap_rest.oauth_servers import OIDC_PROVIDER, browse, npm_server

from tap_rest.auth.flow import Token
from tap_rest.auth.oauth import OAuth2Auth
from tap_rest.engine import authorize as authorize_module
from tap_rest.engine.authorize import authorize
from tap_rest.engine.signals import Waiter
from tap_rest.engine.tokens import TokenFile, token_file
from tap_rest.engine.transport import Transport
from tap_rest.errors import CredentialsRefused, TapError
from tap_rest.language.declaration import Bound, load
from tap_rest.redaction import Redactor

SECRET = "s3cret:of/client"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with npm_server(tmp_path_factory.mktemp("oidc"), "oidc-provider@9.13.3", OIDC_PROVIDER) as url:
        yield url


@pytest.fixture(autouse=True)
def _nobody_is_left_waiting() -> Iterator[None]:
    yield
    while Person.started:
        with Person.started.pop() as process:
            process.terminate()


class Api:
    """Three pages, for those whose token the provider knows."""

    def __init__(self, provider: str) -> None:
        self.provider, self.tokens = provider, list[str]()

    def __call__(self, request: str) -> list[bytes]:
        token = re.search(r"Authorization: (Bearer \S+)", request)
        self.tokens.append(token[1] if token else "")
        known = requests.get(f"{self.provider}/me", headers={"Authorization": self.tokens[-1]}, timeout=10)
        if known.status_code != 200:
            return [response(b"{}", status="401 Unauthorized")]
        page = re.search(r"page=(\d+)", request)
        return [response(b"[]" if page and int(page[1]) > 3 else json.dumps([{"id": page and page[1]}]).encode())]


def declared(folder: Path, api: str, auth: dict[str, Any]) -> Path:
    file = folder / "api.yaml"
    rows = {"path": "/rows", "records": {"type": "root"}, "paginator": {"type": "page_number", "page_size": 1}}
    settings = {"secret": {"sensitive": True}}
    auth = {"type": "oauth2", "client_id": "public", **auth}
    file.write_text(
        json.dumps({"name": "tap-test", "base_url": api, "settings": settings, "auth": auth, "streams": {"rows": rows}})
    )
    return file


def log_in(provider: str, grant: str, client: str = "public") -> dict[str, Any]:
    """The declared auth of a client of oidc-provider."""
    found: dict[str, Any] = {"grant": grant, "token_url": f"{provider}/token", "client_id": client}
    if client != "public":
        found |= {"client_secret": "{settings.secret}", "client_auth": client}
    if grant == "device_code":
        return {**found, "device_url": f"{provider}/device/auth", "scope": "openid offline_access"}
    consent = {"authorize_url": f"{provider}/auth", "authorize_params": {"prompt": "consent"}}
    return {**found, **consent, "scope": "openid offline_access"}


def config(folder: Path, file: Path) -> list[str]:
    settings = {"declaration": str(file), "token_store": str(folder / "store"), "secret": SECRET}
    return ["--config", json.dumps(settings)]


def environment(**more: str) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if name not in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")}
    return {**kept, "LOGLEVEL": "DEBUG", **more}


class Person:
    """`daykeep authorize` running, and what it has shown so far."""

    started: ClassVar[list[subprocess.Popen[str]]] = []

    def __init__(self, folder: Path, file: Path, **env: str) -> None:
        command = [str(BIN / "daykeep"), "authorize", "tap-rest", *config(folder, file)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**env)
        )
        self.started.append(self.process)
        self.shown = ""

    def sees(self, pattern: str) -> re.Match[str]:
        """Reads on until something is shown."""
        assert self.process.stderr is not None
        while not (found := re.search(pattern, self.shown)):
            line = self.process.stderr.readline()
            assert line, self.shown
            self.shown += line
        return found

    def ends(self) -> int:
        out, err = self.process.communicate(timeout=30)
        self.shown += f"{out}{err}"
        return self.process.returncode


def run(folder: Path, file: Path) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "tap-rest"), *config(folder, file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment())


def kept(folder: Path) -> Token:
    (file,) = (folder / "store").glob("[!.]*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return msgspec.json.decode(file.read_bytes(), type=Token)


PAGE, CODE = r"    (http\S+)\n", r"Open (http\S+) in any browser and enter the code (\S+)"


@pytest.mark.case("R002-7")
@pytest.mark.case("R002-21")
@pytest.mark.case("X4")
@pytest.mark.case("X5")
@pytest.mark.parametrize(
    ("grant", "client"),
    [
        ("authorization_code", "public"),
        ("authorization_code", "form"),
        ("authorization_code", "basic"),
        ("device_code", "public"),
        ("device_code", "basic"),
    ],
)
def test_a_person_logs_in_once_and_runs_go_on_with_rotating_tokens(
    tmp_path: Path, provider: str, grant: str, client: str
) -> None:
    api = Api(provider)
    with Hostile(api) as server:
        file = declared(tmp_path, server.url, log_in(provider, grant, client))
        person = Person(tmp_path, file)
        if grant == "device_code":
            page, code = person.sees(CODE).groups()
            browse(page, user_code=code)
        else:
            last = browse(person.sees(PAGE)[1])
            assert "The terminal says how it ended" in last.text
        assert person.ends() == 0, person.shown
        tokens = [kept(tmp_path)]
        for _ in range(2):
            time.sleep(1.5)  # the half of an access token's life, after which it is renewed
            done = run(tmp_path, file)
            assert done.returncode == 0, done.stderr
            assert done.stdout.count('"RECORD"') == 3
            tokens.append(kept(tmp_path))
            person.shown += done.stdout + done.stderr
    assert len({token.refresh for token in tokens}) == 3
    secret = {text for token in tokens for text in (token.access, token.refresh)} | {SECRET}
    assert not [text for text in secret if text in person.shown]


@pytest.mark.parametrize("grant", ["authorization_code", "device_code"])
def test_a_person_who_refuses_ends_it_and_nothing_is_stored(tmp_path: Path, provider: str, grant: str) -> None:
    file = declared(tmp_path, provider, log_in(provider, grant))
    person = Person(tmp_path, file)
    if grant == "device_code":
        page, code = person.sees(CODE).groups()
        browse(page, agree=False, user_code=code)
    else:
        browse(person.sees(PAGE)[1], agree=False)
    assert person.ends() == 1
    assert "access_denied" in person.shown
    assert not list((tmp_path / "store").glob("[!.]*.json"))


@pytest.mark.parametrize("grant", ["authorization_code", "device_code"])
def test_a_run_before_the_log_in_says_what_to_do_and_asks_nothing(tmp_path: Path, grant: str) -> None:
    with Hostile(lambda _: [response(b"[]")]) as server:
        done = run(tmp_path, declared(tmp_path, server.url, log_in(server.url, grant)))
    assert done.returncode == 2
    assert "nobody has logged in yet: log in with `daykeep authorize TAP`" in done.stderr
    assert not server.seen


def test_only_the_awaited_answer_is_taken_and_idle_connections_hold_nobody_up(tmp_path: Path, mock_server: str) -> None:
    auth = {
        "grant": "authorization_code",
        "token_url": f"{mock_server}/token",
        "authorize_url": f"{mock_server}/authorize",
    }
    person = Person(tmp_path, declared(tmp_path, mock_server, {**auth, "scope": "read"}))
    page = person.sees(PAGE)[1]
    asked = {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()}
    assert asked["code_challenge_method"] == "S256"
    back = asked["redirect_uri"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", back)
    with socket.create_connection(("127.0.0.1", urlsplit(back).port or 0)):  # as browsers make them, to be prepared
        for path, status in (
            ("/callback?code=evil&state=another", 400),
            ("/callback?code=evil", 400),
            (f"/callback?state={asked['state']}", 400),
            (f"/favicon.ico?code=evil&state={asked['state']}", 404),
        ):
            answer = requests.get(f"{back.removesuffix('/callback')}{path}", timeout=10)
            assert (answer.status_code, "evil" in answer.text) == (status, False)
        assert person.process.poll() is None
        assert requests.get(page, timeout=10).ok
        assert person.ends() == 0, person.shown
    assert kept(tmp_path).access
    assert "GET /callback" not in person.shown


def test_the_page_is_opened_in_the_persons_browser(tmp_path: Path, mock_server: str) -> None:
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -c "import sys, requests; requests.get(sys.argv[1])" "$1"\n'
    )
    browser.chmod(0o755)
    auth = {
        "grant": "authorization_code",
        "token_url": f"{mock_server}/token",
        "authorize_url": f"{mock_server}/authorize",
    }
    person = Person(tmp_path, declared(tmp_path, mock_server, auth), BROWSER=f"{browser} %s")
    assert person.ends() == 0, person.shown
    assert re.search(PAGE, person.shown)
    assert kept(tmp_path).access


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(tmp_path: Path, number: int) -> None:
    auth = log_in("http://127.0.0.1:1", "authorization_code")
    command = [str(BIN / "tap-rest"), *config(tmp_path, declared(tmp_path, "http://127.0.0.1:1", auth)), "--authorize"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stderr is not None
        assert any("http" in line for line in process.stderr)
        process.send_signal(number)
        assert "Traceback" not in process.stderr.read()
    assert process.returncode in (130, -signal.SIGTERM)


def test_auth_without_a_person_is_no_log_in(tmp_path: Path) -> None:
    file = declared(tmp_path, "http://127.0.0.1:1", {"grant": "client_credentials", "token_url": "http://127.0.0.1:1"})
    person = Person(tmp_path, file)
    assert person.ends() == 2
    assert "tap-test needs no person's log-in" in person.shown


# --- without a process, on a clock whose waits pass at once -----------------------------------------------------------


def bound(folder: Path, **auth: Any) -> Bound:
    given = {"token_url": "http://127.0.0.1:1", "grant": "device_code", "device_url": "http://127.0.0.1:1", **auth}
    return load(declared(folder, "http://127.0.0.1:1", given)).bind({"secret": SECRET})


def stored(folder: Path, tap: Bound) -> TokenFile:
    found = token_file(tap.name, tap.auth, str(folder / "store"))
    assert found is not None
    return found


def authorized(folder: Path, tap: Bound, clock: Waiter) -> list[str]:
    """What a person is shown."""
    shown: list[str] = []
    transport, redactor = Transport(), Redactor(tap.secrets)
    store = str(folder / "store")
    try:
        authorize(tap, clock=clock, transport=transport, redactor=redactor, token_store=store, say=shown.append)
    finally:
        transport.close()
        clock.close()
    return shown


def device(*polls: bytes | dict[str, Any], **members: Any) -> Callable[[str], list[bytes]]:
    """A server of the device flow: what it answers to one poll after the other."""
    left = list(polls)
    given = {
        "device_code": "d3vice",
        "user_code": "AB\x1b[2J-CD",
        "verification_uri": "https://x.test/device",
        **members,
    }

    def answer(request: str) -> list[bytes]:
        if request.startswith("POST /device "):
            return [response(json.dumps(given).encode())]
        poll = left.pop(0)
        if isinstance(poll, bytes):
            return [poll]
        return [response(json.dumps(poll).encode(), status="400 Bad Request" if "error" in poll else "200 OK")]

    return answer


PENDING, SLOW, TOKEN = {"error": "authorization_pending"}, {"error": "slow_down"}, {"access_token": "acc3ss"}


@pytest.mark.parametrize(
    ("polls", "waits"),
    [
        ((PENDING, PENDING, TOKEN), [5, 5, 5]),
        ((PENDING, SLOW, PENDING, SLOW, TOKEN), [5, 5, 10, 10, 15]),
        ((b"", PENDING, TOKEN), [5, 10, 10]),
        ((response(b"busy", status="503 Unavailable"), TOKEN), [5, 10]),
        ((response(json.dumps(PENDING).encode()), TOKEN), [5, 5]),
    ],
    ids=["pending", "slow down", "no answer", "busy", "an error with status 200"],
)
def test_a_device_asks_as_often_as_it_may(tmp_path: Path, polls: tuple[Any, ...], waits: list[float]) -> None:
    clock = FastClock()
    with Hostile(device(*polls)) as server:
        tap = bound(tmp_path, token_url=f"{server.url}/token", device_url=f"{server.url}/device")
        shown = authorized(tmp_path, tap, clock)
    assert clock.waits == waits
    assert shown[0] == "Open https://x.test/device in any browser and enter the code AB[2J-CD"
    assert stored(tmp_path, tap).read() == Token("acc3ss")


@pytest.mark.parametrize(
    ("polls", "members", "said"),
    [
        (({"error": "access_denied"},), {}, "access_denied"),
        (({"error": "expired_token", "error_description": f"d3vice {SECRET}"},), {}, r"expired_token, \*\*\* \*\*\*"),
        ((PENDING, PENDING, PENDING), {"expires_in": 15}, "was not entered in time"),
        ((response(b'{"access_token":""}'),), {}, "nothing at access_token"),
        ((), {"user_code": None}, "the server gave no code"),
    ],
)
@pytest.mark.case("X4")
def test_a_device_that_gets_no_token_says_why_and_keeps_the_former(
    tmp_path: Path, polls: tuple[Any, ...], members: dict[str, Any], said: str
) -> None:
    with Hostile(device(*polls, **members)) as server:
        tap = bound(tmp_path, token_url=f"{server.url}/token", device_url=f"{server.url}/device", client_secret=SECRET)
        stored(tmp_path, tap).write(Token("former"))
        with pytest.raises(CredentialsRefused, match=said):
            authorized(tmp_path, tap, FastClock())
    assert stored(tmp_path, tap).read() == Token("former")


@pytest.mark.case("X4")
def test_what_a_server_says_is_not_cut_in_the_middle_of_a_secret(tmp_path: Path) -> None:
    with Hostile(device(user_code=None, message=f"{'no such device ' * 13}{SECRET}")) as server:
        tap = bound(tmp_path, device_url=f"{server.url}/device", client_secret=SECRET)
        with pytest.raises(CredentialsRefused, match="no such device") as caught:
            authorized(tmp_path, tap, FastClock())
    assert SECRET[:4] not in str(caught.value)


def test_a_log_in_that_can_not_be_renewed_says_how_long_it_holds(tmp_path: Path) -> None:
    with Hostile(device({**TOKEN, "expires_in": 3600})) as server:
        tap = bound(tmp_path, token_url=f"{server.url}/token", device_url=f"{server.url}/device")
        shown = authorized(tmp_path, tap, FastClock())
    assert "The server gave no refresh token: this log-in ends in 55 minutes." in shown


def in_browser(folder: Path, **auth: Any) -> Bound:
    return bound(folder, grant="authorization_code", device_url="", authorize_url="http://127.0.0.1:1/a", **auth)


def test_a_person_who_does_not_come_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorize_module, "LONGEST_LOG_IN", 0.3)
    monkeypatch.delenv("BROWSER", raising=False)
    with pytest.raises(CredentialsRefused, match="nobody has logged in"):
        authorized(tmp_path, in_browser(tmp_path), Waiter())


def test_a_named_port_is_used_and_one_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(TapError, match=f"port {port} can't be used"):
            authorized(tmp_path, in_browser(tmp_path, redirect_url=f"http://localhost:{port}/back"), Waiter())
    with authorize_module._Loopback(f"http://localhost:{port}/back", "s") as loopback:
        assert loopback.url == f"http://localhost:{port}/back"
        assert loopback.server_address == ("127.0.0.1", port)


def test_what_can_not_be_stored_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with Hostile(device(TOKEN)) as server, pytest.raises(TapError, match="token folder can't be used"):
        authorized(tmp_path, bound(tmp_path, device_url=f"{server.url}/device"), FastClock())
    assert not server.seen


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/x", "http://x.test/", "http://127.0.0.1/x?y=1", "http://0.0.0.0/", "http://127.0.0.1:x/"]
)
def test_a_browser_is_sent_back_to_this_machine_alone(url: str) -> None:
    options = {"token_url": "https://x.test/t", "client_id": "me", "authorize_url": "https://x.test/a"}
    with pytest.raises(msgspec.ValidationError, match=r"a redirect URL is|Port could not"):
        msgspec.convert({"type": "oauth2", "grant": "authorization_code", "redirect_url": url, **options}, OAuth2Auth)
