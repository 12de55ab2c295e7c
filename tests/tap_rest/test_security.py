"""What a hostile server, a careless declaration or a planted file could do, and does not."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
import urllib3.util.connection
from hypothesis import given
from hypothesis import strategies as st
from tests.tap_rest.command_line import config, declared, status_of
from tests.tap_rest.harness import FAST, json_api, run, written
from tests.tap_rest.hostile import Hostile, response

from tap_rest.engine.transport import Transport, TransportError
from tap_rest.errors import DeclarationError, Postponed, TapError
from tap_rest.language.declaration import load
from tap_rest.language.links import links
from tap_rest.redaction import Redactor
from tap_rest.request import Request

# --- X1, X2, X3: where requests go ------------------------------------------------------------------------------------

ELSEWHERE = [
    "{other}/rows",
    "{upper}/rows",
    "//127.0.0.1:{port}/rows",
    "///127.0.0.1:{port}/rows",
    "////127.0.0.1:{port}/rows",
    "http://x@127.0.0.1:{port}/rows",
    "http://127.0.0.1:{own}@127.0.0.1:{port}/rows",
    "http://127.0.0.1:{own}%40127.0.0.1:{port}/rows",
    "\t{other}/rows",
    " {other}/rows",
    "\u00a0{other}/rows",
    "h\nttp://127.0.0.1:{port}/rows",
    "http:\\\\127.0.0.1:{port}\\rows",
    "/\\127.0.0.1:{port}/rows",
    "\\\\127.0.0.1:{port}/rows",
    "http:///127.0.0.1:{port}/rows",
    "https://127.0.0.1:{own}/rows",
    "http://localhost:{own}/rows",
    "http://LOCALHOST:{own}/rows",
    "http://127.0.0.1:{own}.evil.example/rows",
    "http://127.0.0.1.evil.example:{own}/rows",
    "http://evil.example#@127.0.0.1:{own}/rows",
    "http://evil.example?@127.0.0.1:{own}/rows",
    "http://evil.example\\@127.0.0.1:{own}/rows",
    "http://evil.example;127.0.0.1:{own}/rows",
    "http://2130706433:{port}/rows",
    "http://0x7f000001:{port}/rows",
    "http://0177.0.0.1:{port}/rows",
    "http://127.1:{port}/rows",
    "http://0:{port}/rows",
    "http://[::1]:{port}/rows",
    "http://[::ffff:127.0.0.1]:{port}/rows",
    "http://[::ffff:7f00:1%25lo]:{port}/rows",
    "http://127\u30020\u30020\u30021:{port}/rows",
    "http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{port}/rows",
    "http://127.0.0.1:{port}\r\nX-Injected: 1\r\n/rows",
    "http://169.254.169.254/latest/meta-data/",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/rows",
    "gopher://127.0.0.1:{port}/_GET",
    "javascript:alert(1)",
    "data:application/json,{{}}",
]
KEYED = 'settings: {key: {sensitive: true}}\nauth: {type: api_key, name: X-Key, key: "{settings.key}"}\n'


@pytest.mark.case("X1")
@pytest.mark.case("X3")
@pytest.mark.parametrize(
    ("link", "how"),
    [(link, "next_url") for link in ELSEWHERE]
    + [(link, "link_header") for link in ELSEWHERE if link.isascii() and "\n" not in link],
)
def test_no_link_to_a_next_page_leads_elsewhere(tmp_path: Path, link: str, how: str) -> None:
    """Not a request and not a credential leaves the origin; a stream whose end can't be known is no success."""
    paginator = "{type: next_url, path: next}" if how == "next_url" else "{type: link_header}"
    streams = f"{FAST}streams: {{rows: {{path: /rows, records: items, paginator: {paginator}}}}}\n"

    def answer(request: str) -> list[bytes]:
        if not request.startswith("GET /rows HTTP"):
            return [response(b"{}", status="404 Not Found")]
        upper = other.url.upper()
        target = link.format(other=other.url, upper=upper, port=other.port, own=server.port)
        headers = [f"Link: <{target}>; rel=next"] if how == "link_header" else []
        body = {"items": [{"id": 1}], "next": target}
        return [response(json.dumps(body).encode(), headers=headers)]

    with Hostile(lambda _: [response(b'{"items":[],"next":null}')]) as other, Hostile(answer) as server:
        result = run(tmp_path, server, KEYED + streams, settings={"key": "canary-1"})
    assert isinstance(result.error, TapError)
    assert other.seen == []
    assert all(f"Host: 127.0.0.1:{server.port}\r\n" in seen and "\r\nX-Injected" not in seen for seen in server.seen)
    assert "canary" not in f"{result.error} {result.output!r}"


@pytest.mark.case("X1")
@pytest.mark.parametrize("token", ["/../../admin", "//evil.example/x", "a@evil.example", "a?x=1&key=2#f", "\r\nX: 1"])
def test_a_cursor_in_a_path_stays_one_step_of_it(tmp_path: Path, token: str) -> None:
    paginator = '{type: cursor, path: next, next_path: "/more/{cursor}/rows"}'
    streams = f"{FAST}streams: {{rows: {{path: /rows, records: items, paginator: {paginator}}}}}\n"

    def answer(path: str, _: dict[str, str]) -> Any:
        return {"items": [{"id": len(path)}], "next": token if path == "/rows" else None}

    with json_api(answer) as server:
        result = run(tmp_path, server, streams)
    assert result.error is None
    assert server.seen[1].startswith(f"GET /more/{quote(token, safe='')}/rows HTTP/1.1\r\n")


class _Peer(socket.socket):
    """A connection that says it leads to another address than it does."""

    said = ""

    def getpeername(self) -> Any:
        return (self.said, 80)


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, int]]:
    """Host → the address that it seems to have, and the local port that really answers."""
    hosts: dict[str, tuple[str, int]] = {}

    def connected(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        said, port = hosts[address[0]]
        plain = socket.create_connection(("127.0.0.1", port))
        peer = _Peer(plain.family, plain.type, plain.proto, fileno=plain.detach())
        peer.said = said
        return peer

    monkeypatch.setattr(urllib3.util.connection, "create_connection", connected)
    return hosts


@pytest.mark.case("X3")
@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("http://127.0.0.1/x", "127.0.0.1"),
        ("http://localhost/x", "::1"),
        ("http://2852039166/x", "169.254.169.254"),
        ("http://0xa9fea9fe/x", "169.254.169.254"),
        ("http://[::ffff:169.254.169.254]/x", "::ffff:169.254.169.254"),
        ("http://[fe80::1]/x", "fe80::1%eth0"),
        ("http://rebound.example/x", "10.0.0.5"),
        ("http://rebound.example/x", "192.168.1.1"),
        ("http://rebound.example/x", "172.16.9.9"),
        ("http://rebound.example/x", "100.64.0.1"),
        ("http://rebound.example/x", "fd00::1"),
        ("http://rebound.example/x", "0.0.0.0"),
        ("http://api.example:8080/x", "127.0.0.1"),
    ],
)
def test_a_redirect_from_outside_leads_to_no_inside_address(
    internet: dict[str, tuple[str, int]], transport: Transport, target: str, address: str
) -> None:
    """The address that was connected to counts, so a name that resolves to another one later helps nobody."""
    moved = response(b"", status="302 Found", headers=[f"Location: {target}"])
    host = target.partition("://")[2].partition("/")[0].rpartition("]")[0].strip("[") or target.split("/")[2]
    with Hostile(lambda _: [response(b"inside")]) as inside, Hostile(lambda _: [moved]) as outside:
        internet["api.example"] = ("93.184.216.34", outside.port)
        internet[host.partition(":")[0] if "[" not in target else host] = (address, inside.port)
        origin = "http://first.example"
        internet["first.example"] = ("93.184.216.34", outside.port)
        with pytest.raises(TransportError, match="inside this network") as caught:
            transport.send(Request(f"{origin}/x"))
    assert not caught.value.retriable
    assert inside.seen == []


@pytest.mark.case("X3")
def test_a_redirect_to_another_outside_address_is_followed_and_so_is_one_from_inside(
    internet: dict[str, tuple[str, int]],
) -> None:
    moved = response(b"", status="302 Found", headers=["Location: http://second.example/x"])
    with Hostile(lambda _: [response(b"there")]) as there, Hostile(lambda _: [moved]) as first:
        for addresses in (("93.184.216.34", "8.8.8.8"), ("10.0.0.1", "10.0.0.2")):
            internet["first.example"] = (addresses[0], first.port)
            internet["second.example"] = (addresses[1], there.port)
            transport = Transport()
            assert transport.send(Request("http://first.example/x")).body == b"there"
            transport.close()


# --- X4: twelve secrets, echoed wherever a server can -----------------------------------------------------------------

SECRET = "cAnary/7+q=z~Y"  # has what each encoding changes
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent": lambda text: quote(text, safe=""),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
}
KEY = "settings: {key: {kind: string, sensitive: true}}\n"
KEPT = '"{settings.key}"'
OAUTH = "type: oauth2, token_url: '{url}/token', client_id: me"
SECRETS = {
    "key in a header": f"{KEY}auth: {{type: api_key, name: X-Key, key: {KEPT}}}",
    "key in the query": f"{KEY}auth: {{type: api_key, in: query, name: k, key: {KEPT}}}",
    "key in a cookie": f"{KEY}auth: {{type: api_key, in: cookie, name: sid, key: {KEPT}}}",
    "basic password": f"{KEY}auth: {{type: basic, username: me, password: {KEPT}}}",
    "bearer token": f"{KEY}auth: {{type: bearer, token: {KEPT}}}",
    "client secret": f"{KEY}auth: {{{OAUTH}, grant: client_credentials, client_secret: {KEPT}}}",
    "refresh token": f"{KEY}auth: {{{OAUTH}, grant: refresh_token, refresh_token: {KEPT}}}",
    "access token": f"auth: {{{OAUTH}, grant: client_credentials}}",
    "new refresh token": f"auth: {{{OAUTH}, grant: refresh_token, refresh_token: first}}",
    "session password": f"{KEY}auth: {{type: session, login_url: '{{url}}/token', body: {{password: {KEPT}}}, "
    "name: X-Session, token_path: access_token}",
    "session token": "auth: {type: session, login_url: '{url}/token', body: {user: me}, name: X-Session, "
    "token_path: access_token}",
    "hmac key": f"{KEY}auth: {{type: hmac, key: {KEPT}, message: '{{method}}{{path}}'}}",
}
FAILURES: dict[str, Callable[[str, str], bytes]] = {
    "refused": lambda said, _: response(json.dumps({"message": said, said: 1}).encode(), status=f"400 {said}"),
    "forbidden": lambda said, _: response(f"no {said}".encode(), status="403 Forbidden"),
    "encoded": lambda said, _: response(b"{}", headers=[f"Content-Encoding: {said}"]),
    "misshapen": lambda said, _: response(json.dumps({said: [], "list": {said: said}}).encode()),
    "elsewhere": lambda said, _: response(json.dumps(rows(f"http://evil.example:81/{said}?{said}")).encode()),
    "unreadable": lambda said, _: response(json.dumps(rows(f"http://{said}@x/?{said}")).encode()),
    "no token": lambda said, _: response(json.dumps(rows({said: said})).encode()),
    "moved": lambda said, _: response(b"", status="302 Found", headers=[f"Location: ftp://x/{said}"]),
    "moved away": lambda said, _: response(b"", status="302 Found", headers=[f"Location: http://x@y/{said}?{said}"]),
    "looping": lambda said, url: response(json.dumps(rows(f"{url}/looping?{quote(said, safe='%')}")).encode()),
    "busy": lambda said, _: response(f'{{"error":"{said}"}}'.encode(), status="503 Busy", headers=[f"X-Why: {said}"]),
    "torn": lambda said, _: response(f'{{"items":[{{"{said}":'.encode()),
    "limited": lambda said, _: response(b"{}", status="503 Slow", headers=[f"Retry-After: {said}"]),
    "page": lambda said, _: response(f"<html>{said}</html>".encode()),
}
FINAL = ("refused", "encoded", "elsewhere", "moved", "moved away")
"""Failures that no second request can mend, so that a run on a real clock soon ends."""


def rows(following: Any) -> dict[str, Any]:
    return {"items": [{"id": 1 if following else 2}], "next": following}


def echoing(form: Callable[[str], str], failures: tuple[str, ...]) -> tuple[str, Hostile]:
    """Streams of which two succeed and the others fail, and a server that echoes a secret in each answer."""
    streams = {"good": "next_url, path: next", "cursor": "cursor, path: next, param: c"}
    streams |= dict.fromkeys((name.replace(" ", "_") for name in failures), "next_url, path: next")
    text = "".join(
        f"  {name}: {{path: /{name}, records: items, primary_keys: [id], paginator: {{type: {paginator}}}}}\n"
        for name, paginator in streams.items()
    )
    said = form(SECRET)

    def answer(request: str) -> list[bytes]:
        path, _, query = request.split()[1].partition("?")
        if path == "/token":
            token = {"access_token": SECRET, "refresh_token": SECRET, "expires_in": 3600, "said": said}
            return [response(json.dumps(token).encode(), headers=[f"X-Said: {said}"])]
        name = path.strip("/")
        headers = [f"X-Echo: {said}", f"Set-Cookie: s={said}", f"Link: <{server.url}/x?{said}>; rel=self"]
        if name in ("good", "cursor"):
            last = "at=" in query or "c=" in query
            link = None if last else said if name == "cursor" else f"/good?at=1&{quote(said, safe='%')}"
            return [response(json.dumps({**rows(link), "said": said}).encode(), headers=headers)]
        return [FAILURES[name.replace("_", " ")](said, server.url)]

    server = Hostile(answer)
    return f"{FAST}streams:\n{text}", server


def leaks(text: str) -> list[str]:
    """The lines of a text in which the secret stands, and how it is encoded there."""
    lines = text.splitlines()
    forms = {name: form(SECRET).lower() for name, form in FORMS.items()}
    return [f"{name}: {line[:400]}" for name, form in forms.items() for line in lines if form in line.lower()]


@pytest.mark.case("X4")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_in_nothing_that_a_run_shows_or_keeps(
    tmp_path: Path, secret: str, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tap_rest")
    streams, server = echoing(FORMS[form], tuple(FAILURES))
    with server:
        auth = SECRETS[secret].replace("{url}", server.url)
        store = str(tmp_path / "tokens")
        result = run(tmp_path, server, f"{auth}\n{streams}", settings={"key": SECRET}, token_store=store, max_wait=600)
    assert isinstance(result.error, Postponed), "the web page brings a cool-off"
    assert len(result.records("good")) == 2
    assert len(result.engine.summary.failed) == len(FAILURES) - 1
    assert leaks(result.output.decode() + caplog.text + str(result.error)) == []


@pytest.mark.case("X4")
@pytest.mark.parametrize("secret", SECRETS)
def test_no_output_of_the_command_line_holds_a_secret(
    tmp_path: Path, secret: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """stdout with STATE, stderr at DEBUG, the names and contents of all captured files, and --explain."""
    monkeypatch.setenv("LOGLEVEL", "DEBUG")
    for form in FORMS.values():
        streams, server = echoing(form, FINAL)
        with server:
            file = declared(tmp_path, server.url, SECRETS[secret].replace("{url}", server.url) + f"\n{streams}")
            settings = {"declaration": file, "token_store": str(tmp_path / "tokens")}
            settings |= {"key": SECRET} if "{settings.key}" in SECRETS[secret] else {}
            assert status_of(config(**settings, capture=str(tmp_path / "kept"))) == 3
            assert status_of(config(**settings), "--explain", "good") == 0
            assert status_of(config(**settings), "--stream", "good", "--limit", "1") == 0
        shown = capsys.readouterr()
        assert leaks(shown.out + shown.err) == []
    kept = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert len(kept) > 20
    for path in kept:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode(errors="surrogateescape")
        assert leaks(f"{path} {text}") == [], path


@pytest.mark.case("X4")
@pytest.mark.parametrize("around", ["{}", "?a=1&b={}", '{{"a": "{}"}}', "GET http://x.test/{}/x", "\u202e{}\n"])
def test_a_secret_encoded_twice_or_in_the_other_case_is_known(around: str) -> None:
    forms = [form(SECRET) for form in FORMS.values()]
    forms += [FORMS["percent"](form) for form in forms] + [FORMS["hex"](SECRET).upper()]
    forms += [FORMS["percent"](SECRET).replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d")]
    forms += [base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")]
    redactor = Redactor([SECRET])
    for form in forms:
        assert form[2:-2] not in redactor.values(around.format(form)), form


@pytest.mark.case("X4")
def test_no_mistake_in_a_config_repeats_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for key in ([SECRET], {"a": SECRET}, f"{SECRET}\r\nX: 1", f"{SECRET}\0"):
        file = declared(tmp_path, "http://127.0.0.1:9", f"{KEYED}streams: {{rows: {{path: /rows, records: $}}}}\n")
        assert status_of(config(declaration=file, key=key)) == 2
        assert leaks(capsys.readouterr().err) == []
    for broken in (f'{{"key": "{SECRET}"', f'["{SECRET}"]', f'{{"key": {SECRET}}}'):
        (tmp_path / "config.json").write_text(broken)
        assert status_of(f"--config={tmp_path / 'config.json'}") == 2
        assert leaks(capsys.readouterr().err) == []


# --- X6, X7: declarations ---------------------------------------------------------------------------------------------

YAML = [
    "a: !!python/name:os.system ''",
    "a: !!python/module:os ''",
    "a: !!python/object/new:os.system [id]",
    "a: !!python/tuple [1]",
    "a: !!binary aGk=",
    "a: !!set {x}",
    "a: !!omap [x: 1]",
    "a: !<tag:yaml.org,2002:python/object/apply:os.system> [id]",
    "%TAG ! tag:yaml.org,2002:python/\n---\na: !object/apply:os.system [id]",
    "a: &a {x: 1}\nb: {<<: *a, <<: *a}",
    "{}: 1",
    "a: {x: 1, 'x': 2}",
    '"a": 1\na: 2',
    "a: 1\nA: 1\na: 2",
]


@pytest.mark.case("X6")
@pytest.mark.parametrize("text", YAML)
def test_yaml_that_makes_objects_or_says_a_thing_twice_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "api.yaml").write_text(text)
    with pytest.raises(DeclarationError):
        load(tmp_path / "api.yaml")


PAYLOADS = [
    "{settings.token}",
    "{settings.__class__}",
    "{settings.x.__class__.__mro__}",
    "{settings}",
    "{0}",
    "{}",
    "{{7*7}}",
    "{{ config.items() }}",
    "{% for x in y %}",
    "${7*7}",
    "#{7*7}",
    "<%= 7*7 %>",
    "{settings.x!r}",
    "{settings.x:>99}",
    "{settings.x|eval}",
    "{settings.x|%(x)s}",
    "{settings[token]}",
    "{env.HOME}",
    "{parent.id}",
    "{cursor}",
    "{bookmark}",
    "%(token)s",
    "$TOKEN",
    "__import__('os').system('id')",
]
SLOTTED = """
settings: {x: {kind: string}, token: {sensitive: true}}
auth: {type: bearer, token: "{settings.token}"}
streams:
  rows:
    path: /rows/{settings.x}
    records: items
    params: {q: "{settings.x}"}
    include: {x: "{settings.x}"}
    paginator: {type: cursor, path: next, param: c}
"""


@pytest.mark.case("X7")
@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_template_in_a_setting_or_an_answer_is_just_text(tmp_path: Path, payload: str) -> None:
    answers = iter([{"items": [{"id": payload}], "next": payload}, {"items": [], "next": None}])
    with json_api(lambda *_: next(answers)) as server:
        result = run(tmp_path, server, FAST + SLOTTED, settings={"x": payload, "token": "canary-7"})
    assert result.error is None
    assert result.records() == [{"x": payload, "id": payload}]
    first, second = (seen.split()[1] for seen in server.seen)
    assert first.startswith(f"/rows/{quote(payload, safe='/@:,;=+$!*' + chr(39) + '()~')}?q=")
    assert unquote(second.removeprefix(f"{first}&c=")) == payload
    assert "canary" not in first + second


@pytest.mark.case("X7")
@pytest.mark.parametrize("payload", [text for text in PAYLOADS if "{" in text and "{bookmark}" not in text])
def test_a_declaration_that_asks_for_more_than_there_is_is_a_mistake(tmp_path: Path, payload: str) -> None:
    text = SLOTTED.replace('q: "{settings.x}"', f'q: "{payload}"')
    with pytest.raises(DeclarationError):
        load(written(tmp_path, text))


@pytest.mark.case("X7")
@given(st.text(min_size=1).filter(lambda text: text.isprintable() and not {".", ".."} & set(text.split("/"))))
def test_whatever_a_setting_holds_it_is_put_in_once_and_stays_in_its_place(value: str) -> None:
    text = f"name: tap-x\nbase_url: http://x.test/api\n{textwrap.dedent(SLOTTED)}"
    request = _loaded(text).bind({"x": value, "token": "canary"}).streams["rows"].request()
    assert request.param("q") == value
    assert request.full_url.count("?") == 1
    assert request.full_url.startswith("http://x.test/api/rows/")
    assert "canary" not in request.full_url


def _loaded(text: str) -> Any:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return load(file.name)


# --- X11, X13, X14, X16, X17 ------------------------------------------------------------------------------------------


@pytest.mark.case("X11")
@pytest.mark.parametrize(
    "environment",
    [{"REQUESTS_CA_BUNDLE": ""}, {"CURL_CA_BUNDLE": ""}, {"PYTHONHTTPSVERIFY": "0"}, {"SSL_CERT_FILE": ""}],
    ids=str,
)
@pytest.mark.parametrize("trust_env", [False, True])
def test_nothing_turns_the_check_of_certificates_off(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *, trust_env: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Hostile(lambda _: [response(b"{}")], tls=True) as server:
        transport = Transport(trust_env=trust_env)
        with pytest.raises(TransportError) as caught:
            transport.send(Request(server.url))
        transport.close()
    assert (caught.value.kind, server.seen) == ("tls", [])


@pytest.mark.case("X13")
@pytest.mark.parametrize(
    "header",
    ["<" * 4_000_000, '<a>;"' * 800_000, "<a>" + ";a=" * 1_000_000, '<a>;rel="' + "\\" * 4_000_000, "<a>" * 1_000_000],
    ids=["targets", "quotes", "parameters", "escapes", "links"],
)
def test_a_link_header_is_read_in_one_pass(header: str) -> None:
    """With a pattern that goes back, each of these takes hours."""
    assert links(header) == {}


@pytest.mark.case("X14")
@pytest.mark.parametrize(
    "body", [b'{"m":"\x1b[2J\x1b]0;owned\x07"}', b"\xc2\x9b31m \xe2\x80\xae gpj.exe", b"\r\x08\x08ok"]
)
def test_what_a_server_says_can_not_steer_a_terminal(
    tmp_path: Path, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    streams = f"{FAST}streams: {{rows: {{path: /rows, records: items}}, more: {{path: /more, records: items}}}}\n"
    with Hostile(lambda _: [response(body, status="404 Not Found")]) as server:
        assert status_of(config(declaration=declared(tmp_path, server.url, streams))) == 1
    shown = capsys.readouterr().err
    assert "the server says" in shown
    assert [char for char in shown if not char.isprintable() and char != "\n"] == []


@pytest.mark.case("X16")
def test_a_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password canary\ndefault login me password canary\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Hostile(lambda _: [response(b"{}")]) as server:
        for trust_env in (False, True):
            transport = Transport(trust_env=trust_env)
            transport.send(Request(server.url))
            transport.close()
    assert all("authorization" not in seen.lower() for seen in server.seen)


PLANTED = ("yaml", "msgspec", "requests", "tap_declarations", "tap_rest", "sitecustomize", "client", "rows", "oauth2")


@pytest.mark.case("X17")
def test_no_module_is_loaded_from_the_folder_of_a_declaration_or_of_the_run(tmp_path: Path) -> None:
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\nraise SystemExit(9)\n"
        )
    with json_api(lambda *_: {"items": [{"id": 1}]}) as server:
        file = declared(tmp_path, server.url, "streams: {rows: {path: /rows, records: items}}\n")
        script = Path(sys.executable).with_name("tap-rest")
        ended = subprocess.run([script, config(declaration=file)], cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    assert not (tmp_path / "ran").exists()


@pytest.mark.case("X17")
def test_a_file_in_the_folder_of_the_run_does_not_stand_in_for_a_packaged_declaration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else whoever can leave a file there would be sent the credentials of its API."""
    monkeypatch.chdir(tmp_path)
    with json_api(lambda *_: {"items": [{"id": 1}]}) as server:
        (tmp_path / "sample").write_text(
            f"name: x\nbase_url: {server.url}\nstreams: {{a: {{path: /a, records: items}}}}"
        )
        assert status_of(config(declaration="sample"), "--discover") == 0
    assert "weather" in capsys.readouterr().out
