"""Signatures over the request itself: a shared key and a template of what is signed."""

from __future__ import annotations

import base64
import hmac
from typing import Literal
from urllib.parse import urlsplit

from tap_rest.auth.flow import Flow, Placed, Tokens, without_param
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

    key: str
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

    def secrets(self) -> tuple[str, ...]:
        return (self.key,)
