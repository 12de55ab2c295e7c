"""Signatures over the request itself: by a template of what is signed, or as OAuth 1.0a or AWS have it.

What is signed is what is sent: the URL with its parameters, encoded as it will be, and the body.
"""

from __future__ import annotations

import base64
import hmac
from typing import Literal
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

import msgspec

from tap_rest.auth.flow import AuthKind, Flow, Placed, Secret, Tokens, from_extra, without_param
from tap_rest.language.replication import SLOT, Format, formatted, slots
from tap_rest.request import Request

SLOTS = ("method", "path", "query", "body", "timestamp")
"""What a template may ask for, of the request as it is sent."""


class HmacAuth(Placed, tag="hmac", frozen=True, kw_only=True):
    """A keyed hash of the request.

    Attributes:
        key: The shared secret.
        message: What is signed: text with `{method}`, `{path}`, `{query}` (encoded, without its question mark),
            `{body}` and `{timestamp}`.
        algorithm: The hash.
        encoding: How the signature is written.
        timestamp_name: Header, or query parameter with `in: query`, that takes the time; empty for none.
        timestamp_format: How the time is written.
        headers: Further headers, the key's name for example.
    """

    key: Secret
    message: str
    name: str = "X-Signature"
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    timestamp_name: str = ""
    timestamp_format: Format = "epoch_s"
    headers: dict[str, str] = {}

    def __post_init__(self) -> None:
        if any(how and slot in SLOTS for slot, how in slots(self.message)):
            raise ValueError("a message holds the parts of a request as they are sent, the time in timestamp_format")

    def flow(self, request: Request, tokens: Tokens) -> Flow:
        yield self.signed_at(request, tokens.now())

    def signed_at(self, request: Request, now: float) -> Request:
        """The request with its signature, as of a time in seconds since the epoch."""
        time = formatted(str(now), self.timestamp_format)
        request = self.stripped(request).with_headers(self.headers)
        if self.timestamp_name:
            stamp = {self.timestamp_name: time}
            request = request.with_params(**stamp) if self.location == "query" else request.with_headers(stamp)
        parts = urlsplit(request.full_url)
        values = (request.method, parts.path, parts.query, request.body, time)
        known = dict(zip(SLOTS, values, strict=True))
        message = SLOT.sub(lambda slot: known.get(slot[1], slot[0]), self.message)
        digest = hmac.digest(self.key.encode(), message.encode(), self.algorithm)
        return self.placed(request, digest.hex() if self.encoding == "hex" else base64.b64encode(digest).decode())

    def stripped(self, request: Request) -> Request:
        request = super().stripped(request)
        stamped = self.timestamp_name and self.location == "query"
        return without_param(request, self.timestamp_name) if stamped else request


class OAuth1Auth(AuthKind, tag="oauth1a", frozen=True, kw_only=True):
    """OAuth 1.0a, in the `Authorization` header; needs `pip install 'daykeep[oauth1]'`.

    Attributes:
        consumer_key: The client's name.
        consumer_secret: Its secret.
        token: The account's token; empty for requests in the name of the client alone.
        token_secret: Its secret.
        signature_method: The hash.
        realm: Goes along in the header, unsigned.
    """

    consumer_key: str
    consumer_secret: Secret
    token: str = ""
    token_secret: Secret = ""
    signature_method: Literal["HMAC-SHA1", "HMAC-SHA256"] = "HMAC-SHA1"
    realm: str = ""

    def flow(self, request: Request, tokens: Tokens) -> Flow:
        client = from_extra("oauthlib.oauth1", "oauth1").Client(
            self.consumer_key,
            self.consumer_secret,
            self.token or None,
            self.token_secret or None,
            signature_method=self.signature_method,
            realm=self.realm or None,
            timestamp=str(int(tokens.now())),
        )
        headers = {name: text for name, text in request.headers if name.lower() == "content-type"}
        form = any(text.startswith("application/x-www-form-urlencoded") for text in headers.values())
        url, signed, _ = client.sign(encoded(request), request.method, request.body if form else None, headers)
        sent = msgspec.structs.replace(request, url=url, params=())
        yield sent.with_headers({"Authorization": signed["Authorization"]})


class AwsSigV4Auth(AuthKind, tag="aws_sigv4", frozen=True, kw_only=True):
    """Signature version 4 of AWS; needs `pip install 'daykeep[aws]'`.

    Attributes:
        service: The name that the service signs under, `ce` for Cost Explorer.
        region: Its region.
        access_key: The key's name.
        secret_key: The key.
        session_token: Goes with a temporary key.
    """

    service: str
    region: str
    access_key: str
    secret_key: Secret
    session_token: Secret = ""

    def flow(self, request: Request, tokens: Tokens) -> Flow:  # noqa: ARG002 - the library looks at the clock itself
        url, names = encoded(request), ("auth", "awsrequest", "credentials")
        auth, awsrequest, credentials = (from_extra(f"botocore.{name}", "aws") for name in names)
        asked = awsrequest.AWSRequest(request.method, url, dict(request.headers), request.body.encode())
        key = credentials.Credentials(self.access_key, self.secret_key, self.session_token or None)
        kind = auth.S3SigV4Auth if self.service == "s3" else auth.SigV4Auth
        kind(key, self.service, self.region).add_auth(asked)
        yield msgspec.structs.replace(request, url=url, params=(), headers=tuple(asked.headers.items()))


def encoded(request: Request) -> str:
    """The full URL, each name and value of its query encoded as RFC 3986 has it: a signature depends on that."""
    parts = urlsplit(request.full_url)
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    query = "&".join(f"{_encoded(name)}={_encoded(text)}" for name, _, text in pairs)
    return urlunsplit(parts._replace(query=query))


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text.replace("+", " ")), safe="")
