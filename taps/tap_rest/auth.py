"""Auth: how a request is signed just before it is sent. Options are the fields, behaviour is `flow`.

A flow is a generator in the manner of httpx: it yields the signed request, is sent the page that came back, and may
yield another. The kinds here are static, they yield once. What they sign never reaches a checkpoint, a log or the
STATE.
"""

from __future__ import annotations

import base64
from collections.abc import Generator
from typing import ClassVar, Literal
from urllib.parse import unquote_plus, urlsplit, urlunsplit

import msgspec

from tap_rest.component import Component
from tap_rest.page import Page
from tap_rest.request import Request


class AuthKind(Component, frozen=True, kw_only=True):
    """What every kind of auth can do."""

    renewable: ClassVar[bool] = False
    """Whether the flow has another request to offer after a 401."""

    def flow(self, request: Request) -> Generator[Request, Page, None]:
        yield self.signed(request)

    def signed(self, request: Request) -> Request:
        """The request with credentials."""
        return request

    def stripped(self, request: Request) -> Request:
        """The request without credentials that a server echoed into a link: how a next request is stored."""
        return request

    def secrets(self) -> tuple[str, ...]:
        """Texts to redact wherever they turn up."""
        return ()


class NoAuth(AuthKind, tag="none", frozen=True, kw_only=True):
    """No credentials."""


class ApiKeyAuth(AuthKind, tag="api_key", frozen=True, kw_only=True):
    """A secret under a name.

    Attributes:
        key: The secret, `"{settings.api_key}"`.
        name: Header, query parameter or cookie that takes it.
        location: Where that is: `in: header`, `query` or `cookie`.
        prefix: Text before the secret, with its space: `"Token "`.
    """

    key: str
    name: str
    location: Literal["header", "query", "cookie"] = msgspec.field(name="in", default="header")
    prefix: str = ""

    def signed(self, request: Request) -> Request:
        value = f"{self.prefix}{self.key}"
        if self.location == "query":
            return self.stripped(request).with_params(**{self.name: value})
        if self.location == "header":
            return request.with_headers({self.name: value})
        cookies = [text for name, text in request.headers if name.lower() == "cookie"]
        return request.with_headers({"Cookie": "; ".join([*cookies, f"{self.name}={value}"])})

    def stripped(self, request: Request) -> Request:
        if self.location != "query":
            return request
        parts = urlsplit(request.url)
        kept = [pair for pair in parts.query.split("&") if unquote_plus(pair.partition("=")[0]) != self.name]
        url = (
            request.url if len(kept) == parts.query.count("&") + 1 else urlunsplit(parts._replace(query="&".join(kept)))
        )
        return msgspec.structs.replace(request, url=url).with_params(**{self.name: None})

    def secrets(self) -> tuple[str, ...]:
        return (self.key,)


class BasicAuth(AuthKind, tag="basic", frozen=True, kw_only=True):
    """User name and password.

    Attributes:
        username: The user name; some APIs want a key here and no password.
        password: The password.
    """

    username: str
    password: str = ""

    def signed(self, request: Request) -> Request:
        return request.with_headers({"Authorization": f"Basic {self._encoded()}"})

    def secrets(self) -> tuple[str, ...]:
        return (self.password, self._encoded())

    def _encoded(self) -> str:
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class BearerAuth(AuthKind, tag="bearer", frozen=True, kw_only=True):
    """A token in the `Authorization` header.

    Attributes:
        token: The token, `"{settings.token}"`.
    """

    token: str

    def signed(self, request: Request) -> Request:
        return request.with_headers({"Authorization": f"Bearer {self.token}"})

    def secrets(self) -> tuple[str, ...]:
        return (self.token,)


Auth = NoAuth | ApiKeyAuth | BasicAuth | BearerAuth
