"""OAuth 1.0a: published signatures, and a provider of another library that checks each request."""

from __future__ import annotations

import logging
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from authlib.oauth1 import ClientMixin, ResourceProtector, TokenCredentialMixin  # type: ignore[import-untyped]
from authlib.oauth1.errors import OAuth1Error  # type: ignore[import-untyped]
from tests.tap_rest.harness import FastClock, Run, run
from tests.tap_rest.hostile import Hostile, response

from tap_rest.auth.signing import OAuth1Auth
from tap_rest.engine.tokens import RunTokens
from tap_rest.errors import ConfigError
from tap_rest.request import Request

SECRETS = {"consumer": "consumer-s3cret", "token": "token-s3cret"}


@pytest.mark.case("R002-21")
@pytest.mark.parametrize(
    ("auth", "nonce", "at", "request_", "signature"),
    [
        (
            OAuth1Auth(
                consumer_key="dpf43f3p2l4k3l03",
                consumer_secret="kd94hf93k423kf44",
                token="nnch734d00sl2jdk",
                token_secret="pfkkdhi9sl3r4s00",
                realm="http://photos.example.net/",
            ),
            "kllo9940pd9333jh",
            1191242096,
            Request("http://photos.example.net/photos", params=(("file", "vacation.jpg"), ("size", "original"))),
            "tR3%2BTy81lMeYAr%2FFid0kMTYa%2FWM%3D",
        ),
        (
            OAuth1Auth(
                consumer_key="xvz1evFS4wEEPTGEFPHBog",
                consumer_secret="kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw",
                token="370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb",
                token_secret="LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE",
            ),
            "kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg",
            1318622958,
            Request(
                "https://api.twitter.com/1/statuses/update.json?include_entities=true",
                method="POST",
                headers=(("Content-Type", "application/x-www-form-urlencoded"),),
                body="status=Hello%20Ladies%20%2b%20Gentlemen%2c%20a%20signed%20OAuth%20request%21",
            ),
            "tnnArxj06cWHq44gCs1OSKk%2FjLY%3D",
        ),
    ],
    ids=["OAuth Core 1.0, A.5", "the form of a well-known API's documentation"],
)
def test_a_published_signature(
    monkeypatch: pytest.MonkeyPatch, auth: OAuth1Auth, nonce: str, at: float, request_: Request, signature: str
) -> None:
    monkeypatch.setattr("oauthlib.oauth1.rfc5849.generate_nonce", lambda: nonce)
    clock = FastClock(at)
    signed = next(auth.flow(request_, RunTokens(clock)))
    clock.close()
    header = dict(signed.headers)["Authorization"]
    assert f'oauth_signature="{signature}"' in header
    assert ('realm="' in header) == bool(auth.realm)
    assert (signed.full_url, signed.body) == (request_.full_url, request_.body)


class Client(ClientMixin):  # type: ignore[misc]  # it comes without types
    def get_client_secret(self) -> str:
        return SECRETS["consumer"]


class Credential(TokenCredentialMixin):  # type: ignore[misc]  # it comes without types
    def get_oauth_token(self) -> str:
        return "me"

    def get_oauth_token_secret(self) -> str:
        return SECRETS["token"]


class Provider(ResourceProtector):  # type: ignore[misc]  # it comes without types
    """Answers a request that Authlib finds well signed, each nonce once."""

    def __init__(self) -> None:
        self.nonces: set[str] = set()

    def get_client_by_id(self, client_id: str) -> Client | None:
        return Client() if client_id == "app" else None

    def get_token_credential(self, request: Any) -> Credential | None:
        return Credential() if request.token == "me" else None

    def exists_nonce(self, nonce: str, _: Any) -> bool:
        known = nonce in self.nonces
        self.nonces.add(nonce)
        return known

    def __call__(self, text: str) -> list[bytes]:
        head, _, body = text.partition("\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        method, target, _ = head.split(" ", 2)
        try:
            self.validate_request(method, f"http://{headers['Host']}{target}", body, headers)
        except OAuth1Error as error:
            return [response(b'{"message":"%s"}' % error.error.encode(), status="401 Unauthorized")]
        return [response(b'[{"id":1}]' if len(self.nonces) < 3 else b"[]")]


def play(folder: Path, server: Hostile, *, stream: str = "path: /rows", **settings: str) -> Run:
    declaration = f"""
    settings: {{consumer: {{sensitive: true}}, token: {{sensitive: true}}}}
    auth: {{type: oauth1a, consumer_key: app, consumer_secret: "{{settings.consumer}}", token: me,
           token_secret: "{{settings.token}}"}}
    streams:
      rows: {{{stream}, params: {{q: "ä b+c&d", "filter[a]": "1,2"}}, records: $,
             paginator: {{type: page_number, page_size: 1}}}}
    """
    clock = FastClock(time.time())
    return run(folder, server, declaration, settings={**SECRETS, **settings}, clock=clock)


@pytest.mark.parametrize("stream", ["path: /rows", "path: /rows, method: POST, body: {a: 1}"], ids=["GET", "POST"])
def test_a_provider_that_checks_signatures_and_nonces_lets_a_declared_tap_in(tmp_path: Path, stream: str) -> None:
    with Hostile(Provider()) as server:
        result = play(tmp_path, server, stream=stream)
    assert result.error is None
    assert len(server.seen) == 3
    assert "filter%5Ba%5D=1%2C2" in server.seen[0]


@pytest.mark.case("X4")
@pytest.mark.parametrize("wrong", ["consumer", "token"])
def test_a_wrong_secret_is_refused_and_no_secret_is_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    with Hostile(Provider()) as server, caplog.at_level(logging.DEBUG):
        result = play(tmp_path, server, **{wrong: "an0ther-s3cret"})
    assert "refused (401)" in str(result.error)
    assert len(server.seen) == 1
    assert not re.findall("s3cret", f"{caplog.text}{result.error}{server.seen}")


def test_a_missing_package_is_one_line_that_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "oauthlib.oauth1", None)
    with Hostile(Provider()) as server:
        result = play(tmp_path, server)
    assert isinstance(result.error, ConfigError)
    assert "pip install 'daykeep[oauth1]'" in str(result.error)
