"""Auth: how a request is signed just before it is sent. Options are the fields, behaviour is `flow` (see flow.py).

The kinds here are static, their flows yield once; those that fetch a token have a file of their own. What they sign
never reaches a checkpoint, a log or the STATE. The union at the end is the list of all kinds.
"""

from __future__ import annotations

import base64

from tap_rest.auth.flow import AuthKind, Placed, Secret
from tap_rest.auth.jwt import JwtAuth
from tap_rest.auth.oauth import LOG_INS, OAuth2Auth
from tap_rest.auth.session import SessionAuth
from tap_rest.auth.signing import AwsSigV4Auth, HmacAuth, OAuth1Auth
from tap_rest.request import Request


class NoAuth(AuthKind, tag="none", frozen=True, kw_only=True):
    """No credentials."""


class ApiKeyAuth(Placed, tag="api_key", frozen=True, kw_only=True):
    """A secret under a name.

    Attributes:
        key: The secret, `"{settings.api_key}"`.
    """

    key: Secret

    def signed(self, request: Request) -> Request:
        return self.placed(request, self.key)


class BasicAuth(AuthKind, tag="basic", frozen=True, kw_only=True):
    """User name and password.

    Attributes:
        username: The user name; some APIs want a key here and no password.
        password: The password.
    """

    username: str
    password: Secret = ""

    def signed(self, request: Request) -> Request:
        return request.with_headers({"Authorization": f"Basic {self._encoded()}"})

    def secrets(self) -> tuple[str, ...]:
        return (*super().secrets(), self._encoded())

    def _encoded(self) -> str:
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class BearerAuth(AuthKind, tag="bearer", frozen=True, kw_only=True):
    """A token in the `Authorization` header.

    Attributes:
        token: The token, `"{settings.token}"`.
    """

    token: Secret

    def signed(self, request: Request) -> Request:
        return request.with_headers({"Authorization": f"Bearer {self.token}"})


Single = (
    NoAuth
    | ApiKeyAuth
    | BasicAuth
    | BearerAuth
    | OAuth2Auth
    | SessionAuth
    | JwtAuth
    | HmacAuth
    | OAuth1Auth
    | AwsSigV4Auth
)


class PoolAuth(AuthKind, tag="pool", frozen=True, kw_only=True):
    """Several credentials side by side, of which the one with the most left of its quota signs the next request.

    Limits hold for each of them. One that is refused is left out for the rest of the run.

    Attributes:
        of: Auth whose settings have several values, separated by commas, for as many credentials; a setting with one
            value is for all. Or a list of auths.
    """

    of: Single | list[Single]

    def __post_init__(self) -> None:
        if not self.members() or any(self.members().count(one) > 1 for one in self.members()):
            raise ValueError("a pool has at least one credential, and none of them twice")
        if any(isinstance(one, OAuth2Auth) and one.grant in LOG_INS for one in self.members()):
            raise ValueError("a pool has no grant that needs a person")

    def members(self) -> list[Single]:
        """The credentials, once settings are put in."""
        return self.of if isinstance(self.of, list) else [self.of]

    def signed(self, request: Request) -> Request:
        return self.members()[0].signed(request)

    def stripped(self, request: Request) -> Request:
        for one in self.members():
            request = one.stripped(request)
        return request

    def secrets(self) -> tuple[str, ...]:
        return tuple(secret for one in self.members() for secret in one.secrets())


Auth = Single | PoolAuth
