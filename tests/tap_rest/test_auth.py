"""A contract for every kind of auth in the union, and what each sends."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from tests.tap_rest.harness import FastClock

from tap_rest.auth.auth import ApiKeyAuth, Auth, BasicAuth, BearerAuth, NoAuth
from tap_rest.auth.oauth import OAuth2Auth
from tap_rest.auth.session import SessionAuth
from tap_rest.auth.signing import HmacAuth
from tap_rest.engine.tokens import RunTokens
from tap_rest.page import Page
from tap_rest.redaction import MASK, Redactor
from tap_rest.request import Private, Request

START = Request("https://x.test/a?b=c", params=(("q", "1"),), headers=(("Cookie", "a=b"),))

EXAMPLES: dict[type[Any], Auth] = {
    NoAuth: NoAuth(),
    ApiKeyAuth: ApiKeyAuth(key="s3cret-key", name="api_key", location="query"),
    BasicAuth: BasicAuth(username="me", password="s3cret-word"),
    BearerAuth: BearerAuth(token="s3cret-token"),
    OAuth2Auth: OAuth2Auth(
        grant="client_credentials", token_url="https://x.test/t", client_id="me", client_secret="s3cret-word"
    ),
    SessionAuth: SessionAuth(
        login_url="https://x.test/login", body={"user": "me", "password": "s3cret-word"}, token_path="access_token"
    ),
    HmacAuth: HmacAuth(key="s3cret-key", message="{method}{path}{timestamp}", timestamp_name="X-Time"),
}
TOKENS = b'{"access_token":"s3cret-fetched"}'


def first_signed(auth: Auth, redactor: Redactor) -> Request:
    """The first request of a flow that goes to the API; a token is given to those that ask for one."""
    clock = FastClock()
    flow = auth.flow(START, RunTokens(clock, (redactor.learn,)))
    asked = next(flow)
    if isinstance(asked, Private):
        shown = Redactor(auth.secrets()).text(f"{asked.full_url} {asked.headers} {asked.body}")
        assert "s3cret" not in shown
        asked = flow.send(Page(asked, 200, {}, TOKENS))
    flow.close()
    clock.close()
    return asked


@pytest.mark.parametrize("kind", get_args(Auth), ids=lambda kind: kind.__name__)
class TestContract:
    def test_has_an_example(self, kind: type[Auth]) -> None:
        assert kind in EXAMPLES, f"add a row for {kind.__name__} to EXAMPLES"

    def test_yields_a_signed_request_and_leaves_the_given_one_alone(self, kind: type[Auth]) -> None:
        auth = EXAMPLES[kind]
        before = msgspec.json.encode(START)
        signed = first_signed(auth, Redactor())
        assert signed == first_signed(auth, Redactor())
        assert msgspec.json.encode(START) == before
        assert (signed == START) == (kind is NoAuth)
        assert auth.stripped(signed).params == START.params

    def test_survives_a_round_trip_of_its_options(self, kind: type[Auth]) -> None:
        assert msgspec.json.decode(msgspec.json.encode(EXAMPLES[kind]), type=Auth) == EXAMPLES[kind]

    @pytest.mark.case("X4")
    def test_names_its_secrets(self, kind: type[Auth]) -> None:
        auth = EXAMPLES[kind]
        redactor = Redactor(auth.secrets())
        shown = redactor.text(str(first_signed(auth, redactor)))
        assert "s3cret" not in shown
        assert (MASK in shown) == (kind not in (NoAuth, HmacAuth))  # a signature is not what it is made with


@pytest.mark.parametrize(
    ("auth", "signed"),
    [
        (BearerAuth(token="t"), START.with_headers({"Authorization": "Bearer t"})),
        (BasicAuth(username="me", password="wörd"), START.with_headers({"Authorization": "Basic bWU6d8O2cmQ="})),
        (ApiKeyAuth(key="k", name="X-Key", prefix="Token "), START.with_headers({"X-Key": "Token k"})),
        (ApiKeyAuth(key="k", name="key", location="query"), START.with_params(key="k")),
        (ApiKeyAuth(key="k", name="sid", location="cookie"), START.with_headers({"Cookie": "a=b; sid=k"})),
    ],
)
def test_what_is_sent(auth: Auth, signed: Request) -> None:
    assert auth.signed(START) == signed


@pytest.mark.case("X4")
@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://x.test/a?api_key=k&page=2", "https://x.test/a?page=2"),
        ("https://x.test/a?page=%2B2&api%5Fkey=k", "https://x.test/a?page=%2B2"),
        ("https://x.test/a?api_key=k", "https://x.test/a"),
        ("https://x.test/a?api_keys=k", "https://x.test/a?api_keys=k"),
        ("https://x.test/a", "https://x.test/a"),
    ],
)
def test_a_key_that_a_server_echoes_into_a_link_is_taken_out(url: str, kept: str) -> None:
    auth = ApiKeyAuth(key="k", name="api_key", location="query")
    assert auth.stripped(Request(url, params=(("api_key", "k"), ("x", "1")))) == Request(kept, params=(("x", "1"),))


def test_a_key_in_the_query_is_sent_once() -> None:
    auth = ApiKeyAuth(key="k", name="api_key", location="query")
    assert auth.signed(Request("https://x.test/a?api_key=old")).full_url == "https://x.test/a?api_key=k"
