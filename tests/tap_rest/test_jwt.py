"""Signed claims: verified by a library that did not sign them, and by a server that nobody here wrote."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import joserfc.jwk
import joserfc.jwt
import msgspec
import pytest
from authlib.integrations.flask_oauth2 import AuthorizationServer  # type: ignore[import-untyped]
from authlib.oauth2.rfc6749 import ClientMixin  # type: ignore[import-untyped]
from authlib.oauth2.rfc7523 import JWTBearerGrant  # type: ignore[import-untyped]
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.tap_rest.harness import NOW, FastClock, Run, run
from tests.tap_rest.hostile import Hostile, response
from werkzeug.serving import make_server

from tap_rest.auth.jwt import SKEW, Assertion, JwtAuth
from tap_rest.engine.tokens import RunTokens
from tap_rest.errors import ConfigError, CredentialsRefused
from tap_rest.request import Request
from tap_rest.tap import declared_tap

SECRET = "a shared secret of more than 32 bytes"
STREAMS = "streams: {rows: {path: /rows, records: $}}"


def pem(key: Any) -> str:
    pkcs8, open_text = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    text: bytes = key.private_bytes(serialization.Encoding.PEM, pkcs8, open_text)
    return text.decode()


RSA, EC = pem(rsa.generate_private_key(65537, 2048)), pem(ec.generate_private_key(ec.SECP256R1()))
KEYS = {"RS256": RSA, "ES256": EC, "HS256": SECRET}


def verified(token: str, algorithm: str = "RS256") -> joserfc.jwt.Token:
    kinds: dict[str, Any] = {"RS256": joserfc.jwk.RSAKey, "ES256": joserfc.jwk.ECKey, "HS256": joserfc.jwk.OctKey}
    return joserfc.jwt.decode(token, kinds[algorithm].import_key(KEYS[algorithm]), algorithms=[algorithm])


@pytest.mark.case("R002-21")
@pytest.mark.parametrize("algorithm", KEYS)
def test_another_library_finds_the_signature_right_and_the_claims_as_declared(algorithm: Any) -> None:
    claims: dict[str, Any] = {"iss": "app", "sub": "me@x.test", "aud": ["a", "b"], "scope": "read", "admin": True}
    made = Assertion(key=KEYS[algorithm], claims=claims, algorithm=algorithm, key_id="k1", lifetime=300)
    token = verified(made.token(NOW, aud="elsewhere"), algorithm)
    assert token.header == {"alg": algorithm, "typ": "JWT", "kid": "k1"}
    assert token.claims == {**claims, "iat": NOW - SKEW, "exp": NOW - SKEW + 300}


@pytest.mark.parametrize(
    "text", [RSA, RSA.replace("\n", "\\n"), RSA.strip()], ids=["as it is", "escaped", "without its end"]
)
def test_a_key_is_taken_with_its_line_breaks_and_with_escaped_ones(text: str) -> None:
    assert verified(Assertion(key=text, claims={"iss": "app"}).token(NOW)).claims["iss"] == "app"


def test_a_key_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "api.yaml").write_text(
        'name: tap-x\nbase_url: "https://x.test"\nsettings: {key: {sensitive: true}, other: {}}\n'
        f'auth: {{type: jwt, key: "{{settings.key}}", claims: {{iss: "{{settings.other}}"}}}}\n{STREAMS}'
    )
    (tmp_path / "key.pem").write_text(RSA)
    tap = declared_tap(tmp_path / "api.yaml")
    auth = tap(config={"key": f"file:{tmp_path}/key.pem", "other": "file:x"}).bound.auth
    assert isinstance(auth, JwtAuth)
    assert verified(auth.token(NOW)).claims["iss"] == "file:x"
    with pytest.raises(ConfigError, match="none: the file of the setting 'key' can't be read"):
        _ = tap(config={"key": "file:none", "other": "x"}).bound


def test_times_are_not_declared() -> None:
    with pytest.raises(msgspec.ValidationError, match="exp and iat are made from lifetime"):
        msgspec.convert({"type": "jwt", "key": "k", "claims": {"iat": 1, "exp": 2}}, JwtAuth)


def test_a_bearer_jwt_serves_for_half_its_life() -> None:
    clock, told = FastClock(), list[str]()
    auth = JwtAuth(key=RSA, claims={"iss": "app"})
    tokens, seen = RunTokens(clock, (told.extend,)), []
    for _ in range(4):
        signed = next(auth.flow(Request("https://x.test/a"), tokens))
        seen.append(dict(signed.headers)["Authorization"].removeprefix("Bearer "))
        clock.wait((auth.lifetime - SKEW) / 4)
    clock.close()
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert told == [seen[0], seen[2]]
    assert verified(seen[2]).claims["exp"] > clock.now()


@pytest.mark.case("X4")
@pytest.mark.parametrize(
    "text",
    [RSA.replace("A", "B"), EC, SECRET, "-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END"],
    ids=["damaged", "of another algorithm", "no key", "cut"],
)
def test_a_key_that_is_none_ends_the_run_before_any_request_and_is_not_shown(tmp_path: Path, text: str) -> None:
    with Hostile(lambda _: [response(b"[]")]) as server:
        result = bearer(tmp_path, server, text)
    assert isinstance(result.error, ConfigError)
    assert result.error.exit_status == 2
    assert "the key of the JWT can't be used: a private key in PEM" in str(result.error)
    assert not server.seen
    assert not [line for line in text.replace("\\n", "\n").splitlines() if len(line) > 20 and line in str(result.error)]


@pytest.mark.parametrize("missing", ["jwt", "cryptography"])
def test_a_missing_package_is_one_line_that_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with Hostile(lambda _: [response(b"[]")]) as server:
        result = bearer(tmp_path, server, RSA)
    assert isinstance(result.error, ConfigError)
    assert "pip install 'daykeep[jwt]'" in str(result.error)
    assert not server.seen


@pytest.mark.case("X4")
def test_what_signs_is_in_no_log_and_in_no_output_even_if_the_server_repeats_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens: list[str] = []

    def answer(request: str) -> list[bytes]:
        found = re.search(r"Authorization: Bearer (\S+)", request)
        tokens.append(found[1] if found else "")
        lines = [line for line in RSA.splitlines() if len(line) > 20]
        return [response(json.dumps({"message": [tokens[-1], lines[3]]}).encode(), status="403 Forbidden")]

    with Hostile(answer) as server, caplog.at_level(logging.DEBUG):
        result = bearer(tmp_path, server, RSA)
    shown = f"{caplog.text}{result.error}{result.output.decode()}"
    assert '["***", "***"]' in shown
    assert verified(tokens[0]).claims["iss"] == "app"
    assert not [secret for secret in (tokens[0], *RSA.splitlines()[1:-1]) if secret in shown]


def bearer(folder: Path, server: Hostile, key: str) -> Run:
    head = 'settings: {key: {sensitive: true}}\nauth: {type: jwt, key: "{settings.key}", claims: {iss: app}}\n'
    return run(folder, server, f"{head}{STREAMS}", settings={"key": key})


def test_a_log_in_request_signed_with_claims_gives_the_token_that_is_used(tmp_path: Path) -> None:
    def answer(request: str) -> list[bytes]:
        bearer = re.search(r"Authorization: Bearer (\S+)", request)
        assert bearer
        if request.startswith("POST /app/installations/7/access_tokens "):
            assert verified(bearer[1]).claims["iss"] == "app"
            return [response(b'{"token":"of-the-installation","expires_at":"2027-01-15T09:00:00Z"}', status="201 Ok")]
        return [response(b'[{"id":1}]' if bearer[1] == "of-the-installation" else b"[]")]

    with Hostile(answer) as server:
        declaration = f"""
        settings: {{key: {{sensitive: true}}}}
        auth: {{type: session, login_url: "{server.url}/app/installations/7/access_tokens", token_path: token,
               expires_path: expires_at, assertion: {{key: "{{settings.key}}", claims: {{iss: app}}}}}}
        {STREAMS}
        """
        result = run(tmp_path, server, declaration, settings={"key": RSA})
    assert result.error is None
    assert len(result.records()) == 1


# --- a server that nobody here wrote ----------------------------------------------------------------------------------


class Client(ClientMixin):  # type: ignore[misc]  # it comes without types
    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == str(JWTBearerGrant.GRANT_TYPE)

    def get_allowed_scope(self, scope: str) -> str:
        return scope


class Granted(JWTBearerGrant):  # type: ignore[misc]  # it comes without types
    url = ""

    def resolve_issuer_client(self, issuer: str) -> Client | None:
        return Client() if issuer == "app" else None

    def resolve_client_public_key(self, _: Client) -> Any:
        return joserfc.jwk.RSAKey.import_key(RSA)

    def authenticate_user(self, subject: str) -> str | None:
        return subject if subject == "me@x.test" else None

    def has_granted_permission(self, *_: object) -> bool:
        return True

    def get_audiences(self) -> list[str]:
        return [self.url]


@pytest.fixture
def token_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The token URL of an Authlib server that checks assertions."""
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    app = flask.Flask("authorization server")
    authlib = AuthorizationServer(app, query_client=lambda _: Client(), save_token=lambda *_: None)
    authlib.register_grant(Granted)
    app.route("/token", methods=["POST"])(authlib.create_token_response)
    server = make_server("127.0.0.1", 0, app)
    Granted.url = f"http://127.0.0.1:{server.port}/token"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Granted.url
    server.shutdown()
    server.server_close()


@pytest.mark.case("R002-7")
@pytest.mark.case("R002-21")
@pytest.mark.parametrize(
    ("claims", "key", "said"),
    [
        ("iss: app, sub: me@x.test", RSA, ""),
        ("iss: app, sub: me@x.test", pem(rsa.generate_private_key(65537, 2048)), "invalid_grant"),
        ("iss: another, sub: me@x.test", RSA, "invalid_grant"),
        ("iss: app, sub: you@x.test", RSA, "invalid_grant"),
        ("iss: app, sub: me@x.test, aud: elsewhere", RSA, "invalid_grant"),
    ],
    ids=["good", "another key", "another issuer", "another subject", "another audience"],
)
def test_an_authlib_server_gives_a_token_for_claims_that_are_right(
    tmp_path: Path, token_server: str, claims: str, key: str, said: str
) -> None:
    def answer(request: str) -> list[bytes]:
        return [response(b'[{"id":1}]' if re.search(r"Authorization: Bearer \w{20,}", request) else b"[]")]

    declaration = f"""
    settings: {{key: {{sensitive: true}}}}
    auth: {{type: oauth2, grant: jwt_bearer, token_url: "{token_server}", scope: read,
           assertion: {{key: "{{settings.key}}", claims: {{{claims}}}}}}}
    {STREAMS}
    """
    clock = FastClock(time.time())
    with Hostile(answer) as server:
        result = run(tmp_path, server, declaration, settings={"key": key}, clock=clock)
    assert len(result.records()) == (0 if said else 1)
    assert isinstance(result.error, CredentialsRefused) == bool(said)
    assert said in str(result.error)
