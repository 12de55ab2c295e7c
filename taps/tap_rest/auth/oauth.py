"""OAuth 2.0: tokens got by one of its grants, as RFC 6749 has them and as APIs bend it.

How a person logs in, for the grants `authorization_code` and `device_code`, is in engine/authorize.py; what that gave
is then renewed here like any other refresh token.
"""

from __future__ import annotations

import base64
from typing import Literal
from urllib.parse import quote, urlsplit

import msgspec

from tap_rest.auth.flow import CredentialsUnusable, Fetched, Secret, Token, checked_token_url, posted
from tap_rest.auth.jwt import Assertion
from tap_rest.page import Page
from tap_rest.request import Private

NEEDS = {
    "client_credentials": {"client_id"},
    "refresh_token": {"client_id", "refresh_token"},
    "password": {"client_id", "username", "password"},
    "jwt_bearer": {"assertion"},
    "authorization_code": {"client_id", "authorize_url"},
    "device_code": {"client_id", "device_url"},
}
LOG_INS = ("authorization_code", "device_code")
_URNS = {"jwt_bearer": "urn:ietf:params:oauth:grant-type:jwt-bearer"}


class OAuth2Auth(Fetched, tag="oauth2", frozen=True, kw_only=True):
    """OAuth 2.0.

    A refresh token that the server replaces is on disk, in the folder `token_store`, before its access token is used;
    one that it does not replace stays. Nothing is asked twice where the answer to the first may have been lost.

    Attributes:
        grant: How tokens are got: `client_credentials`, `refresh_token`, `password`, `jwt_bearer`; or by a person, who
            logs in once with `daykeep authorize`: `authorization_code` (with PKCE) or `device_code`.
        token_url: Where.
        client_id: The client's name.
        client_secret: Its secret; empty for public clients.
        client_auth: How the two are sent: in a `form`, as `json`, or in a header (`basic`) beside a form.
        refresh_token: For the grant `refresh_token`, the one that a log-in gave; it is used once and then replaced.
        username: For the grant `password`.
        password: For the grant `password`.
        assertion: For the grant `jwt_bearer`, the signed claims; their `aud` is token_url unless they say another.
        authorize_url: For the grant `authorization_code`, the page that the browser is sent to.
        authorize_params: Further query parameters of that page.
        redirect_url: Where on this machine the browser is sent back to; a free port is taken unless one is named.
        device_url: For the grant `device_code`, where a code for the person is got.
        scope: What is asked for, words separated by blanks; empty for what the server gives by itself.
        params: Further members of the form or JSON object, `audience` for example.
        refresh_path: Path of the next refresh token in the answer.
    """

    grant: Literal["client_credentials", "refresh_token", "password", "jwt_bearer", "authorization_code", "device_code"]
    token_url: str
    client_id: str = ""
    client_secret: Secret = ""
    client_auth: Literal["form", "json", "basic"] = "form"
    refresh_token: Secret = ""
    username: str = ""
    password: Secret = ""
    assertion: Assertion | None = None
    authorize_url: str = ""
    authorize_params: dict[str, str] = {}
    redirect_url: str = "http://127.0.0.1/callback"
    device_url: str = ""
    scope: str = ""
    params: dict[str, str] = {}
    token_path: str = "access_token"  # noqa: S105 - a path
    refresh_path: str = "refresh_token"
    expires_path: str | None = "expires_in"

    def __post_init__(self) -> None:
        for url in (self.token_url, self.authorize_url or self.token_url, self.device_url or self.token_url):
            checked_token_url(url)
        for name in sorted(set().union(*NEEDS.values())):
            needed = name in NEEDS[self.grant]
            if bool(getattr(self, name)) != needed and (needed or name != "client_id"):
                raise ValueError(f"the grant {self.grant} {'needs' if needed else 'has no'} {name}")
        if "{" in self.redirect_url:  # a setting has to be put in first
            return
        back = urlsplit(self.redirect_url)
        here = back.scheme == "http" and back.hostname in ("127.0.0.1", "localhost") and back.port != 0
        if not here or back.query or back.fragment:
            raise ValueError("a redirect URL is an http address of 127.0.0.1 or localhost without a query")

    def token_request(self, before: Token, now: float) -> Private:
        if not self.rotates():
            return self.asking(
                self.token_url,
                grant_type=_URNS.get(self.grant, self.grant),
                username=self.username,
                password=self.password,
                assertion=self.assertion.token(now, aud=self.token_url) if self.assertion else "",
                scope=self.scope,
            )
        refresh = before.refresh or self.refresh_token
        if not refresh:
            expired = "the log-in holds no longer, and gave nothing to renew it with"
            raise CredentialsUnusable(expired if before.access else "nobody has logged in yet", hint=self.log_in())
        scope = "" if self.grant in LOG_INS else self.scope
        return self.asking(self.token_url, grant_type="refresh_token", refresh_token=refresh, scope=scope)

    def next_token(self, page: Page, before: Token, now: float) -> Token | None:
        token = super().next_token(page, before, now)
        refresh = page.text_at(self.refresh_path) if self.rotates() else None
        return msgspec.structs.replace(token, refresh=refresh) if token and refresh else token

    def rotates(self) -> bool:
        return self.grant in ("refresh_token", *LOG_INS)

    def log_in(self) -> str:
        return "log in with `daykeep authorize TAP`" if self.grant in LOG_INS else super().log_in()

    def kept_as(self) -> tuple[str, ...] | None:
        """A log-in of its own for each first refresh token, so that two accounts of a client never mix."""
        if self.grant in LOG_INS:
            return (self.token_url, self.client_id, self.authorize_url or self.device_url, self.scope)
        return (self.token_url, self.client_id, self.refresh_token) if self.rotates() else None

    def secrets(self) -> tuple[str, ...]:
        assertion = self.assertion.secrets() if self.assertion else ()
        return (*super().secrets(), self._basic().removeprefix("Basic "), *assertion)

    def asking(self, url: str, **members: str) -> Private:
        """What to ask at a URL of the server, in the name of the client; members without a value are left out."""
        if self.client_auth != "basic":
            members |= {"client_id": self.client_id, "client_secret": self.client_secret}
        sent = {**{name: text for name, text in members.items() if text}, **self.params}
        request = posted(url, sent, as_json=self.client_auth == "json")
        return request.with_headers({"Authorization": self._basic()}) if self.client_auth == "basic" else request

    def _basic(self) -> str:
        pair = f"{quote(self.client_id, safe='')}:{quote(self.client_secret, safe='')}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
