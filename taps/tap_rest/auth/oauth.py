"""OAuth 2.0: tokens got by one of its grants, as RFC 6749 has them and as APIs bend it."""

from __future__ import annotations

import base64
import json
from typing import Literal
from urllib.parse import quote, urlencode

import msgspec

from tap_rest.auth.flow import Fetched, Token, checked_token_url
from tap_rest.page import Page
from tap_rest.request import Private


class OAuth2Auth(Fetched, tag="oauth2", frozen=True, kw_only=True):
    """OAuth 2.0.

    A refresh token that the server replaces is on disk, in the folder `token_store`, before its access token is used;
    one that it does not replace stays. Nothing is asked twice where the answer to the first may have been lost.

    Attributes:
        grant: How tokens are got: `client_credentials`, `refresh_token` or `password`.
        token_url: Where.
        client_id: The client's name.
        client_secret: Its secret; empty for public clients.
        client_auth: How the two are sent: in a `form`, as `json`, or in a header (`basic`) beside a form.
        refresh_token: For the grant `refresh_token`, the one that a log-in gave; it is used once and then replaced.
        username: For the grant `password`.
        password: For the grant `password`.
        scope: What is asked for, words separated by blanks; empty for what the server gives by itself.
        params: Further members of the form or JSON object, `audience` for example.
        refresh_path: Path of the next refresh token in the answer.
    """

    grant: Literal["client_credentials", "refresh_token", "password"]
    token_url: str
    client_id: str
    client_secret: str = ""
    client_auth: Literal["form", "json", "basic"] = "form"
    refresh_token: str = ""
    username: str = ""
    password: str = ""
    scope: str = ""
    params: dict[str, str] = {}
    token_path: str = "access_token"  # noqa: S105 - a path
    refresh_path: str = "refresh_token"
    expires_path: str | None = "expires_in"

    def __post_init__(self) -> None:
        checked_token_url(self.token_url)
        wanted = {"refresh_token": ("refresh_token",), "password": ("username", "password")}.get(self.grant, ())
        for name in ("refresh_token", "username", "password"):
            if bool(getattr(self, name)) != (name in wanted):
                raise ValueError(f"the grant {self.grant} {'needs' if name in wanted else 'has no'} {name}")

    def token_request(self, before: Token, now: float) -> Private:  # noqa: ARG002 - for grants that say the time
        members = {
            "grant_type": self.grant,
            "refresh_token": self.rotates() and (before.refresh or self.refresh_token),
            "username": self.username,
            "password": self.password,
            "scope": self.scope,
        }
        if self.client_auth != "basic":
            members |= {"client_id": self.client_id, "client_secret": self.client_secret}
        sent = {**{name: text for name, text in members.items() if text}, **self.params}
        kind, body = "application/x-www-form-urlencoded", urlencode(sent)
        if self.client_auth == "json":
            kind, body = "application/json", json.dumps(sent)
        request = Private(self.token_url, method="POST", headers=(("Content-Type", kind),), body=body)
        return request.with_headers({"Authorization": self._basic()}) if self.client_auth == "basic" else request

    def next_token(self, page: Page, before: Token, now: float) -> Token | None:
        token = super().next_token(page, before, now)
        refresh = page.text_at(self.refresh_path) if self.rotates() else None
        return msgspec.structs.replace(token, refresh=refresh) if token and refresh else token

    def rotates(self) -> bool:
        return self.grant == "refresh_token"

    def kept_as(self) -> tuple[str, ...] | None:
        """A log-in of its own for each first refresh token, so that two accounts of a client never mix."""
        return (self.token_url, self.client_id, self.refresh_token) if self.rotates() else None

    def secrets(self) -> tuple[str, ...]:
        return (self.client_secret, self.refresh_token, self.password, self._basic().removeprefix("Basic "))

    def _basic(self) -> str:
        pair = f"{quote(self.client_id, safe='')}:{quote(self.client_secret, safe='')}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
