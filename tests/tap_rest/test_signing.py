"""Signatures over a request: published vectors, and what a server that checks them says."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest
from tests.tap_rest.harness import NOW, run
from tests.tap_rest.hostile import Hostile, response

from tap_rest.auth.signing import HmacAuth
from tap_rest.request import Request

START = Request("https://x.test/api/orders?b=2", params=(("a", "x y"),), body="{}", method="POST")
SHA512 = (
    "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
    "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
)
RFC: dict[str, Any] = {"key": "Jefe", "message": "what do ya want for nothing?"}


@pytest.mark.parametrize(
    ("options", "signature"),
    [
        ({"algorithm": "sha1"}, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        ({"algorithm": "sha256"}, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (
            {"algorithm": "sha512"},
            SHA512,
        ),
        ({"algorithm": "sha256", "encoding": "base64"}, "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="),
    ],
)
@pytest.mark.case("R002-21")
def test_the_vectors_of_rfc_2202_and_4231(options: dict[str, Any], signature: str) -> None:
    signed = HmacAuth(**RFC, **options).signed_at(START, NOW)
    assert dict(signed.headers) == {"X-Signature": signature}


def test_the_example_of_an_exchange_whose_signature_is_a_parameter() -> None:
    """The published one: the query is signed, and the signature is added to it at the end."""
    auth = HmacAuth(
        key="NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j",
        message="{query}",
        name="signature",
        location="query",
        timestamp_name="timestamp",
        timestamp_format="epoch_ms",
        headers={"X-Key": "name"},
    )
    query = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000"
    request = Request("https://x.test/order", params=tuple(parse_qsl(query)))
    signed = auth.signed_at(request, 1499827319.559)
    signature = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
    assert signed.full_url == f"https://x.test/order?{query}&timestamp=1499827319559&signature={signature}"
    assert dict(signed.headers) == {"X-Key": "name"}
    assert auth.stripped(signed).params == request.params
    echoed = Request(signed.full_url)
    assert auth.signed_at(echoed, 1.0).full_url.count("timestamp=") == 1


def test_a_message_is_made_of_what_is_sent() -> None:
    auth = HmacAuth(key="k", message="{method}|{path}|{query}|{timestamp}|{body}|{other}", timestamp_format="iso")
    wanted = "POST|/api/orders|b=2&a=x%20y|2027-01-15T08:00:00Z|{}|{other}"
    assert auth.signed_at(START, NOW).headers == (
        ("X-Signature", hmac.new(b"k", wanted.encode(), hashlib.sha256).hexdigest()),
    )


def test_a_part_of_a_request_has_no_format() -> None:
    with pytest.raises(msgspec.ValidationError, match="as they are sent"):
        msgspec.convert({"type": "hmac", "key": "k", "message": "{timestamp|iso}"}, HmacAuth)


@pytest.mark.parametrize(("key", "records"), [("shared", 1), ("another", 0)])
def test_a_server_that_checks_signatures_lets_a_declared_tap_in(tmp_path: Path, key: str, records: int) -> None:
    def answer(request: str) -> list[bytes]:
        head = dict(line.lower().split(": ", 1) for line in request.split("\r\n")[1:] if ": " in line)
        text = f"GET {re.split(' ', request)[1]} {head['x-time']} acme"
        good = hmac.compare_digest(hmac.new(b"shared", text.encode(), hashlib.sha256).hexdigest(), head["x-signature"])
        return [response(b'[{"id":1}]') if good else response(b"{}", status="401 Unauthorized")]

    declaration = """
    settings: {key: {sensitive: true}, account: {default: acme}}
    auth: {type: hmac, key: "{settings.key}", message: "{method} {path}?{query} {timestamp} {settings.account}",
           timestamp_name: X-Time}
    streams: {rows: {path: /rows, params: {q: ä b}, records: $}}
    """
    with Hostile(answer) as server:
        result = run(tmp_path, server, declaration, settings={"key": key})
    assert len(result.records()) == records
    assert len(server.seen) == 1
    assert (result.error is None) == (records == 1)
