"""What each kind of auth sends, and what it takes back; what holds for all of them is in test_contracts.py."""

from __future__ import annotations

import pytest

from tap_rest.auth.auth import ApiKeyAuth, Auth, BasicAuth, BearerAuth
from tap_rest.request import Request

START = Request("https://x.test/a?b=c", params=(("q", "1"),), headers=(("Cookie", "a=b"),))


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
