"""Sessions: a log-in request whose answer holds a token, as APIs have them that know no OAuth."""

from __future__ import annotations

from typing import Literal

from tap_rest.auth.flow import Fetched, Token, checked_token_url, posted
from tap_rest.auth.jwt import Assertion
from tap_rest.redaction import is_secret_name
from tap_rest.request import Private


class SessionAuth(Fetched, tag="session", frozen=True, kw_only=True):
    """A token from a log-in request; a new log-in follows when it ends, and once when a request is refused.

    Attributes:
        login_url: Where to log in.
        method: POST, or GET with the members of `body` as query parameters.
        body: What is sent, user name and password for example.
        encoding: How a POST sends it: as `json` or as a `form`.
        headers: Headers of the log-in request.
        assertion: Signed claims, for log-in requests that want them as bearer token.
    """

    login_url: str
    method: Literal["GET", "POST"] = "POST"
    body: dict[str, str] = {}
    encoding: Literal["json", "form"] = "json"
    headers: dict[str, str] = {}
    assertion: Assertion | None = None

    def __post_init__(self) -> None:
        checked_token_url(self.login_url)

    def token_request(self, before: Token, now: float) -> Private:  # noqa: ARG002 - a log-in needs no former one
        if self.method == "GET":
            request = Private(self.login_url, params=tuple(self.body.items()))
        else:
            request = posted(self.login_url, self.body, as_json=self.encoding == "json")
        if self.assertion is not None:
            request = request.with_headers({"Authorization": f"Bearer {self.assertion.token(now)}"})
        return request.with_headers(self.headers)

    def secrets(self) -> tuple[str, ...]:
        named = (text for name, text in (*self.body.items(), *self.headers.items()) if is_secret_name(name))
        return (*named, *(self.assertion.secrets() if self.assertion else ()))
