"""Secrets that must not be read."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_rest.redaction import MASK, Redactor

SECRETS = ["hunter2-x", "a/b+c=d e", "tökén", 'quo"te\\d', "0123456789abcdef0123456789abcdef"]


@pytest.mark.case("X4")
@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("before", ["", "u:", "us:", "usr:"])
def test_a_secret_is_masked_in_every_encoding(secret: str, before: str) -> None:
    whole = f"{before}{secret}:after".encode()
    texts = [
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret),
        secret.encode().hex(),
    ]
    texts += [base64.b64encode(whole).decode(), base64.urlsafe_b64encode(whole).decode()]
    redactor = Redactor(["", "abc", secret])
    for text in texts:
        shown = redactor.text(f"before {text} after")
        assert MASK in shown
        assert shown.startswith("before ")
        assert secret not in shown


@given(st.text(min_size=4), st.text(), st.text())
def test_a_secret_never_survives_between_any_texts(secret: str, before: str, after: str) -> None:
    assert secret == MASK or secret in MASK * 2 or secret not in Redactor([secret]).text(f"{before}\0{secret}\0{after}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://x.test/?api_key=zz&b=1", "GET https://x.test/?api_key=***&b=1"),
        ("?a=1&access_token=zz#x", "?a=1&access_token=***#x"),
        ("Authorization: Bearer zz\nAccept: a", "Authorization: ***\nAccept: a"),
        ("sent Bearer abcdefghi, then", "sent Bearer ***, then"),
        ('{"client_secret": "z\\"z", "a": 1}', '{"client_secret": ***, "a": 1}'),
        ('{"password":12345}', '{"password":***}'),
        ("Set-Cookie: sid=zz", "Set-Cookie: ***"),
        ("https://me:zz@x.test/", "https://me:***@x.test/"),
        ("the token was refused", "the token was refused"),
        ('"next_token": "abc"', '"next_token": "abc"'),
        ("?page_token=abc&monkey=1", "?page_token=abc&monkey=1"),
    ],
)
def test_what_has_a_secret_name_is_masked_and_nothing_else(text: str, shown: str) -> None:
    assert Redactor().text(text) == shown


def test_headers_are_masked_by_name_and_by_value() -> None:
    given = {"Authorization": "zz", "X-Api-Key": "zz", "X-Auth-Token": "zz", "ETag": '"hunter22"', "Accept": "a"}
    shown = {"Authorization": "***", "X-Api-Key": "***", "X-Auth-Token": "***", "ETag": '"***"', "Accept": "a"}
    assert Redactor(["hunter22"]).headers(given) == shown
